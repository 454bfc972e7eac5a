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


def brute_force(wedge: Wedge, points: torch.Tensor) -> torch.Tensor:
    """Return distances from the boundary: the nearest of the feet on every set of planes."""
    normals = wedge._normals(points)
    best = torch.full((len(points),), torch.inf, dtype=torch.float64)
    for chosen in range(1, 2 ** len(normals)):
        rows = normals[[bool(chosen >> i & 1) for i in range(len(normals))]]
        foot = points - points @ rows.T @ torch.linalg.pinv(rows).T
        within = (foot @ normals.T >= -1e-12).all(1)
        best = torch.where(within, torch.minimum(best, (foot - points).norm(dim=1)), best)
    return best


@pytest.mark.slow
def test_ten_thousand_projections_are_the_nearest_of_all_faces():
    generator = torch.Generator().manual_seed(0)
    for k in (2, 3, 4, 5):
        angles = tuple((3.0 * torch.rand(k - 1, generator=generator) - 1.5).tolist())
        wedge = Wedge(angles, k + 1)
        points = 2 * torch.randn(2_500, k + 1, generator=generator, dtype=torch.float64)
        assert (wedge.distance(points) - brute_force(wedge, points)).abs().max() <= 1e-9


@pytest.mark.parametrize("angles", [(0.6,), (-0.6, 0.3), (0.0, 0.0, 1.2)])
def test_the_centerline_halves_every_angle_and_enters_at_the_apex(angles):
    wedge = Wedge(angles, 6)
    line = wedge.centerline(torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64))
    assert wedge.contains(line).tolist() == [False, False, True, True]
    heights = wedge._heights(line[2:])
    assert torch.allclose(heights, line[2:, :1].expand_as(heights))
    ends = wedge.crossings(line[:1], line[-1:])
    assert ends.tolist() == [pytest.approx([0.5, 1.0])]


def test_a_parallel_crosses_where_the_first_plane_meets_it():
    wedge = Wedge((0.6, 0.3, -0.4), 5)
    line = wedge.parallel(torch.tensor([-1.0, 3.0], dtype=torch.float64), offset=0.5)
    enter, leave = wedge.crossings(line[:1], line[1:])[0].tolist()
    assert -1 + 4 * enter == pytest.approx(0.0, abs=1e-12)
    assert -1 + 4 * leave == pytest.approx(0.5 / math.tan(0.6))
    assert wedge.crossings(line[:1] - 9, line[1:] - 9).isnan().all()


def test_crossings_are_where_dense_samples_change_side():
    wedge, start, end = Wedge((0.7, -0.5), 4), cloud(4, 100), cloud(4, 200)[100:]
    share = torch.linspace(0, 1, 4_001, dtype=torch.float64)
    dense = start.unsqueeze(1) + share.reshape(1, -1, 1) * (end - start).unsqueeze(1)
    inside = wedge.contains(dense.reshape(-1, 4)).reshape(100, -1)
    enter, leave = wedge.crossings(start, end).unbind(1)
    length = torch.where(enter.isnan(), 0.0, leave - enter)
    assert (inside.double().mean(1) - length).abs().max() < 1e-3


def test_stability_and_persistence_against_closed_forms():
    points = torch.ones(1, 4, dtype=torch.float64)
    straight, orthant = Wedge((0.0, 0.0, 0.0), 4), Orthant(4, 4)
    assert float(straight.stability(points, sigma=0.7)) == pytest.approx(
        orthant.stability(1.0, 0.7), abs=1e-12
    )
    assert float(straight.persistence(points, gamma=0.7)) == pytest.approx(
        orthant.persistence(1.0, 0.7), rel=1e-9
    )
    for angle in (-1.2, 0.4, 1.3):  # at the apex the share is that of the angle
        apex = torch.zeros(1, 2, dtype=torch.float64)
        share = float(Wedge((angle,), 2).stability(apex, sigma=1.0))
        assert share == pytest.approx((math.pi / 2 - angle) / (2 * math.pi), abs=1e-9)
    outside = Wedge((0.4,), 2).centerline(torch.tensor([-1.0], dtype=torch.float64))
    assert float(Wedge((0.4,), 2).persistence(outside, gamma=0.7)) == math.inf


@pytest.mark.messages
def test_shares_and_noise_out_of_range_are_refused():
    points = torch.ones(1, 2)
    with pytest.raises(ParameterError, match="`gamma` must lie between 0 and 1, both excluded"):
        Wedge((0.1,), 2).persistence(points, gamma=1.0)
    with pytest.raises(ParameterError, match="`sigma` must be positive, got 0"):
        Wedge((0.1,), 2).stability(points, sigma=0.0)
