"""Normals point outward on shapes whose normals are known, whatever the noise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset.datasets import read_points
from levelset.reconstruction._cloud import Cloud
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._meshes._sampling import sample_surface
from levelset.reconstruction._orientation import UNSURE
from levelset.reconstruction._orientation import orient as orient_cloud


def orient(points: Tensor, normals: Tensor | None = None) -> SimpleNamespace:
    """Return normals and the rest as tensors."""
    directions = None if normals is None else normals.double().numpy()
    rows, centre = np.arange(len(points)), torch.zeros(3)
    ones = np.ones(len(points), dtype=np.int64)
    cloud = Cloud(points.double().numpy(), directions, ones, rows, centre, 1.0, 0, ())
    oriented = orient_cloud(cloud)
    arrays = {name: torch.from_numpy(getattr(oriented, name)) for name in
              ("normals", "confidence", "spacing", "outlier")}  # fmt: skip
    return SimpleNamespace(**arrays, noise=oriented.noise, unsure=oriented.unsure)


def sphere(count: int, noise: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    normals = torch.nn.functional.normalize(normals, dim=1)
    added = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return 0.95 * normals + noise * added, normals


def torus(count: int, radius: float, noise: float) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, 2 * np.pi, (2, 3 * count))
    inside = rng.random(3 * count) < (0.7 + radius * np.cos(v)) / (0.7 + radius)
    u, v = u[inside][:count], v[inside][:count]
    ring = 0.7 + radius * np.cos(v)
    normals = np.c_[np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)]
    places = np.c_[ring * np.cos(u), ring * np.sin(u), radius * np.sin(v)]
    return torch.from_numpy(places + noise * rng.standard_normal(places.shape)), torch.from_numpy(
        normals
    )


def wrong(normals: Tensor, truth: Tensor) -> float:
    return float(((normals * truth).sum(1) <= 0.0).double().mean())


@pytest.mark.parametrize(
    ("count", "radius", "noise", "share"),
    [(2_500, 0.25, 0.002, 0.0), (2_500, 0.25, 0.02, 0.005), (2_500, 0.06, 0.005, 0.0),
     (1_500, 0.25, 0.002, 0.0)],
)  # fmt: skip
def test_a_torus_is_turned_outward(count, radius, noise, share):
    points, normals = torus(count, radius, noise)
    oriented = orient(points)
    torch.testing.assert_close(oriented.normals.norm(dim=1), torch.ones(count, dtype=torch.float64))
    assert wrong(oriented.normals, normals) <= share
    assert oriented.noise == pytest.approx(noise, rel=0.15)
    assert oriented.unsure < 0.02
    assert float(oriented.outlier.double().mean()) < 0.01


def test_three_percent_of_outliers_turn_nothing():
    points, normals = torus(3_000, 0.25, 0.002)
    low, high = points.amin(0), points.amax(0)
    drawn = torch.rand(90, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points[:90] = low + (high - low) * drawn
    oriented = orient(points)
    assert wrong(oriented.normals[90:], normals[90:]) == 0.0
    assert oriented.outlier[:90].double().mean() > 0.85
    assert oriented.normals.isfinite().all()


def test_doubtful_points_have_little_confidence():
    """A plate as thick as five noises: of many points the face cannot be told."""
    generator = torch.Generator().manual_seed(0)
    flat = 1.6 * torch.rand(2_500, 2, generator=generator, dtype=torch.float64) - 0.8
    side = (torch.arange(2_500) % 2).double()
    height = 0.06 * side + 0.012 * torch.randn(2_500, generator=generator, dtype=torch.float64)
    points = torch.cat([flat, height[:, None]], 1)
    doubtful = orient(points)
    clear, _ = sphere(1_000, 0.002)
    assert doubtful.unsure > 10.0 * orient(clear).unsure + 0.1
    inliers = ~doubtful.outlier
    assert doubtful.unsure == pytest.approx(
        float((doubtful.confidence[inliers] < UNSURE).double().mean())
    )


def test_separate_objects_and_cavities():
    outer, normals = sphere(1_500, 0.001)
    inner, reverse = sphere(500, 0.002, seed=1)
    points = torch.cat([0.5 * outer, 0.25 * inner, 0.3 * inner + 0.9])
    truth = torch.cat([normals, -reverse, reverse])
    assert wrong(orient(points).normals, truth) == 0.0


def test_a_scan_from_one_side_looks_at_the_viewer():
    points, normals = sphere(4_000, 0.002)
    seen = points[:, 2] > 0.2
    assert wrong(orient(points[seen]).normals, normals[seen]) == 0.0


def test_the_order_of_the_points_does_not_matter():
    points, _ = sphere(1_000, 0.005)
    order = torch.randperm(1_000, generator=torch.Generator().manual_seed(0))
    moved = orient(points[order])
    assert (orient(points).normals[order] * moved.normals).sum(1).min() > 0.9


def test_given_normals_are_used_as_they_are():
    points, normals = sphere(500, 0.01)
    oriented = orient(points, normals=normals)
    torch.testing.assert_close(oriented.normals, normals)
    assert (oriented.confidence == 1.0).all()
    assert oriented.unsure == 0.0
    assert oriented.noise == pytest.approx(0.01, rel=0.3)


def test_nothing_is_drawn_and_nothing_is_touched():
    points, _ = sphere(300, 0.01)
    before, state = points.clone(), torch.get_rng_state()
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002 - the global one
    first, second = orient(points), orient(points.float())
    torch.testing.assert_close(points, before, rtol=0.0, atol=0.0)
    assert torch.equal(state, torch.get_rng_state())
    assert (numbers == np.random.get_state()[1]).all()  # noqa: NPY002 - the global one
    assert first.normals.dtype == second.normals.dtype == torch.float64
    assert (first.normals * second.normals).sum(1).min() > 0.99
    torch.testing.assert_close(orient(points).normals, first.normals, rtol=0.0, atol=0.0)


def test_fifty_points_are_enough():
    points, normals = sphere(50)
    oriented = orient(points)
    assert wrong(oriented.normals, normals) < 0.1


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["stanford-bunny", "rocker-arm", "fandisk", "spot"])
def test_raw_scans_are_turned_outward(name, levelset_data):
    """60,000 raw points each, of a part of the surface."""
    pytest.importorskip("trimesh")
    mesh = Mesh.read(levelset_data / "meshes" / f"{name}.ply")
    points = read_points(levelset_data / "meshes" / f"{name}-scan.ply").points
    oriented = orient(points)
    inliers = ~oriented.outlier
    assert wrong(oriented.normals[inliers], normals_of(mesh, points)[inliers]) < 0.001
    assert oriented.noise == pytest.approx(0.0014, rel=0.15)
    assert oriented.unsure < 0.002
    assert float(oriented.outlier.double().mean()) < 0.01


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "noise", "share"),
    [("stanford-bunny", 30_000, 0.01, 0.005), ("rocker-arm", 2_000, 0.002, 0.005),
     ("fandisk", 30_000, 0.02, 0.005), ("spot", 30_000, 0.02, 0.005)],
)  # fmt: skip
def test_where_a_spanning_tree_fails_normals_point_outward(
    name, count, noise, share, levelset_data
):
    pytest.importorskip("trimesh")
    mesh = Mesh.read(levelset_data / "meshes" / f"{name}.ply")
    points, _ = sample_surface(mesh, count)
    generator = torch.Generator().manual_seed(1)
    points = points + noise * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    oriented = orient(points)
    inliers = ~oriented.outlier
    assert wrong(oriented.normals[inliers], normals_of(mesh, points)[inliers]) < share


def normals_of(mesh: Mesh, points: Tensor) -> Tensor:
    """Return the normals of the faces nearest to points, by a dense sample of the faces."""
    sample, faces = sample_surface(mesh, 400_000)
    corners = mesh.vertices[mesh.faces[faces]]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    _, nearest = cKDTree(sample.numpy()).query(points.numpy())
    return normals[torch.from_numpy(nearest)]
