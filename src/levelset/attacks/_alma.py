"""Augmented Lagrangian: descend distance and penalty together, multipliers following success."""

import math

import torch
from torch import Tensor

from levelset._tools.checks import check_positive
from levelset._tools.norms import dual, norm_of
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import Objective
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._walk import project_once
from levelset.errors import ParameterError

__all__ = ["alma"]

# Rony et al. 2021, section 4: memory of the multiplier and of the squared gradients; the penalty
# parameter grows by a fifth where ten steps brought no improvement by a twentieth; the step falls
# to a hundredth of the first.
_PATIENCE, _ENOUGH, _GROWTH = 10, 0.95, 1.2
_LEAST_MULTIPLIER, _MOST_MULTIPLIER = 1e-6, 1e12
_LAST_STEP, _TINY = 0.01, 1e-8
# What counts as across is a lead of this share, which rounding does not undo.
_LEAD = 1e-4
# The search for the first step: how far the box may hold a step back, and its halvings.
_DOUBLINGS, _HALVINGS = 20, 30
# Longest first step, in ways from the input to the linearised boundary.
_LINEARISED = 4.0


@attack(2.0, 1.0)
def alma(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    steps: int = 100,
    first_step: float = 1.0,
    memory: float = 0.5,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of another class by an augmented Lagrangian of distance and margin.

    Each step descends $D(\delta) + P(c(x + \delta), \rho, \mu)$, where c is the margin as a share
    of the spread of the three largest logits (the plain margin where there are too few classes
    for that), P the penalty of Birgin et al., and D the L2 or L1 norm; the first descends P
    alone. The multiplier $\mu$ of each row follows the derivative of P, smoothed; $\rho$ grows
    while ten steps bring no progress, until a point across has been met. Steps are RMSprop's with
    momentum: the first changes the norm by `first_step`, and they shrink to a hundredth from when
    a point across was met.

    The nearest point is brought back onto the boundary at the end, which the paper does not do.
    Inputs without a point across are searched again by the plain margin: the share can fall for
    ever inside a class region that reaches to infinity.

    Cost: `steps` gradients and about 10 forward passes more an input; twice that for an input
    that is searched again.

    Args:
        steps: Number of steps. The paper takes 1,000, with a `memory` of 0.9, or 100 with 0.5.
        first_step: Length of the first step, in the units of the points.
        memory: Weight of the past in the multiplier and in the size of the gradient, in [0, 1).

    References:
        - J. Rony et al., "Augmented Lagrangian adversarial attacks", ICCV 2021.
        - E. Birgin et al., "Numerical comparison of augmented Lagrangian algorithms for nonconvex
          problems", Comput. Optim. Appl. 31 (2005): the penalty, their P2.
    """
    check_positive("alma", "first_step", first_step)
    if not 0.0 <= memory < 1.0:
        message = f"alma: `memory` must lie in [0, 1), got {memory}."
        raise ParameterError(message)
    problem = Problem("alma", model, points, labels, targets, norm, bounds, batch_size)

    def search(rows: Tensor) -> None:
        enough = problem.logits.shape[1] >= (3 if targets is None else 4)
        objective = Objective(problem, "ratio" if enough else "margin")
        _descend(objective, rows, steps, first_step, memory, progress)
        left = rows[problem.distance[rows].isinf()]
        if enough and len(left):
            _descend(Objective(problem, "margin"), left, steps, first_step, memory, progress)
        project_once(problem, rows)

    return least_norm(problem, search)


class _Multipliers:
    """The multiplier and the penalty parameter of each row."""

    def __init__(self, like: Tensor, memory: float) -> None:
        self.memory = memory
        self.multiplier, self.penalty = torch.ones_like(like), torch.ones_like(like)
        self.before = like
        self.crossed = torch.zeros_like(like, dtype=torch.bool)

    def follow(self, step: int, constraint: Tensor, across: Tensor) -> Tensor:
        """Update both from the constraint; return the derivative of the penalty in it."""
        self.crossed |= across
        if step == 0:
            self.before = constraint
            return _slope(constraint, self.penalty, self.multiplier)
        if (step + 1) % _PATIENCE == 0:
            stuck = ~self.crossed & (constraint >= _ENOUGH * self.before)
            self.penalty = torch.where(stuck, self.penalty * _GROWTH, self.penalty)
            self.before = constraint
        wanted = _slope(constraint, self.penalty, self.multiplier)
        smoothed = torch.lerp(wanted, self.multiplier, self.memory)
        self.multiplier = smoothed.clamp(_LEAST_MULTIPLIER, _MOST_MULTIPLIER)
        return _slope(constraint, self.penalty, self.multiplier)


def _slope(constraint: Tensor, penalty: Tensor, multiplier: Tensor) -> Tensor:
    r"""Return $P'(y)$: $\mu (1 + 2 \rho y) + \rho^2 y^2 / 2$ above 0, $\mu / (1 - ry)^2$ below.

    r is the larger of $\rho$ and 1.
    """
    above = constraint.clamp(min=0.0)
    below = constraint.clamp(max=0.0)
    outside = multiplier * (1 + 2 * penalty * above) + 0.5 * (penalty * above).square()
    inside = multiplier / (1 - penalty.clamp(min=1.0) * below).square()
    return torch.where(constraint >= 0, outside, inside)


def _descend(
    objective: Objective,
    rows: Tensor,
    steps: int,
    first_step: float,
    memory: float,
    progress: Progress | None,
) -> None:
    problem = objective.problem
    inputs = problem.points[rows]
    points, move = inputs, torch.zeros_like(inputs)
    square = torch.ones_like(inputs)
    multipliers = _Multipliers(problem.distance[rows], memory)
    first_across = torch.full_like(problem.distance[rows], steps + 1.0)
    pace = torch.ones_like(first_across)
    for step in range(steps):
        loss, gradient, across = objective.at(rows, points, check=step == 0)
        if step == 0:
            unit, near = _units(objective, loss, gradient)
            force = near if objective.loss.loss == "margin" else torch.ones_like(near)
        loss, gradient = loss / unit, gradient / column(unit, gradient)
        slope = multipliers.follow(step, -loss + _LEAD, across)
        first_across = torch.where(across, first_across.clamp(max=step), first_across)
        total = -column(slope * force, points) * gradient
        if step == 0:
            pace = _first_pace(problem, inputs, total, (_LINEARISED * near).clamp(max=first_step))
        else:
            total = total + _slope_of_norm(points - inputs, problem.norm)
        square = torch.lerp(total.square(), square, memory)
        move = memory * move + total / (square.sqrt() + _TINY)
        late = (step - first_across).clamp(min=0.0) / (steps - first_across)
        now = pace * (math.log(_LAST_STEP) * late).exp()
        points = problem.clip(points - column(now, points) * move)
        if progress is not None:
            progress(step + 1, steps)
    objective.offer_last(rows, points)


def _units(objective: Objective, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit of each loss at the inputs, and the longest first step, `(m,)` each.

    A plain margin is counted in its own value at the input, so that the scale of the logits does
    not matter; the ratio has none. The step is a few times the way to the linearised boundary.
    """
    one = torch.ones_like(loss)
    unit = torch.where(loss < 0, -loss, one) if objective.loss.loss == "margin" else one
    slope = norm_of(gradient, dual(objective.problem.norm))
    away = torch.where(slope > 0, loss.abs() / slope, torch.inf)
    return unit, away.clamp(min=objective.problem.eps)


def _slope_of_norm(delta: Tensor, norm: float) -> Tensor:
    if norm == 1.0:
        return delta.sign()
    length = norm_of(delta, norm)
    return delta / column(torch.where(length > 0, length, 1.0), delta)


def _first_pace(problem: Problem, inputs: Tensor, direction: Tensor, length: Tensor) -> Tensor:
    """Return how far to go along minus `way`, `(m,)`, to be `wanted` away once in the box.

    By bisection of the logarithm, for the box holds some entries back; a row that it holds back
    altogether gets the upper end.
    """
    size = norm_of(direction, problem.norm)
    low = length / torch.where(size > 0, size, 1.0)
    high = low * 2.0**_DOUBLINGS
    for _ in range(_HALVINGS):
        middle = (low * high).sqrt()
        there = problem.clip(inputs - column(middle, inputs) * direction)
        far = norm_of(there - inputs, problem.norm) > length
        low, high = torch.where(far, low, middle), torch.where(far, middle, high)
    return high
