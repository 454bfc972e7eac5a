"""A loss to raise from many points, with the witnesses kept on the way: the least-norm attacks'."""

import torch
from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset.attacks._losses import AttackLoss, LossName
from levelset.attacks._problem import Problem

__all__ = ["Objective"]


class Objective:
    """The loss of a problem: value, gradient, and whether the point is across, in one pass.

    Every point across is offered to the problem, which keeps the nearest of each row.

    Args:
        problem: What is attacked.
        loss: What to raise.
        least: How far across a point must be to count, in the units of the logits.
    """

    def __init__(self, problem: Problem, loss: LossName, least: float = 0.0) -> None:
        self.problem, self.least = problem, least
        targeted = problem.targets is not None
        function, model, classes = problem.function, problem.model, problem.logits.shape[1]
        self.loss = AttackLoss(function, model, loss, targeted=targeted, classes=classes)
        self.field = Evaluator(problem.function, self.loss, problem.batch_size)
        self.labels = problem.labels
        if problem.targets is not None:
            self.labels = torch.stack([problem.labels, problem.targets], 1)

    def at(
        self, rows: Tensor, here: Tensor, *, check: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss `(m,)`, its gradient, and which points are across, `(m,)`.

        A gradient that is not finite is returned as zero, so that its row stays where it is and
        fails alone.

        Raises:
            FieldError: With `check`, if the margin is flat at every point.
        """
        self.problem.forwards[rows] += 1
        self.problem.gradients[rows] += 1
        values, jacobian = self.field.value_and_jacobian(here, self.labels[rows])
        margins, scales = self.loss.take_margins()
        self.problem.note_rounding(rows, here, scales.view(-1, 1, 1) * jacobian)
        gradient = torch.where(jacobian.isfinite().all(2, keepdim=True), jacobian, 0.0)
        gradient = gradient.view_as(here)
        if check and not gradient.any():
            # It may be only the loss that is saturated, which is no fault of the model's.
            self.problem.refuse_flat(rows[margins > 0], here[margins > 0])
        return values.squeeze(1), gradient, self._offer(rows, here, margins)

    def offer_last(self, rows: Tensor, here: Tensor) -> None:
        """Keep the points after the last step where they are nearest."""
        self._offer(rows, here, self.problem.margin(rows, here))

    def _offer(self, rows: Tensor, here: Tensor, margins: Tensor) -> Tensor:
        """Offer the points that are far enough across; return which are, `(m,)`."""
        margins = torch.where(margins <= -self.least, margins, torch.inf)
        self.problem.offer(rows, here, margins)
        return self.problem.across(rows, margins)
