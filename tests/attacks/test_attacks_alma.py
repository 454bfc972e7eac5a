"""The augmented Lagrangian: the penalty's derivative, the multipliers, and nearly exact answers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.norms import norm_of
from levelset.attacks import alma, ddn
from levelset.attacks._alma import _first_pace, _Multipliers, _slope
from levelset.attacks._search._problem import Problem

NO_BOUNDS = (-math.inf, math.inf)


def penalty(y: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """Return P2 of Birgin et al. as Rony et al. write it."""
    above = mu * y + mu * rho * y**2 + rho**2 * y**3 / 6
    return torch.where(y >= 0, above, mu * y / (1 - rho.clamp(min=1) * y))


def test_the_slope_is_that_of_the_penalty(noise: Callable[..., Tensor]) -> None:
    y = noise(50, seed=1).requires_grad_()
    rho, mu = noise(50, seed=2).exp(), noise(50, seed=3).exp()
    (expected,) = torch.autograd.grad(penalty(y, rho, mu).sum(), y)
    torch.testing.assert_close(_slope(y.detach(), rho, mu), expected)


def test_multipliers_rise_while_short_and_fall_once_across() -> None:
    books = _Multipliers(torch.zeros(2, dtype=torch.float64), memory=0.5)
    before = books.multiplier
    constraint = torch.tensor([0.5, -0.5], dtype=torch.float64)
    for step in range(25):
        books.follow(step, constraint, constraint < 0)
    assert books.multiplier[0] > before[0] > books.multiplier[1]
    # Stuck for two spells of ten steps.
    assert books.penalty.tolist() == pytest.approx([1.44, 1.0])


def test_the_first_step_has_its_length(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    model = settled(nn.Linear(9, 3), dtype=torch.float64)
    points, way = noise(20, 9).sigmoid(), noise(20, 9, seed=1)
    for norm in (1.0, 2.0):
        problem = Problem("test", model, points, None, norm=norm)
        wanted = torch.full((20,), 0.4, dtype=torch.float64)
        pace = _first_pace(problem, points, way, wanted)
        there = problem.clip(points - pace.unsqueeze(1) * way)
        torch.testing.assert_close(norm_of(there - points, norm), wanted, rtol=1e-6, atol=0)


def test_two_affine_classes_are_nearly_answered(noise: Callable[..., Tensor]) -> None:
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(noise(2, 6, seed=1))
        model.bias.zero_()
    points = noise(15, 6, seed=2)
    logits = model(points).detach()
    slope = (model.weight[0] - model.weight[1]).detach()
    exact = (logits[:, 0] - logits[:, 1]).abs() / slope.norm()
    found = alma(model, points, bounds=NO_BOUNDS, steps=500, memory=0.9)
    assert (found.distance >= exact * (1 - 1e-9)).all()
    # All but the input that lies nearest of all, a hundredth of a step away.
    assert (found.distance <= exact * 1.01).sum() >= 14


def test_it_comes_nearer_than_ddn(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 5)
    model = settled(nn.Sequential(*layers), seed=2, dtype=torch.float64)
    points = noise(60, 10, seed=6)
    found, other = alma(model, points, bounds=NO_BOUNDS), ddn(model, points, bounds=NO_BOUNDS)
    both = found.success & other.success
    assert both.double().mean() > 0.9
    assert found.distance[both].log().mean() < other.distance[both].log().mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_class_region_of_the_plane_keeps_an_input(settled, noise, seed) -> None:
    # The margin as a share of the spread falls for ever inside a region that reaches to infinity.
    model = settled(nn.Linear(2, 10), dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(noise(10, 2, seed=seed))
    points = noise(60, 2, seed=seed + 2)
    witnesses = alma(model, points, bounds=NO_BOUNDS)
    assert witnesses.distance.isfinite().all()
    assert (model(witnesses.points).argmax(1) != model(points).argmax(1)).all()
