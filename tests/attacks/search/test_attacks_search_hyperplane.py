"""Shortest steps to a hyperplane inside a box, against linear and quadratic programs."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from levelset.attacks._search._hyperplane import step_to_hyperplane

NORMS = (math.inf, 2.0, 1.0)
BOXES = ((0.0, 1.0), (-math.inf, math.inf), (-math.inf, 1.0))


def least(norm: float, here: np.ndarray, slope: np.ndarray, value: float, box: tuple) -> float:
    """Return the least norm of a step, by scipy."""
    e = len(here)
    sides = [(box[0] - h, box[1] - h) for h in here]
    if norm == 2.0:
        rule = {"type": "eq", "fun": lambda z: value + slope @ z, "jac": lambda z: slope}
        solved = minimize(
            lambda z: (z**2).sum(), np.zeros(e), jac=lambda z: 2 * z, bounds=sides,
            constraints=[rule], method="SLSQP", options={"ftol": 1e-15, "maxiter": 500},
        )  # fmt: skip
        return math.sqrt(solved.fun)
    if norm == 1.0:
        parts = [(0, s[1]) for s in sides] + [(0, -s[0]) for s in sides]
        both = np.concatenate([slope, -slope])[None]
        return linprog(np.ones(2 * e), A_eq=both, b_eq=[-value], bounds=parts).fun
    column = -np.ones((e, 1))
    above = np.block([[np.eye(e), column], [-np.eye(e), column]])
    cost, rule = np.append(np.zeros(e), 1.0), np.append(slope, 0.0)[None]
    return linprog(
        cost, A_ub=above, b_ub=np.zeros(2 * e), A_eq=rule, b_eq=[-value], bounds=[*sides, (0, None)]
    ).fun


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("norm", NORMS)
def test_least_and_on_the_hyperplane(
    norm: float, box: tuple[float, float], noise: Callable[..., Tensor]
) -> None:
    here, slope, value = noise(30, 7, seed=1).clamp(0, 1), noise(30, 7, seed=2), noise(30, seed=3)
    slope[noise(30, 7, seed=4) > 1] = 0.0
    low, high = (torch.tensor(side, dtype=torch.float64) for side in box)
    step = step_to_hyperplane(here, slope, value, low, high, norm)
    assert (here + step >= low - 1e-15).all()
    assert (here + step <= high + 1e-15).all()
    missed = (value + (slope * step).sum(1)).abs() > 1e-9
    assert missed.sum() < 12
    for i in range(30):
        if missed[i]:
            ends = torch.where(value[i] * slope[i] < 0, high, low)
            assert float((slope[i] * (ends - here[i])).abs().sum()) < float(value[i].abs())
            continue
        mine = float(torch.linalg.vector_norm(step[i], norm))
        best = least(norm, here[i].numpy(), slope[i].numpy(), float(value[i]), box)
        assert mine == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_without_a_box_it_is_value_over_the_dual_norm(
    norm: float, noise: Callable[..., Tensor]
) -> None:
    slope, value, side = noise(50, 3, 4, seed=2), noise(50, seed=3), torch.tensor(math.inf)
    step = step_to_hyperplane(torch.zeros_like(slope), slope, value, -side, side, norm)
    dual = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}[norm]
    expected = value.abs() / torch.linalg.vector_norm(slope.flatten(1), dual, 1)
    torch.testing.assert_close(
        torch.linalg.vector_norm(step.flatten(1), norm, 1), expected, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("broken", [0.0, math.nan, math.inf])
def test_no_step_where_there_is_no_direction(norm: float, broken: float) -> None:
    here = torch.full((2, 3), 0.5, dtype=torch.float64)
    slope = torch.ones_like(here)
    slope[0] = broken
    low, high = torch.zeros(()), torch.ones(())
    step = step_to_hyperplane(here, slope, torch.tensor([1.0, 0.3]).double(), low, high, norm)
    assert (step[0] == 0).all()
    assert float(step[1].sum()) == pytest.approx(-0.3)
