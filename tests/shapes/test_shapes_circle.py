"""The circle in space."""

import math

import pytest
import torch

from levelset.errors import ParameterError
from levelset.shapes import Circle


def test_nearest_points_against_a_dense_sample(check_nearest, cloud):
    turn = torch.arange(20_000, dtype=torch.float64) * (2 * math.pi / 20_000)
    surface = torch.stack([0.7 * turn.cos(), 0.7 * turn.sin(), 0.0 * turn], 1)
    check_nearest(Circle(0.7), cloud, surface, width=1e-3)


def test_its_two_equations_have_orthonormal_gradients(noise, slope):
    jacobian = slope(Circle(0.7), noise(50, 3))
    gram = jacobian @ jacobian.transpose(1, 2)
    assert (gram - torch.eye(2, dtype=torch.float64)).abs().max() < 1e-14


def test_the_axis_has_some_nearest_point():
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -3.0]])
    nearest = Circle(4.0).project(points)
    assert Circle(4.0)(nearest).abs().max() == 0.0
    assert (nearest - points).norm(dim=1).tolist() == [4.0, 5.0]
    assert Circle(4.0).distance(points).tolist() == [4.0, 5.0]


def test_it_contains_its_own_points_only():
    points = torch.tensor([[0.6, 0.8, 0.0], [0.0, -1.0, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 1e-7]])
    assert Circle(1.0).contains(points.double()).tolist()[1:] == [True, False, False]


def test_the_radius_must_be_positive():
    with pytest.raises(ParameterError, match=r"Circle: `radius` must be positive, got -1\.0\."):
        Circle(-1.0)
