"""Climbing a loss inside a ball: the loop that all gradient attacks of fixed radius share."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from levelset._typing import Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import Ball
from levelset.attacks._search._objective import LossName, Objective
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["Advance", "Ascent", "Keep", "straight"]

Keep = Literal["first", "best", "last"]

# Takes rows `(m,)`, their points, losses `(m,)` and gradients; returns their next points.
Advance = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Ascent:
    """Inputs of a problem, the ball each may move in, the loss to raise, and the point kept.

    What is kept of the points an input visits:

    - `first`: the first one on the other side, where the input leaves the batch;
    - `best`: the one of highest loss, those on the other side before all others;
    - `last`: the last one, as papers that report PGD often judge it.
    """

    def __init__(
        self, problem: Problem, radius: float, loss: LossName, keep: Keep = "first"
    ) -> None:
        function = problem.function
        if keep not in get_args(Keep):
            names = ", ".join(get_args(Keep))
            message = f"{function}: `keep` must be one of {names}, got {keep!r}."
            raise ParameterError(message)
        self.problem, self.radius, self.keep = problem, radius, keep
        self.ball, self.objective = Ball(problem, radius), Objective(problem, loss)
        self.found = problem.distance == 0
        self.highest = torch.full_like(problem.distance, -torch.inf)

    def open(self) -> Tensor:
        """Return the rows that another start may still improve."""
        if self.keep == "best":
            return self.problem.open()
        return (~self.found).nonzero().flatten()

    def climb(
        self,
        rows: Tensor,
        points: Tensor,
        steps: int,
        advance: Advance,
        progress: Progress | None = None,
    ) -> None:
        """Take `steps` from `points` of the inputs `rows`, and keep what they reach."""
        for step in range(steps):
            if len(rows):
                rows, points = self._step(rows, points, advance, check=step == 0)
            if progress is not None:
                progress(step + 1, steps)
        if len(rows):
            loss, margins = self.objective.value(rows, points)
            self._offer(rows, points, loss, self.problem.across(rows, margins))

    def result(self) -> Attack:
        """Return the points kept, judged anew."""
        return self.problem.result(self.radius)

    def _step(
        self, rows: Tensor, points: Tensor, advance: Advance, *, check: bool
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the points, keep what is to be kept, and move the rows that stay."""
        loss, gradient, margins = self.objective.value_and_gradient(rows, points, check=check)
        reached = self.problem.across(rows, margins)
        if self.keep != "last":
            self._offer(rows, points, loss, reached)
        if self.keep == "first":
            stay = ~reached
            rows, points, loss, gradient = rows[stay], points[stay], loss[stay], gradient[stay]
        return rows, advance(rows, points, loss, gradient)

    def _offer(self, rows: Tensor, points: Tensor, loss: Tensor, reached: Tensor) -> None:
        if self.keep == "best":
            before = self.found[rows]
            higher = (reached == before) & (loss > self.highest[rows])
            take = (reached & ~before) | higher
            self.found[rows] |= reached
        else:
            take = torch.ones_like(reached)
            self.found[rows] = reached
        taken = rows[take]
        self.problem.best[taken] = points[take]
        self.highest[taken] = loss[take]


def straight(ball: Ball, step_size: float) -> Advance:
    """Return the rule of a fixed step along the steepest direction, back into the ball."""

    def advance(rows: Tensor, points: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        del loss
        return ball.project(rows, points + step_size * ball.steepest(rows, points, gradient))

    return advance
