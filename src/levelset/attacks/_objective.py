"""A loss to raise from many points, with the witnesses kept on the way: the least-norm attacks'."""

from typing import Literal

import torch
from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset.attacks._losses import AttackLoss, LossName
from levelset.attacks._problem import Problem

__all__ = ["Objective"]


class _LogOdds(AttackLoss):
    r"""The logarithm of the odds against a class, $\log \sum_{j \ne y} e^{f_j} - f_y$.

    Its gradient points the way that the cross-entropy's does, exactly, for the two differ by the
    factor $1 - p_y$. But it does not vanish where the softmax is 1 to the last bit, as it is at
    most inputs of a network that is sure of itself.
    """

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """Return the loss `(n,)` of points with labels `(n,)`, or `(n, 2)` if targeted."""
        logits = self.model(points)
        wanted = (labels[:, 1] if self.targeted else labels).unsqueeze(1)
        own, others = logits.gather(1, wanted).squeeze(1), logits.scatter(1, wanted, -torch.inf)
        sign = -1.0 if self.targeted else 1.0
        self._margins.append(sign * (own - others.amax(1)).detach())
        return sign * (others.logsumexp(1) - own)


class Objective:
    """The loss of a problem: value, gradient, and whether the point is across, in one pass.

    Every point across is offered to the problem, which keeps the nearest of each row.

    Args:
        problem: What is attacked.
        loss: What to raise; `log_odds` for the way of the cross-entropy, without its saturation.
        least: How far across a point must be to count, in the units of the logits.
    """

    def __init__(
        self, problem: Problem, loss: LossName | Literal["log_odds"], least: float = 0.0
    ) -> None:
        self.problem, self.least = problem, least
        targeted = problem.targets is not None
        function, model, classes = problem.function, problem.model, problem.logits.shape[1]
        if loss == "log_odds":
            self.loss: AttackLoss = _LogOdds(
                function, model, "cross_entropy", targeted=targeted, classes=classes
            )
        else:
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
        across = self._is_across(self.loss.take_margins())
        gradient = torch.where(jacobian.isfinite().all(2, keepdim=True), jacobian, 0.0)
        gradient = gradient.view_as(here)
        if check and not gradient.any():
            # It may be only the loss that is saturated, which is no fault of the model's.
            self.problem.refuse_flat(rows[~across], here[~across])
        self.problem.offer(rows, here, across)
        return values.squeeze(1), gradient, across

    def offer_last(self, rows: Tensor, here: Tensor) -> None:
        """Keep the points after the last step where they are nearest."""
        self.problem.offer(rows, here, self._is_across(self.problem.margin(rows, here)))

    def _is_across(self, margins: Tensor) -> Tensor:
        return (margins < 0) & (margins <= -self.least)
