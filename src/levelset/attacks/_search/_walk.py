"""Walking along a decision boundary towards the input, on averaged linearisations of it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from levelset._tools.norms import dual, norm_of
from levelset.attacks._search._ball import column
from levelset.attacks._search._hyperplane import step_to_hyperplane
from levelset.attacks._search._problem import Problem

__all__ = ["AveragedPlane", "linearise", "project_once", "walk"]

# Share of the way to the projection that the last step goes.
_LAST = 0.1
# Weight of the past in the averaged plane, at the end of a walk; at its start it is 0. More for
# L-infinity, where the projection turns on the signs of the normal.
_MEMORY, _MEMORY_INF = 0.6, 0.8
# How far beyond the averaged plane to aim, as a share of the present distance: less after a
# point across, more after one that is not.
_SLACK, _LEAST_SLACK, _MOST_SLACK = 0.05, 0.01, 0.5
_LESS, _MORE = 0.5, 1.5
# How far across to aim, in units of the rounding: twice is the end of what `polish` aims at.
_CLEAR = 3.0


class AveragedPlane:
    """A running mean of linearisations `normal . y = offset`, each of a gradient of norm 1.

    Scaled to norm 1, a steep piece of the boundary weighs as much as a flat one.
    """

    def __init__(self, points: Tensor, norm: float) -> None:
        self.norm = norm
        self.normal = torch.zeros_like(points)
        self.offset = points.new_zeros(len(points))

    def add(self, points: Tensor, value: Tensor, gradient: Tensor, memory: float = 0.0) -> None:
        """Take in the linearisation at `points`; one that is flat or not finite is passed over."""
        size = norm_of(gradient, dual(self.norm))
        sound = (size > 0) & size.isfinite() & value.isfinite()
        scale = torch.where(sound, 1.0 / torch.where(sound, size, 1.0), 0.0)
        normal = torch.where(column(sound, points), gradient, 0.0) * column(scale, points)
        offset = (normal * points).flatten(1).sum(1) - torch.where(sound, value, 0.0) * scale
        # The first plane of a row is taken whole, whatever the memory.
        first = (self.normal == 0).flatten(1).all(1)
        weight = sound.to(points.dtype) * torch.where(first, 1.0, 1.0 - memory).to(points.dtype)
        self.normal = torch.lerp(self.normal, normal, column(weight, points))
        self.offset = torch.lerp(self.offset, offset, weight)

    def take(self, rows: Tensor, other: "AveragedPlane") -> None:
        """Take the plane of `other` where the mask `rows` holds, `(m,)`."""
        self.normal = torch.where(column(rows, self.normal), other.normal, self.normal)
        self.offset = torch.where(rows, other.offset, self.offset)

    def distance(self, points: Tensor) -> Tensor:
        """Return how far the plane is from points on its positive side, without a box, `(m,)`."""
        size = norm_of(self.normal, dual(self.norm))
        value = (self.normal * points).flatten(1).sum(1) - self.offset
        return value.clamp(min=0.0) / torch.where(size > 0, size, 1.0)

    def project(self, problem: Problem, points: Tensor, beyond: Tensor) -> Tensor:
        """Return the points of the box nearest to `points` that lie `beyond` the plane."""
        size = norm_of(self.normal, dual(self.norm))
        value = (self.normal * points).flatten(1).sum(1) - self.offset + beyond * size
        step = step_to_hyperplane(
            points, self.normal, value.clamp(min=0.0), problem.low, problem.high, self.norm
        )
        return problem.clip(points + step)


def linearise(
    problem: Problem, rows: Tensor, points: Tensor, rivals: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return value and gradient of the margin, or of the difference to one rival a row.

    The values are raised by three times what rounding can do to them: below zero a point is surely
    across, and a step onto the linearisation arrives there. Points across are offered as witnesses.
    """
    if rivals is None:
        value, gradient = problem.margin_and_gradient(rows, points)
    else:
        value, gradient = problem.difference_and_gradient(rows, points, rivals)
    problem.offer(rows, points, value)
    return value + _CLEAR * problem.rounding[rows], gradient


def walk(
    problem: Problem,
    rows: Tensor,
    points: Tensor,
    plane: AveragedPlane,
    stride: Tensor,
    steps: int,
    *,
    rivals: Tensor | None = None,
    step_done: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Walk onto the boundary and along it, towards the nearest point.

    Each step projects the *input* on the plane, inside the box, goes a share of the way to the
    projection, linearises there, and averages the new plane with those before. The share falls
    from `stride` to 1/10 along a cosine, the weight of the past rises from 0 to 0.6 (0.8 for
    L-infinity): the walk explores first, and settles at a point that is the projection of the
    input on the planes about it.

    Args:
        problem: Keeps the nearest witness.
        rows: Inputs to work on, `(m,)`.
        points: Where to start, `(m, *d)`.
        plane: The linearisation there, or an average of several; changed.
        stride: Share of the way to the projection that the first steps go, `(m,)`.
        steps: Number of steps; each costs a gradient.
        rivals: The class to reach, `(m,)`; `None` for whichever is highest.
        step_done: Called after each step.

    Returns:
        Distances to the nearest points across on this walk, `(m,)`, infinity where there is none;
        and where the walk ended, `(m, *d)`.
    """
    inputs = problem.points[rows]
    memory = _MEMORY_INF if math.isinf(problem.norm) else _MEMORY
    length = plane.distance(inputs)
    slack = torch.full_like(stride, _SLACK)
    nearest = torch.full_like(stride, torch.inf)
    for step in range(steps):
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        goal = plane.project(problem, inputs, slack * length)
        share = _LAST + (stride - _LAST) * cosine
        points = problem.clip(torch.lerp(points, goal, column(share, points)))
        value, gradient = linearise(problem, rows, points, rivals)
        plane.add(points, value, gradient, memory * (1.0 - cosine))
        across = value < 0
        length = norm_of(points - inputs, problem.norm)
        nearest = torch.where(across, torch.minimum(nearest, length), nearest)
        # Of two numbers `where` makes torch's default dtype, whatever that is set to.
        change = torch.where(across, _LESS, _MORE).to(slack.dtype)
        slack = (slack * change).clamp(_LEAST_SLACK, _MOST_SLACK)
        if step_done is not None:
            step_done()
    return nearest, points


def project_once(problem: Problem, rows: Tensor) -> None:
    """Project the inputs on the boundary as it is linearised at their nearest witnesses.

    Where the boundary is flat about a witness, the projection is the nearest point itself, which a
    descent of many small steps only comes near.
    """
    rows = rows[problem.distance[rows].isfinite() & (problem.distance[rows] > 0)]
    if len(rows) == 0:
        return
    inputs = problem.points[rows]
    plane = AveragedPlane(inputs, problem.norm)
    plane.add(problem.best[rows], *linearise(problem, rows, problem.best[rows], None))
    there = plane.project(problem, inputs, torch.zeros_like(problem.distance[rows]))
    problem.offer(rows, there, problem.margin(rows, there))
