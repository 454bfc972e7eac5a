"""Climbing a loss inside a ball: the loop that all gradient attacks of fixed radius share."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from levelset._tools.checks import check_positive
from levelset._tools.evaluation import Evaluator
from levelset._typing import Progress
from levelset.attacks._attack import Attack
from levelset.attacks._ball import Ball
from levelset.attacks._losses import AttackLoss, LossName
from levelset.attacks._problem import Problem
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
        check_positive(function, "radius", radius)
        if keep not in get_args(Keep):
            names = ", ".join(get_args(Keep))
            message = f"{function}: `keep` must be one of {names}, got {keep!r}."
            raise ParameterError(message)
        self.problem, self.radius, self.keep = problem, radius, keep
        self.ball = Ball(problem, radius)
        targeted = problem.targets is not None
        self.loss = AttackLoss(
            function, problem.model, loss, targeted=targeted, classes=problem.logits.shape[1]
        )
        self.field = Evaluator(function, self.loss, problem.batch_size)
        self.labels = problem.labels
        if problem.targets is not None:
            self.labels = torch.stack([problem.labels, problem.targets], 1)
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
        here: Tensor,
        steps: int,
        advance: Advance,
        progress: Progress | None = None,
    ) -> None:
        """Take `steps` from the points `here` of the inputs `rows`, and keep what they reach."""
        for step in range(steps):
            if len(rows):
                rows, here = self._step(rows, here, advance, check=step == 0)
            if progress is not None:
                progress(step + 1, steps)
        if len(rows):
            self.problem.forwards[rows] += 1
            loss = self.field.values(here, self.labels[rows]).squeeze(1)
            margins, _ = self.loss.take_margins()
            self._offer(rows, here, loss, self.problem.across(rows, margins))

    def result(self) -> Attack:
        """Return the points kept, judged anew."""
        return self.problem.result(self.radius)

    def _step(
        self, rows: Tensor, here: Tensor, advance: Advance, *, check: bool
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the points, keep what is to be kept, and move the rows that stay."""
        loss, gradient, reached = self._evaluate(rows, here, check=check)
        if self.keep != "last":
            self._offer(rows, here, loss, reached)
        if self.keep == "first":
            stay = ~reached
            rows, here, loss, gradient = rows[stay], here[stay], loss[stay], gradient[stay]
        return rows, advance(rows, here, loss, gradient)

    def _evaluate(self, rows: Tensor, here: Tensor, *, check: bool) -> tuple[Tensor, ...]:
        self.problem.forwards[rows] += 1
        self.problem.gradients[rows] += 1
        values, jacobian = self.field.value_and_jacobian(here, self.labels[rows])
        margins, scales = self.loss.take_margins()
        self.problem.note_rounding(rows, here, scales.view(-1, 1, 1) * jacobian)
        reached = self.problem.across(rows, margins)
        # An input with a broken gradient stays where it is, and so fails alone.
        sound = jacobian.isfinite().all(2)
        gradient = torch.where(sound.unsqueeze(2), jacobian, 0.0).view_as(here)
        if check and not gradient.any():
            self.problem.refuse_flat(rows[~reached], here[~reached])
        return values.squeeze(1), gradient, reached

    def _offer(self, rows: Tensor, here: Tensor, loss: Tensor, reached: Tensor) -> None:
        if self.keep == "best":
            before = self.found[rows]
            higher = (reached == before) & (loss > self.highest[rows])
            take = (reached & ~before) | higher
            self.found[rows] |= reached
        else:
            take = torch.ones_like(reached)
            self.found[rows] = reached
        taken = rows[take]
        self.problem.best[taken] = here[take]
        self.highest[taken] = loss[take]


def straight(ball: Ball, step_size: float) -> Advance:
    """Return the rule of a fixed step along the steepest direction, back into the ball."""

    def advance(rows: Tensor, here: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        del loss
        return ball.project(rows, here + step_size * ball.steepest(rows, here, gradient))

    return advance
