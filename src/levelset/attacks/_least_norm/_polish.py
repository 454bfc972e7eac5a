"""Pulling witnesses back along the segment from their input, onto the boundary."""

import torch
from torch import Tensor

from levelset._intersection import close_bracket
from levelset.attacks._problem import Problem

__all__ = ["polish"]

_STEPS = 24


def polish(problem: Problem, rows: Tensor) -> None:
    """Intersect the segments from the inputs to their witnesses with the boundary.

    Aims a few roundings beyond the boundary, so that the point kept is of the other class when it
    is evaluated again. A witness is replaced only by a nearer one that was seen to be across.
    """
    rows = rows[problem.distance[rows].isfinite() & (problem.distance[rows] > 0)]
    if len(rows) == 0:
        return
    eps = torch.finfo(problem.points.dtype).eps
    beyond = 8.0 * eps * problem.logits[rows].abs().amax(1).clamp(min=eps)
    # A witness polished before is at the level itself, where rounding would decide on its side.
    across = problem.margin(rows, problem.best[rows]) < -2.0 * beyond
    rows, beyond = rows[across], beyond[across]
    closed = close_bracket(
        problem.field,
        problem.points[rows],
        problem.best[rows],
        problem.anchors(rows),
        level=-beyond,
        tol=0.5 * beyond,
        max_iter=_STEPS,
    )
    problem.forwards[rows] += closed.iterations + 2
    for point, value in ((closed.near, closed.near_value), (closed.far, closed.far_value)):
        problem.offer(rows, point, value - beyond < -0.5 * beyond)
