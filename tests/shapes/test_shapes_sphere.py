"""Spheres."""

import math

import pytest
import torch

from levelset.errors import ParameterError
from levelset.shapes import Sphere


@pytest.mark.parametrize("center", [None, (0.3, -0.2, 0.5)])
def test_nearest_points_against_a_dense_sample(noise, check_nearest, cloud, center):
    shape = Sphere(0.8, center)
    unit = noise(40_000, 3, seed=3)
    surface = 0.8 * unit / unit.norm(dim=1, keepdim=True)
    surface = surface + torch.tensor(center or (0.0, 0.0, 0.0), dtype=torch.float64)
    check_nearest(shape, cloud, surface, width=0.05)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_the_distance_is_signed_and_its_gradient_has_length_one(noise, slope, d):
    shape, points = Sphere(2.0), noise(30, d)
    assert torch.allclose(shape(points), points.norm(dim=1) - 2.0)
    assert (slope(shape, points).norm(dim=2) - 1.0).abs().max() < 1e-14
    assert torch.equal(shape.contains(points), points.norm(dim=1) <= 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_centre_has_some_nearest_point(slope, dtype):
    shape = Sphere(1.5, (1.0, 2.0))
    centre = torch.tensor([[1.0, 2.0]], dtype=dtype)
    nearest = shape.project(centre)
    assert nearest.dtype == dtype
    assert (nearest - centre).norm().item() == pytest.approx(1.5)
    assert shape.distance(centre).item() == 1.5
    assert slope(shape, centre).abs().max() == 0.0
    assert shape.contains(centre).item()


def test_tiny_and_huge_arms_keep_their_direction():
    points = torch.tensor([[1e-30, 0.0], [0.0, -1e30], [-1e-18, -1e-18]])
    found = Sphere(1.0).project(points.double())
    half = math.sqrt(0.5)
    expected = torch.tensor([[1.0, 0.0], [0.0, -1.0], [-half, -half]], dtype=torch.float64)
    assert torch.allclose(found[[0, 2]], expected[[0, 2]])
    assert torch.allclose(Sphere(1.0).project(points.double() / 1e15)[1], expected[1])


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
def test_the_radius_must_be_positive(radius):
    with pytest.raises(ParameterError, match=rf"Sphere: `radius` must be positive, got {radius}\."):
        Sphere(radius)
