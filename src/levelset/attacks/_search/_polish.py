"""How attacks of least norm end: witnesses pulled back onto the boundary, and judged."""

from collections.abc import Callable

from torch import Tensor

from levelset._intersection import close_bracket
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._problem import Problem

__all__ = ["least_norm", "polish"]

_STEPS = 24
# The margin to aim for and its tolerance, in units of the rounding: from 1, at which a point is
# surely across, to 2.
_AIM, _WITHIN = 1.5, 0.5


def least_norm(
    problem: Problem, search: Callable[[Tensor], None], *, polished: bool = True
) -> Attack:
    """Search near points for the rows that are not across already, and return the nearest."""
    rows = problem.open()
    if len(rows):
        search(rows)
        if polished:
            polish(problem, rows)
    return problem.result()


def polish(problem: Problem, rows: Tensor) -> None:
    """Intersect the segments from the inputs to their witnesses with the boundary.

    Aims beyond the boundary by what rounding can do to a margin there, so that the point kept is
    of the other class however it is evaluated again. A witness is replaced only by a nearer one
    that was seen to be across by as much.
    """
    rows = rows[problem.distance[rows].isfinite() & (problem.distance[rows] > 0)]
    if len(rows) == 0:
        return
    margin = problem.margin(rows, problem.best[rows])
    problem.sample_rounding(rows, problem.best[rows], margin)
    depth = problem.rounding[rows]
    weak = margin > -depth
    if weak.any():
        problem.push(rows[weak], 2.0 * depth[weak])
        margin = problem.margin(rows, problem.best[rows])
    # A witness polished before is at the level itself, where rounding would decide on its side.
    across = margin < -2.0 * depth
    rows, depth, margin = rows[across], depth[across], margin[across]
    closed = close_bracket(
        problem.field,
        problem.points[rows],
        problem.best[rows],
        problem.anchors(rows),
        level=-_AIM * depth,
        tol=_WITHIN * depth,
        max_iter=_STEPS,
        ends=(problem.margins[rows], margin),
    )
    problem.forwards[rows] += closed.iterations
    for point, value in ((closed.near, closed.near_value), (closed.far, closed.far_value)):
        problem.offer(rows, point, value - _AIM * depth)
