"""Wedges: membership as defined, projection against orthants and against optimality."""

import math

import pytest
import torch

from levelset.errors import ParameterError, ShapeError
from levelset.shapes import Orthant, Wedge


def cloud(d: int, n: int = 300) -> torch.Tensor:
    return 2 * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_membership_is_definition_30_8():
    points, angles = cloud(4), (0.5, -0.7)
    inside = points[:, 0] > 0
    for i, angle in enumerate(angles, start=1):
        inside = inside & (points[:, i] > points[:, 0] * math.tan(angle))
    assert torch.equal(Wedge(angles, 4).contains(points), inside)
    assert torch.equal(Wedge(angles, 4)(points) < 0, inside)


def test_with_right_angles_it_is_the_orthant():
    points = cloud(5)
    wedge, orthant = Wedge((0.0, 0.0), 5), Orthant(3, 5)
    assert torch.equal(wedge.contains(points), orthant.contains(points))
    assert torch.allclose(wedge.distance(points), orthant.distance(points))
    assert torch.allclose(wedge.project(points), orthant.project(points), atol=1e-12)


@pytest.mark.parametrize("angles", [(0.6,), (-0.6,), (0.9, 0.4, -1.0)])
def test_projection_is_on_the_boundary_and_none_is_nearer(angles):
    wedge, points = Wedge(angles, 5), cloud(5, 80)
    foot = wedge.project(points)
    assert torch.allclose(wedge(foot), torch.zeros(80, dtype=torch.float64), atol=1e-10)
    distance = wedge.distance(points)
    inside = wedge.contains(points)
    assert torch.allclose(distance[inside], -wedge(points)[inside])
    assert (distance[~inside] >= wedge(points)[~inside] - 1e-12).all()
    others = wedge.project(foot + 0.5 * cloud(5, 80).flip(0))
    assert ((others - points).norm(dim=1) >= distance - 1e-10).all()


def test_one_angle_in_the_plane_is_a_sector():
    """Between the second axis and the line of the angle: pi/2 - theta wide."""
    turn = torch.linspace(-math.pi, math.pi, 10_001, dtype=torch.float64)
    circle = torch.stack([turn.cos(), turn.sin()], dim=1)
    for angle in (-0.8, 0.0, 1.1):
        share = float(Wedge((angle,), 2).contains(circle).double().mean())
        assert share == pytest.approx((math.pi / 2 - angle) / (2 * math.pi), abs=3e-4)


@pytest.mark.messages
def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ParameterError, match="`angles` must lie between -pi/2 and pi/2"):
        Wedge((2.0,), 3)
    with pytest.raises(ParameterError, match="`d` must be at least 3, one more than the angles"):
        Wedge((0.1, 0.1), 2)
    with pytest.raises(ShapeError, match=r"must have the shape \(n, 2\), got \(4, 3\)"):
        Wedge((0.1,), 2)(torch.ones(4, 3))
