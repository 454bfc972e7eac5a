"""Decoupled direction and norm: a sphere about the input that shrinks and grows."""

import math

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import norm_of
from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks._attack import Attack
from levelset.attacks._ball import column
from levelset.attacks._least_norm._polish import polish
from levelset.attacks._objective import Objective
from levelset.attacks._problem import Problem
from levelset.errors import ParameterError

__all__ = ["ddn"]

# Rony et al. 2019, section 4: the step falls from 1 to 1/100 along a cosine.
_FIRST_STEP, _LAST_STEP = 1.0, 0.01


@checked
def ddn(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    bounds: Bounds | None = None,
    steps: int = 100,
    first_radius: float = 1.0,
    rate: float = 0.05,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of another class on a sphere whose radius follows success (L2).

    Each step follows the normalised gradient of the cross-entropy, then returns to a sphere about
    the input: of radius $(1 - \gamma)\epsilon$ if the point before was across, and
    $(1 + \gamma)\epsilon$ if not. The direction is so decoupled from the norm, and no weight
    between the two has to be searched. The gradient is taken of the log-odds, which points the same
    way and does not vanish where the softmax saturates (the paper takes a random way there). The
    nearest point is brought back onto the boundary at the
    end, which the paper does not do; it rounds points to 256 levels, which is not done here.

    Cost: `steps` gradients and about 10 forward passes more an input.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        steps: Number of steps.
        first_radius: Radius of the first sphere, in the units of the points.
        rate: Share by which the radius shrinks or grows a step, $\gamma$, in (0, 1).
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` after each step.

    Returns:
        The nearest points found of another class, or of the target's.

    Raises:
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.
        FieldError: If the model is flat at every input.

    References:
        - J. Rony et al., "Decoupling direction and norm for efficient gradient-based L2
          adversarial attacks and defenses", CVPR 2019.
    """
    check_at_least_one("ddn", "steps", steps)
    check_positive("ddn", "first_radius", first_radius)
    if not 0.0 < rate < 1.0:
        message = f"ddn: `rate` must lie between 0 and 1, got {rate}."
        raise ParameterError(message)
    with frozen(model):
        problem = Problem(
            "ddn", model, points, labels, targets=targets, norm=2.0, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        rows = problem.open()
        if len(rows):
            _descend(problem, rows, steps, first_radius, rate, progress)
            polish(problem, rows)
        return problem.result()


def _descend(
    problem: Problem,
    rows: Tensor,
    steps: int,
    first_radius: float,
    rate: float,
    progress: Progress | None,
) -> None:
    objective = Objective(problem, "cross_entropy")
    inputs = problem.points[rows]
    here, radius = inputs, torch.full_like(problem.distance[rows], first_radius)
    for step in range(steps):
        _, gradient, across = objective.at(rows, here, check=step == 0)
        radius = radius * torch.where(across, 1.0 - rate, 1.0 + rate).to(radius.dtype)
        share = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        size = _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * share
        length = norm_of(gradient, 2.0)
        delta = here - inputs + column(size / torch.where(length > 0, length, 1.0), here) * gradient
        length = norm_of(delta, 2.0)
        factor = torch.where(length > 0, radius / torch.where(length > 0, length, 1.0), 0.0)
        here = problem.clip(inputs + column(factor, here) * delta)
        if progress is not None:
            progress(step + 1, steps)
    objective.offer_last(rows, here)
