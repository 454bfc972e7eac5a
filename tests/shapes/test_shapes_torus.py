"""The torus."""

import math

import pytest
import torch

from levelset.errors import ParameterError
from levelset.shapes import Torus


def surface(shape: Torus, steps: int = 250) -> torch.Tensor:
    turn = torch.arange(steps, dtype=torch.float64) * (2 * math.pi / steps)
    around, across = torch.meshgrid(turn, turn, indexing="ij")
    ring = shape.major + shape.minor * across.cos()
    xyz = ring * around.cos(), ring * around.sin(), shape.minor * across.sin()
    return torch.stack(xyz, -1).flatten(0, 1)


@pytest.mark.parametrize(("major", "minor"), [(1.0, 0.25), (1.0, 0.9)])
def test_nearest_points_against_a_dense_sample(check_nearest, cloud, major, minor):
    shape = Torus(major, minor)
    check_nearest(shape, cloud, surface(shape), width=0.05)


def test_the_distance_is_signed_and_its_gradient_has_length_one(noise, slope):
    shape, points = Torus(1.0, 0.3), noise(100, 3)
    assert (slope(shape, points).norm(dim=2) - 1.0).abs().max() < 1e-13
    inside = surface(Torus(1.0, 0.2), 40)
    assert (shape(inside) + 0.1).abs().max() < 1e-14
    assert shape.contains(inside).all()
    assert not shape.contains(surface(Torus(1.0, 0.4), 40)).any()
    assert torch.equal(shape.contains(points), shape(points) <= 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_on_the_axis_and_on_the_inner_circle_have_some_nearest_point(dtype):
    shape = Torus(1.0, 0.25)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    points = points.to(dtype)
    nearest = shape.project(points)
    eps = 4 * torch.finfo(dtype).eps
    assert nearest.dtype == dtype
    assert shape(nearest).abs().max() <= eps
    expected = torch.tensor([0.75, math.sqrt(5.0) - 0.25, 0.25, 0.25], dtype=dtype)
    assert ((nearest - points).norm(dim=1) - expected).abs().max() <= eps
    assert (shape.distance(points) - expected).abs().max() <= eps


def test_the_area_is_that_of_the_mesh_in_the_limit():
    shape = Torus(1.0, 0.4)
    grid = surface(shape, 200).view(200, 200, 3)
    along, across = grid.roll(-1, 0) - grid, grid.roll(-1, 1) - grid
    assert torch.linalg.cross(along, across).norm(dim=2).sum().item() == pytest.approx(
        shape.area(), rel=1e-3
    )


@pytest.mark.parametrize("minor", [1.0, 2.0])
def test_the_tube_must_leave_a_hole(minor):
    with pytest.raises(
        ParameterError, match=rf"Torus: `major` must exceed `minor`, got 1\.0 and {minor}\."
    ):
        Torus(1.0, minor)


def test_the_tube_must_be_positive():
    with pytest.raises(ParameterError, match=r"Torus: `minor` must be positive, got 0\.0\."):
        Torus(1.0, 0.0)
