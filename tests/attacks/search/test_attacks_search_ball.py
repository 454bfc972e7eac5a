"""Norm balls in a box: projections against a solver, starts against their law."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from levelset._tools.random import Streams
from levelset.attacks._search._ball import Ball, uniform_in_ball
from levelset.attacks._search._problem import Problem

NORMS = (math.inf, 2.0, 1.0)


def problem(points: Tensor, norm: float, bounds: tuple[float, float] = (0.0, 1.0)) -> Problem:
    model = nn.Linear(points.shape[1], 2).to(points.dtype)
    return Problem("test", model, points, None, norm=norm, bounds=bounds)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-math.inf, math.inf)])
@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_point_of_ball_and_box(
    norm: float, bounds: tuple[float, float], noise: Callable[..., Tensor]
) -> None:
    """Against a general solver, L1 with positive and negative parts as variables."""
    centres = noise(12, 5, seed=1).clamp(0, 1)
    points = centres + 0.6 * noise(12, 5, seed=2)
    ball = Ball(problem(centres, norm, bounds), 0.4)
    found = ball.project(torch.arange(12), points)
    for centre, point, mine in zip(centres.numpy(), points.numpy(), found.numpy(), strict=True):
        up = np.minimum(bounds[1] - centre, 0.4)
        down = np.minimum(centre - bounds[0], 0.4)
        rules = {
            math.inf: (),
            2.0: ({"type": "ineq", "fun": lambda z: 0.16 - ((z[:5] - z[5:]) ** 2).sum()},),
            1.0: ({"type": "ineq", "fun": lambda z: 0.4 - z.sum()},),
        }[norm]
        if norm == 2.0:
            up, down = np.full(5, bounds[1]) - centre, centre - bounds[0]
        solved = minimize(
            lambda z, c=centre, p=point: ((c + z[:5] - z[5:] - p) ** 2).sum(), np.zeros(10),
            bounds=[(0.0, b) for b in (*up, *down)], constraints=rules, method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 500},
        )  # fmt: skip
        best = ((mine - point) ** 2).sum()
        assert best <= solved.fun + (1e-3 if norm == 2.0 else 1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_idempotent_and_leaves_what_is_inside(
    norm: float, noise: Callable[..., Tensor]
) -> None:
    centres = noise(50, 9, seed=1).clamp(0, 1)
    rows = torch.arange(50)
    ball = Ball(problem(centres, norm), 0.7)
    found = ball.project(rows, centres + noise(50, 9, seed=2))
    torch.testing.assert_close(ball.project(rows, found), found, rtol=0, atol=1e-14)
    inside = torch.lerp(centres, found, 0.9)
    torch.testing.assert_close(ball.project(rows, inside), inside, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", [1e-4, 0.1, 0.3, 8.0, 300.0])
def test_no_rounding_leaves_the_ball(
    norm: float, radius: float, dtype: torch.dtype, noise: Callable[..., Tensor]
) -> None:
    centres = noise(200, 784, seed=1).clamp(0, 1).to(dtype)
    ball = Ball(problem(centres, norm), radius)
    found = ball.project(torch.arange(200), centres + radius * noise(200, 784, seed=2).to(dtype))
    lengths = torch.linalg.vector_norm(found - centres, norm, 1)
    assert (lengths.double() <= radius).all()
    inside = (found > 0) & (found < 1)
    assert (found >= 0).all()
    assert (found <= 1).all()
    if radius < 1 and norm > 1:
        assert inside.any()
        assert lengths.max() >= 0.99 * radius


@pytest.mark.parametrize("norm", NORMS)
def test_starts_are_uniform_in_the_ball(norm: float) -> None:
    """The share within a radius r of the unit ball in three dimensions is r cubed."""
    rows = torch.arange(4000)
    streams = Streams(torch.Generator().manual_seed(0), torch.zeros(1, dtype=torch.float64))
    drawn = uniform_in_ball(rows, (3,), norm, streams, 0)
    length = torch.linalg.vector_norm(drawn, norm, 1)
    assert length.max() <= 1.0
    for radius in (0.5, 0.8, 0.95):
        share = float((length <= radius).double().mean())
        assert share == pytest.approx(radius**3, abs=0.025)
    assert drawn.mean(0).abs().max() < 0.03
    # Each octant and, within one, each order of the entries is as likely as the next.
    assert float((drawn > 0).all(1).double().mean()) == pytest.approx(1 / 8, abs=0.02)
    order = (drawn.abs().argmax(1) == 0).double().mean()
    assert float(order) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("norm", [math.inf, 2.0])
def test_the_steepest_step_gains_the_dual_norm(norm: float, noise: Callable[..., Tensor]) -> None:
    centres, gradient = noise(20, 6, seed=1), noise(20, 6, seed=2)
    gradient[3] = 0.0
    ball = Ball(problem(centres, norm, (-math.inf, math.inf)), 1.0)
    step = ball.steepest(torch.arange(20), centres, gradient)
    gain = (step * gradient).sum(1)
    dual = torch.linalg.vector_norm(gradient, 1.0 if math.isinf(norm) else 2.0, 1)
    torch.testing.assert_close(gain, dual, rtol=1e-12, atol=0)
    assert (step[3] == 0).all()


def test_the_sparse_step_takes_the_steepest_free_entries() -> None:
    centres = torch.tensor([[0.5, 1.0, 0.5, 0.0, 0.5]], dtype=torch.float64)
    gradient = torch.tensor([[0.1, 9.0, -3.0, -8.0, 2.0]], dtype=torch.float64)
    ball = Ball(problem(centres, 1.0), 1.0)
    share = torch.tensor([0.4], dtype=torch.float64)
    step = ball.steepest(torch.tensor([0]), centres, gradient, share)
    # The entries at their sides cannot move up (1) and down (3).
    assert step.tolist() == [[0.0, 0.0, -0.5, 0.0, 0.5]]
