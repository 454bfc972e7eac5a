"""Exact distances to a mesh, against every face tried."""

import time

import numpy as np
import pytest
import torch

from levelset.errors import DataError, ShapeError
from levelset.reconstruction import Mesh, extract_mesh, sample_surface
from levelset.reconstruction._meshes import _point_to_mesh as module
from levelset.reconstruction._meshes._point_to_mesh import distance_to_mesh
from levelset.shapes import Sphere, Torus


def brute_force(points, mesh):
    """Try every face, its sides and its corners, by least squares."""
    best = np.full(len(points), np.inf)
    p = points.double().numpy()
    for corners in mesh.vertices[mesh.faces].numpy():
        for corner in corners:
            best = np.minimum(best, np.linalg.norm(p - corner, axis=1))
        for a, b in ((0, 1), (1, 2), (2, 0)):
            best = np.minimum(best, to_flat(p, corners[a], (corners[b] - corners[a])[:, None]))
        sides = np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=1)
        best = np.minimum(best, to_flat(p, corners[0], sides))
    return torch.from_numpy(best)


def to_flat(p, origin, sides):
    """Return the distance to the simplex where the foot is inside it, else infinity."""
    if np.linalg.matrix_rank(sides) < sides.shape[1]:
        return np.full(len(p), np.inf)
    shares = np.linalg.lstsq(sides, (p - origin).T, rcond=None)[0]
    inside = (shares >= 0).all(0) & (shares.sum(0) <= 1)
    away = np.linalg.norm(p - origin - (sides @ shares).T, axis=1)
    return np.where(inside, away, np.inf)


@pytest.mark.parametrize("faces", [1, 2, 4, 5, 17, 63])
@pytest.mark.parametrize("spread", [0.01, 1.0])
def test_distances_are_those_of_trying_every_face(noise, faces, spread):
    middles = noise(faces, 1, 3)
    corners = (middles + spread * noise(faces, 3, 3, seed=1)).view(-1, 3)
    mesh = Mesh(corners, torch.arange(3 * faces).view(-1, 3))
    points = torch.cat([1.5 * noise(60, 3, seed=2), corners[:20], 30 * noise(10, 3, seed=3)])
    distance, face = distance_to_mesh(points, mesh)
    expected = brute_force(points, mesh)
    assert float((distance - expected).abs().max()) < 1e-12
    for row in range(0, len(points), 7):
        alone = Mesh(corners, mesh.faces[face[row]][None])
        own = brute_force(points[row : row + 1], alone)
        assert float(own[0]) == pytest.approx(float(expected[row]), abs=1e-12)


def test_faces_without_area_and_needles_are_measured(noise):
    corners = torch.tensor([
        [0.0, 0, 0], [1, 0, 0], [2, 0, 0],  # on a line
        [5, 5, 5], [5, 5, 5], [5, 5, 5],  # a point
        [0, 3, 0], [1e3, 3, 0], [1e3, 3 + 1e-6, 0],  # a needle
    ]).double()  # fmt: skip
    mesh = Mesh(corners, torch.arange(9).view(3, 3))
    points = 4 * noise(200, 3)
    assert float((distance_to_mesh(points, mesh)[0] - brute_force(points, mesh)).abs().max()) < 1e-9


def test_a_mesh_of_a_sphere_is_at_the_distance_of_the_sphere():
    mesh = extract_mesh(Sphere(), bounds=((-1.2,) * 3, (1.2,) * 3), resolution=64)
    points = sample_surface(mesh, 2000)[0] * torch.linspace(0.3, 3, 2000)[:, None]
    distance, _ = distance_to_mesh(points, mesh)
    assert float((distance - (points.norm(dim=1) - 1).abs()).abs().max()) < 1e-3


def test_points_as_far_from_all_faces_as_from_one_take_little_memory(monkeypatch):
    monkeypatch.setattr(module, "MOST_PAIRS", 500)
    mesh = extract_mesh(Sphere(), bounds=((-1.2,) * 3, (1.2,) * 3), resolution=16)
    points = torch.zeros(40, 3)
    points[20:] = 1e-3
    distance, _ = distance_to_mesh(points, mesh)
    assert float((distance - brute_force(points, mesh)).abs().max()) < 1e-12


def test_results_follow_the_order_of_the_points(noise):
    mesh = extract_mesh(Torus(0.7, 0.2), bounds=((-1.0,) * 3, (1.0,) * 3), resolution=24)
    points = noise(5000, 3)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    distance, face = distance_to_mesh(points, mesh)
    again, _ = distance_to_mesh(points[order], mesh)
    assert torch.equal(distance[order], again)
    assert face.dtype == torch.int64
    single, _ = distance_to_mesh(points.float(), mesh)
    assert float((single - distance).abs().max()) < 1e-6


def test_no_points_have_no_distances():
    mesh = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    distance, face = distance_to_mesh(torch.zeros(0, 3), mesh)
    assert (distance.shape, face.shape) == ((0,), (0,))


def test_what_cannot_be_measured():
    mesh = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ShapeError, match=r"`points` must have the shape \(n, 3\), got \(4, 2\)"):
        distance_to_mesh(torch.zeros(4, 2), mesh)
    with pytest.raises(DataError, match="must be finite"):
        distance_to_mesh(torch.full((1, 3), torch.nan), mesh)
    with pytest.raises(DataError, match="`mesh` must have at least one face, got none"):
        distance_to_mesh(torch.zeros(1, 3), Mesh(torch.eye(3), torch.zeros(0, 3).long()))


@pytest.mark.slow
def test_two_hundred_thousand_points_of_seventy_thousand_faces_take_five_seconds(noise):
    mesh = extract_mesh(Torus(0.7, 0.25), bounds=((-1.0,) * 3, (1.0,) * 3), resolution=119)
    assert 69_000 < len(mesh.faces) < 72_000
    points = sample_surface(mesh, 200_000)[0] + 0.002 * noise(200_000, 3)
    began = time.process_time()
    distance_to_mesh(points, mesh)
    assert time.process_time() - began < 5.0
