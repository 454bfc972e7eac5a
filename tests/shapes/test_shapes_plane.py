"""Planes."""

import pytest
import torch

from levelset.errors import ParameterError
from levelset.shapes import Plane


def test_signed_distance_and_foot_of_a_known_plane():
    plane = Plane((0.0, 3.0, 4.0), 10.0)
    points = torch.tensor([[1.0, 3.0, 4.0], [0.0, 0.0, 0.0], [5.0, 2.0, 1.0]])
    assert torch.allclose(plane(points), torch.tensor([3.0, -2.0, 0.0]))
    assert torch.allclose(plane.distance(points), torch.tensor([3.0, 2.0, 0.0]))
    assert torch.allclose(plane.project(points)[1], torch.tensor([0.0, 1.2, 1.6]))
    assert plane.contains(points).tolist() == [False, True, True]


@pytest.mark.parametrize("d", [1, 2, 3, 20])
def test_the_foot_is_the_least_squares_solution(noise, d):
    normal = noise(d, seed=1)
    plane, points = Plane(tuple(normal.tolist()), 0.7), noise(50, d)
    rest = (points @ normal - 0.7).unsqueeze(1)
    step = torch.linalg.lstsq(
        normal.unsqueeze(0).expand(50, 1, d), rest.unsqueeze(2), driver="gelsd"
    )
    assert (plane.project(points) - (points - step.solution.squeeze(2))).abs().max() < 1e-13
    assert plane(plane.project(points)).abs().max() < 1e-13


def test_the_gradient_is_the_unit_normal(noise, slope):
    plane = Plane((2.0, -1.0, 2.0), 5.0)
    expected = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3.0
    assert (slope(plane, noise(5, 3)).squeeze(1) - expected).abs().max() < 1e-15


def test_the_length_of_the_normal_does_not_matter(noise):
    points = noise(10, 2)
    one, other = Plane((1.0, 2.0), 0.5), Plane((100.0, 200.0), 50.0)
    assert torch.allclose(one(points), other(points), atol=1e-15)
    assert torch.allclose(one.project(points), other.project(points), atol=1e-15)


def test_a_plane_needs_a_direction():
    with pytest.raises(
        ParameterError, match=r"Plane: `normal` must not vanish, got \(0\.0, 0\.0\)"
    ):
        Plane((0.0, 0.0))
