"""Attacks of fixed radius that look for ever nearer points, where gradients at a distance mislead.

Where a network masks its gradients, walks along the boundary stop short of it, and what breaks an
input within a radius is found by climbing other losses, or by a search without gradients. Here the
radius of each input begins a little below the distance of its witness, and shrinks with each one.
"""

from typing import Any

import torch
from torch import Tensor

from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks import Attack
from levelset.attacks._search._polish import polish
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._windows import windows
from levelset.boundary._cascade import Cascade, Stage

__all__ = ["shrinking_pgd", "shrinking_square"]

# The radius of a search, as a share of the distance of the nearest witness.
_CLIMBING, _SEARCHING = 0.95, 0.98
# Most rounds of climbs, and the climbs of one.
_ROUNDS = 6
_STAGES = (Stage("climb", 20, resumes=True), Stage("climb", 30, "ratio"))
# After so many windows an input goes on if its lowest margin is at most this share of the margin
# at the input, or if a nearer witness has been found since it was asked last.
_GOES_ON = {0: 0.35, 100: 0.3, 300: 0.2, 1000: 0.12}


def shrinking_pgd(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    starts: Points | None = None,
    bounds: Bounds | None = None,
    batch_size: int | None = None,
    norm: float,
    progress: Progress | None = None,
) -> Attack:
    """Climb the margin and the ratio of logit differences within radii that shrink (L-infinity).

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        labels: Their classes.
        starts: The nearest witnesses so far; `None` for none.
        bounds: The box.
        batch_size: Most points an evaluation.
        norm: Infinity.
        progress: Called after each round.
    """
    problem, rows = _begun(model, points, labels, starts, norm, bounds, batch_size)
    for number in range(_ROUNDS):
        if len(rows) == 0:
            break
        rows = _round(problem, rows, number)
        if progress is not None:
            progress(number + 1, _ROUNDS)
    return problem.result()


def shrinking_square(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    starts: Points | None = None,
    bounds: Bounds | None = None,
    batch_size: int | None = None,
    norm: float,
    steps: int = 3000,
    progress: Progress | None = None,
) -> Attack:
    """Try windows of random sign within radii that shrink with each witness (L-infinity).

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        labels: Their classes.
        starts: The nearest witnesses so far; `None` for none.
        bounds: The box.
        batch_size: Most points an evaluation.
        norm: Infinity.
        steps: Number of windows.
        progress: Called after each window.
    """
    problem, rows = _begun(model, points, labels, starts, norm, bounds, batch_size)
    if len(rows):
        search = _Shrinking(problem, rows, steps)
        for step in range(steps):
            if not search.step(step):
                break
            if progress is not None:
                progress(step + 1, steps)
    return problem.result()


def _begun(
    model: Model, points: Tensor, labels: Tensor | None, starts: Tensor | None, *options: Any
) -> tuple[Problem, Tensor]:
    """Return the problem that keeps the nearest witnesses, and the rows that may be improved.

    Where there is no witness, the search may go as far as the box is wide.
    """
    norm, bounds, batch_size = options
    problem = Problem("distance", model, points, labels, None, norm, bounds, batch_size)
    rows = problem.open()
    if starts is not None and len(rows):
        problem.offer(rows, starts[rows], problem.margin(rows, starts[rows]))
    return problem, rows[_reach(problem, rows).isfinite()]


def _reach(problem: Problem, rows: Tensor) -> Tensor:
    width = (problem.high - problem.low).max().to(problem.points)
    return torch.minimum(problem.distance[rows], width)


def _part(problem: Problem, rows: Tensor) -> Problem:
    """Return the problem of some rows, for a search that keeps points of its own."""
    part = Problem(
        "distance",
        problem.model,
        problem.points[rows],
        problem.labels[rows],
        None,
        problem.norm,
        (problem.low, problem.high),
        problem.batch_size,
        look=True,
    )
    part.forwards.zero_()
    return part


def _round(problem: Problem, rows: Tensor, number: int) -> Tensor:
    """Climb within a radius below the witnesses' distance; return the rows that came nearer."""
    part = _part(problem, rows)
    cascade = Cascade(part, _CLIMBING * _reach(problem, rows), seed=number)
    every = torch.arange(len(rows), device=rows.device)
    there = cascade.ball.project(every, problem.best[rows])
    cascade.begin_from(every, there)
    for stage_number, stage in enumerate(_STAGES):
        cascade.run(stage_number, stage)
    broken = ~cascade.stands
    problem.forwards[rows] += part.forwards
    problem.gradients[rows] += part.gradients
    return _kept(problem, rows[broken], part.best[broken], cascade.lowest[broken])


def _kept(problem: Problem, rows: Tensor, points: Tensor, margins: Tensor) -> Tensor:
    """Keep witnesses and pull them back onto the boundary; return the rows that came nearer."""
    before = problem.distance[rows].clone()
    problem.offer(rows, points, margins)
    polish(problem, rows)
    return rows[problem.distance[rows] < before]


class _Shrinking:
    """Windows within a radius that follows the nearest witness."""

    def __init__(self, problem: Problem, rows: Tensor, steps: int) -> None:
        self.problem, self.rows = problem, rows
        self.part = _part(problem, rows)
        self.cascade = Cascade(self.part, _SEARCHING * _reach(problem, rows), seed=0)
        self.every = torch.arange(len(rows), device=rows.device)
        self.cascade.begin_from(
            self.every, self.cascade.ball.project(self.every, problem.best[rows])
        )
        streams = Streams(torch.Generator().manual_seed(1), self.part.points, self.cascade.names)
        self.search = windows(self.part, self.cascade.ball, steps, streams)
        self.search.lowest = self.cascade.lowest
        self.nearer = torch.zeros_like(self.cascade.stands)
        self.left = self.every

    def step(self, step: int) -> bool:
        """Try one window a row; return whether any row goes on."""
        if step in _GOES_ON:
            lowest = self.search.lowest[self.left]
            close = lowest <= _GOES_ON[step] * self.part.margins[self.left]
            self.left = self.left[close | self.nearer[self.left]]
            self.nearer[:] = False
        if len(self.left) == 0:
            return False
        before = self.part.forwards.clone()
        standing = self.search.step(self.left, step)
        through = torch.zeros_like(self.nearer)
        through[self.left] = True
        through[standing] = False
        if through.any():
            self._shrink(through.nonzero().flatten())
        self.problem.forwards[self.rows] += self.part.forwards - before
        return True

    def _shrink(self, through: Tensor) -> None:
        """Keep the witnesses, and go on within a smaller radius from where they are clipped to it.

        A row whose witness is no nearer, by rounding, is left.
        """
        rows, part = self.rows[through], self.part
        nearer = _kept(self.problem, rows, part.best[through], self.search.lowest[through])
        ahead = torch.isin(rows, nearer)
        self.left = self.left[~torch.isin(self.left, through[~ahead])]
        through, rows = through[ahead], rows[ahead]
        self.nearer[through] = True
        self.cascade.ball.shrink(through, _SEARCHING * self.problem.distance[rows])
        there = self.cascade.ball.project(through, self.problem.best[rows])
        part.best[through] = there
        self.search.lowest[through] = part.margin(through, there)
