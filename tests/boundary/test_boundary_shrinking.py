"""Radii that shrink: ever nearer witnesses, also where walks along the boundary stop short."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import direct_boundary
from levelset.attacks._search._ball import Ball
from levelset.attacks._search._problem import Problem
from levelset.boundary._shrinking import shrinking_pgd, shrinking_square


class Staircase(nn.Module):
    """Logits of a linear model whose gradients point away from its own boundary."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(36, 2, generator=torch.Generator().manual_seed(3))
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, points: Tensor) -> Tensor:
        flat = points.flatten(1)
        return (flat.detach() + 1e-3 * (flat.detach() - flat)) @ self.weight


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 4)
    return settled(nn.Sequential(*layers), seed=11)


@pytest.fixture
def points(noise: Callable[..., Tensor]) -> Tensor:
    return noise(20, 1, 6, 6).float().sigmoid()


@pytest.mark.slow
@pytest.mark.parametrize("attack", [shrinking_pgd, shrinking_square])
def test_witnesses_come_nearer_and_never_farther(
    network: nn.Module, points: Tensor, attack: Callable[..., object]
) -> None:
    labels = network(points).argmax(1)
    first = direct_boundary(network, points, labels, norm=math.inf, steps=4, rivals=0)
    # Twice as far as need be: there is much to be gained.
    starts = (points + 2.0 * (first.points - points)).clamp(0, 1)
    rows = network(starts).argmax(1) != labels
    assert rows.sum() > 12
    points, labels, starts = points[rows], labels[rows], starts[rows]
    made = attack(network, points, labels, starts=starts, norm=math.inf)
    length = (starts - points).flatten(1).norm(p=math.inf, dim=1)
    assert made.success.all()
    assert (made.distance <= length).all()
    assert (made.distance < 0.8 * length).double().mean() > 0.8
    assert (network(made.points).argmax(1) != labels).all()
    moved = (made.points - points).flatten(1).norm(p=math.inf, dim=1)
    torch.testing.assert_close(moved, made.distance)


@pytest.mark.slow
def test_windows_find_what_misleading_gradients_hide(points: Tensor) -> None:
    model = Staircase()
    labels = model(points).argmax(1)
    gap = (model(points)[:, 0] - model(points)[:, 1]).abs()
    exact = gap / (model.weight[:, 0] - model.weight[:, 1]).abs().sum()
    options = {"norm": math.inf, "bounds": (-5.0, 6.0)}
    walked = direct_boundary(model, points, labels, **options).distance
    # Half as far again along the way that a search would have to find.
    sign = (model.weight[:, 0] - model.weight[:, 1]).sign() * (1 - 2 * (labels == 0).float())[
        :, None
    ]
    half = torch.rand(20, 36, generator=torch.Generator().manual_seed(1)) < 0.75
    step = torch.where(half, sign, -sign) * (3.0 * exact)[:, None]
    starts = points + step.view_as(points)
    made = shrinking_square(model, points, labels, starts=starts, **options)
    assert (made.distance >= exact * (1 - 1e-4)).all()
    assert (made.distance < 1.8 * exact).double().mean() > 0.8
    assert (walked > 1.8 * exact).all()


def test_without_a_witness_the_box_is_the_limit(network: nn.Module, points: Tensor) -> None:
    assert shrinking_pgd(network, points, norm=math.inf).success.double().mean() > 0.8
    nowhere = shrinking_pgd(network, points, norm=math.inf, bounds=(-math.inf, math.inf))
    assert not nowhere.success.any()


def test_a_ball_may_have_a_radius_a_point(network: nn.Module, points: Tensor) -> None:
    problem = Problem("test", network, points, None, norm=math.inf)
    radii = torch.linspace(0.01, 0.5, 20)
    ball, rows = Ball(problem, radii), torch.tensor([3, 19, 0])
    there = ball.project(rows, points[rows] + 1.0)
    moved = (there - points[rows]).flatten(1).norm(p=math.inf, dim=1)
    assert (moved <= radii[rows]).all()
    assert ball.within(rows, moved).all()
    expected = torch.minimum(points[rows] + radii[rows].view(-1, 1, 1, 1), torch.tensor(1.0))
    torch.testing.assert_close(there, expected)
    ball.shrink(rows[:1], torch.tensor([0.001]))
    there = ball.project(rows, points[rows] - 1.0)
    moved = (there - points[rows]).flatten(1).norm(p=math.inf, dim=1)
    assert moved[0] <= 0.001
    assert moved[1] > 0.1
    assert ball.radii is not radii
