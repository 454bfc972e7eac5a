"""The adaptive step: what it does on a loss whose course is known."""

import math

import torch
from torch import nn

from levelset.attacks._pgd import AutoStep
from levelset.attacks._search._ball import Ball
from levelset.attacks._search._problem import Problem


def rule(norm: float, steps: int, n: int = 1, e: int = 100) -> AutoStep:
    points = torch.zeros(n, e, dtype=torch.float64)
    problem = Problem(
        "test", nn.Linear(e, 2).double(), points, None, norm=norm, bounds=(-math.inf, math.inf)
    )
    return AutoStep(Ball(problem, 1.0), steps)


def test_a_loss_that_rises_keeps_its_step() -> None:
    auto = rule(math.inf, 100)
    rows, here = torch.tensor([0]), torch.zeros(1, 100, dtype=torch.float64)
    for step in range(100):
        here = auto(rows, here, torch.tensor([float(step)]).double(), torch.ones_like(here))
    assert auto.size.tolist() == [2.0]
    assert (here == 1.0).all()


def test_a_loss_that_stands_still_halves_it_at_every_check() -> None:
    """Checks at 22, 41, 57, 70, 80, 87, 93, 99 of 100 steps (Croce & Hein 2020, section 3)."""
    auto = rule(2.0, 100)
    rows, here = torch.tensor([0]), torch.zeros(1, 100, dtype=torch.float64)
    gradient, halvings = torch.ones_like(here), []
    for step in range(100):
        before = float(auto.size[0])
        here = auto(rows, here, torch.zeros(1).double(), gradient)
        if float(auto.size[0]) < before:
            halvings.append(step)
    assert halvings == [22, 41, 57, 70, 80, 87, 93, 99]
    assert auto.size.tolist() == [2.0 * 0.5 ** len(halvings)]


def test_a_halved_step_goes_on_from_the_best_point() -> None:
    auto = rule(math.inf, 10, e=3)
    rows, gradient = torch.tensor([0]), torch.tensor([[1.0, -1.0, 1.0]]).double()
    here = torch.zeros(1, 3, dtype=torch.float64)
    best = torch.full((1, 3), 0.25, dtype=torch.float64)
    auto(rows, best, torch.tensor([5.0]).double(), gradient)
    auto(rows, here, torch.tensor([1.0]).double(), -gradient)
    there = auto(rows, here, torch.tensor([0.0]).double(), -gradient)
    assert auto.size.tolist() == [1.0]
    # One step of half the length from the best point along its own gradient, with inertia.
    full = (best + gradient).clamp(-1.0, 1.0)
    expected = best + 0.75 * (full - best) + 0.25 * (best - here)
    torch.testing.assert_close(there, expected.clamp(-1.0, 1.0))


def test_rows_keep_their_own_memory() -> None:
    auto = rule(2.0, 100, n=3)
    here = torch.zeros(3, 100, dtype=torch.float64)
    rows = torch.arange(3)
    for step in range(30):
        loss = torch.tensor([0.0, 0.0, float(step)]).double()
        if step == 10:
            rows, here = rows[[0, 2]], here[[0, 2]]
        part = loss[rows]
        here = auto(rows, here, part, torch.ones_like(here))
    assert auto.size.tolist() == [1.0, 2.0, 2.0]


def test_a_sparse_step_follows_the_best_points_support() -> None:
    auto = rule(1.0, 100)
    rows = torch.tensor([0])
    here = torch.zeros(1, 100, dtype=torch.float64)
    gradient = torch.arange(1.0, 101.0).double().unsqueeze(0)
    first = auto(rows, here, torch.zeros(1).double(), gradient)
    assert int((first != 0).sum()) == 20
    assert float(first.abs().sum()) <= 1.0
    for step in range(1, 5):
        first = auto(rows, first, torch.tensor([float(step)]).double(), gradient)
    # The best point has 20 entries, fewer than 95 of 100: a fifth over 1.5 from the check on.
    assert float(auto.share[0]) == 20 / 100 / 1.5
    assert auto.size.tolist() == [1.0]
