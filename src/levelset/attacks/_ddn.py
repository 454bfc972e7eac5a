"""Decoupled direction and norm: a sphere about the input that shrinks and grows."""

import math
from functools import partial

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import Objective
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["ddn"]

# Rony et al. 2019, section 4: the step falls from 1 to 1/100 along a cosine.
_FIRST_STEP, _LAST_STEP = 1.0, 0.01


@attack()
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
    end, which the paper does not do; it rounds points to 256 levels, which this does not.

    Cost: `steps` gradients and about 10 forward passes more an input.

    Args:
        first_radius: Radius of the first sphere, in the units of the points.
        rate: Share by which the radius shrinks or grows a step, $\gamma$, in (0, 1).

    References:
        - J. Rony et al., "Decoupling direction and norm for efficient gradient-based L2
          adversarial attacks and defenses", CVPR 2019.
    """
    if not 0.0 < rate < 1.0:
        message = f"ddn: `rate` must lie between 0 and 1, got {rate}."
        raise ParameterError(message)
    problem = Problem("ddn", model, points, labels, targets, 2.0, bounds, batch_size)
    search = partial(_descend, problem, steps, first_radius, rate, progress)
    return least_norm(problem, search)


def _descend(
    problem: Problem,
    steps: int,
    first_radius: float,
    rate: float,
    progress: Progress | None,
    rows: Tensor,
) -> None:
    objective = Objective(problem, "cross_entropy")
    inputs = problem.points[rows]
    points, radius = inputs, torch.full_like(problem.distance[rows], first_radius)
    for step in range(steps):
        _, gradient, across = objective.at(rows, points, check=step == 0)
        radius = radius * torch.where(across, 1.0 - rate, 1.0 + rate).to(radius.dtype)
        share = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        size = _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * share
        length = norm_of(gradient, 2.0)
        delta = (
            points - inputs + column(size / torch.where(length > 0, length, 1.0), points) * gradient
        )
        length = norm_of(delta, 2.0)
        factor = torch.where(length > 0, radius / torch.where(length > 0, length, 1.0), 0.0)
        points = problem.clip(inputs + column(factor, points) * delta)
        if progress is not None:
            progress(step + 1, steps)
    objective.offer_last(rows, points)
