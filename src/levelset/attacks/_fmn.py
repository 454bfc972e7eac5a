"""Fast minimum norm: gradient steps inside a ball whose radius follows the boundary."""

import math
from functools import partial

import torch
from torch import Tensor

from levelset._tools.norms import dual, norm_of
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import Objective
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem

__all__ = ["fmn"]

# Pintor et al. 2021: the rate of the radius falls from 5 % to 0.1 %, the step to 1 % of the first,
# both along a cosine.
_FIRST_RATE, _LAST_RATE = 0.05, 0.001
_LAST_STEP = 0.01


@attack(2.0, math.inf, 1.0, 0.0)
def fmn(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    steps: int = 100,
    step_size: float = 1.0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of another class in a ball that shrinks and grows, in any of four norms.

    Each step follows the gradient of the margin, scaled to length 1, then returns to the ball
    $\lVert x - x_0 \rVert \le \epsilon$ and to the box. Until a row has been across, its radius is
    just beyond the linearised boundary, $\epsilon = \lVert \delta \rVert_p + |F| / \lVert \nabla F
    \rVert_q$; then it shrinks by a small share where the point is across, never above the best
    norm so far, and grows where it is not. In L0 the ball keeps the largest changes, and the
    radius changes by at least one.

    The nearest point is brought back onto the boundary at the end but in L0; the paper does not.

    Cost: `steps` gradients and about 10 forward passes more an input.

    Args:
        norm: 2, infinity, 1 or 0, the number of changed entries.
        step_size: L2 length of the first step, in the units of the points.

    References:
        - M. Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm
          constraints", NeurIPS 2021.
    """
    problem = Problem("fmn", model, points, labels, targets, norm, bounds, batch_size)
    search = partial(_descend, problem, steps, step_size, progress)
    return least_norm(problem, search, polished=problem.norm > 0)


def _descend(
    problem: Problem, steps: int, step_size: float, progress: Progress | None, rows: Tensor
) -> None:
    objective = Objective(problem, "margin")
    inputs = problem.points[rows]
    points = inputs
    radius = torch.full_like(problem.distance[rows], torch.inf if problem.norm > 0 else 1.0)
    for step in range(steps):
        loss, gradient, across = objective.at(rows, points, check=step == 0)
        share = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        rate = _LAST_RATE + (_FIRST_RATE - _LAST_RATE) * share
        radius = _next_radius(problem, rows, points, radius, (loss, gradient, across), rate)
        length = norm_of(gradient, 2.0)
        size = step_size * (_LAST_STEP + (1.0 - _LAST_STEP) * share)
        move = column(size / torch.where(length > 0, length, 1.0), points) * gradient
        delta = problem.clip(points + move) - inputs
        points = problem.clip(inputs + _onto_ball(delta, radius, problem.norm))
        if progress is not None:
            progress(step + 1, steps)
    objective.offer_last(rows, points)


def _next_radius(
    problem: Problem,
    rows: Tensor,
    points: Tensor,
    radius: Tensor,
    evaluated: tuple[Tensor, Tensor, Tensor],
    rate: float,
) -> Tensor:
    """Return the radius of the next ball: by the linearised boundary, then by success."""
    loss, gradient, across = evaluated
    best = problem.distance[rows]
    if problem.norm == 0.0:
        less = torch.minimum(radius - 1.0, (radius * (1.0 - rate)).floor()).clamp(min=1.0)
        more = torch.maximum(radius + 1.0, (radius * (1.0 + rate)).floor())
        return torch.where(across, torch.minimum(less, best), more)
    slope = norm_of(gradient, dual(problem.norm))
    ahead = loss.abs() / torch.where(slope > 0, slope, 1.0)
    unfound = norm_of(points - problem.points[rows], problem.norm) + ahead
    # Beyond the linearised boundary by the rate: on an affine model it is else never crossed.
    grown = torch.where(best.isfinite(), radius, unfound) * (1.0 + rate)
    return torch.where(across, torch.minimum(radius * (1.0 - rate), best), grown)


def _onto_ball(delta: Tensor, radius: Tensor, norm: float) -> Tensor:
    """Return the perturbations brought into balls of the radii `(m,)`, each the nearest point."""
    size = column(radius, delta)
    if math.isinf(norm):
        return torch.minimum(torch.maximum(delta, -size), size)
    if norm == 2.0:
        length = column(norm_of(delta, norm), delta)
        return delta * torch.where(length > size, size / torch.where(length > 0, length, 1.0), 1.0)
    ordered = delta.flatten(1).abs().sort(1, descending=True).values
    if norm == 0.0:
        last = radius.long().clamp(1, ordered.shape[1]) - 1
        least = column(ordered.gather(1, last.unsqueeze(1)).squeeze(1), delta)
        return torch.where((delta.abs() >= least) & (delta != 0), delta, 0.0)
    # Duchi et al. 2008: all entries are cut by the same amount, found by sorting.
    count = torch.arange(1, ordered.shape[1] + 1, device=delta.device)
    cuts = (ordered.cumsum(1) - radius.unsqueeze(1)) / count
    count_left = (ordered > cuts).sum(1, keepdim=True).clamp(min=1)
    cut = column(cuts.gather(1, count_left - 1).squeeze(1).clamp(min=0.0), delta)
    return delta.sign() * (delta.abs() - cut).clamp(min=0.0)
