"""What of a mesh the points speak for."""

import pytest
import torch

from levelset.reconstruction import extract_mesh
from levelset.reconstruction._meshes._mesh import keep_faces, keep_near, keep_supported
from levelset.shapes import Sphere


def balls(points):
    """Two balls of radius 0.3 beside one another, and a small one above."""
    return torch.minimum(
        torch.minimum(Sphere(0.3, (-0.5, 0.0, 0.0))(points), Sphere(0.3, (0.5, 0.0, 0.0))(points)),
        Sphere(0.1, (0.0, 0.0, 0.7))(points),
    )


@pytest.fixture(scope="module")
def mesh():
    return extract_mesh(balls, bounds=((-1.0,) * 3, (1.0,) * 3), resolution=40)


def on_balls(noise, x, n, seed=0):
    way = noise(n, 3, seed=seed)
    return 0.3 * way / way.norm(dim=1, keepdim=True) + torch.tensor([x, 0.0, 0.0])


def test_pieces_that_few_points_are_near_go_and_all_others_stay(mesh, noise):
    points = torch.cat([on_balls(noise, -0.5, 1500), on_balls(noise, 0.5, 500)])
    stray = torch.tensor([[0.0, 0.0, 0.85]])
    assert mesh.components == 3
    kept = keep_supported(mesh, torch.cat([points, stray]))
    assert (kept.components, kept.watertight) == (2, True)
    assert kept.area == pytest.approx(2 * 4 * torch.pi * 0.09, rel=0.01)
    assert float((kept.normals.norm(dim=1) - 1).abs().max()) < 1e-12
    assert len(kept.vertices) == len(kept.faces.unique())
    # three in a thousand are enough
    assert keep_supported(mesh, torch.cat([points, *[stray] * 6])).components == 3


def test_a_piece_alone_stays_whatever_the_points(mesh, noise):
    alone = keep_supported(mesh, on_balls(noise, 0.5, 100))
    assert alone.components == 1
    assert keep_supported(alone, torch.full((5, 3), 9.0)) is alone
    assert keep_supported(mesh, torch.zeros(0, 3)) is mesh


def test_faces_far_from_every_point_go(mesh, noise):
    points = on_balls(noise, -0.5, 4000)
    points = points[points[:, 2] < 0.0]
    kept = keep_near(mesh, points, 0.06)
    assert (kept.components, kept.watertight) == (1, False)
    assert float(kept.vertices[:, 2].max()) < 0.06
    assert float(torch.cdist(kept.vertices, points).amin(1).max()) <= 0.06
    # what is gone had a corner farther away
    gone = torch.cdist(mesh.vertices, points).amin(1)[mesh.faces].amax(1) > 0.06
    assert len(kept.faces) == int((~gone).sum())


def test_faces_kept_keep_their_corners_and_their_sense(mesh):
    mask = torch.zeros(len(mesh.faces), dtype=torch.bool)
    mask[5:9] = True
    kept = keep_faces(mesh, mask)
    assert torch.equal(kept.vertices[kept.faces], mesh.vertices[mesh.faces[5:9]])
    assert torch.equal(kept.normals[kept.faces], mesh.normals[mesh.faces[5:9]])
    assert len(keep_faces(mesh, torch.zeros_like(mask)).faces) == 0
