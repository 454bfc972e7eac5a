"""A loss to raise from many points: cross-entropy, margin, or ratio of logit differences."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset._typing import Model
from levelset.attacks._search._problem import Problem
from levelset.errors import FieldError, ParameterError

__all__ = ["AttackLoss", "LossName", "Objective"]

LossName = Literal["cross_entropy", "margin", "ratio"]


class Objective:
    """The loss of a problem: value, gradient, and whether the point is across, in one pass.

    Args:
        problem: What is attacked.
        loss: What to raise.
        least: How far across a point must be to count, in the units of the logits.
        rivals: Classes to go towards, `(n,)`, where any but the label counts all the same; `None`
            for the targets of the problem, if it has any.
    """

    def __init__(
        self,
        problem: Problem,
        loss: LossName,
        least: float = 0.0,
        rivals: Tensor | None = None,
    ) -> None:
        self.problem, self.least = problem, least
        towards = problem.targets if rivals is None else rivals
        self.loss = AttackLoss(
            problem.function,
            problem.model,
            loss,
            targeted=towards is not None,
            classes=problem.logits.shape[1],
            any_class=rivals is not None,
        )
        self.field = Evaluator(problem.function, self.loss, problem.batch_size)
        self.labels = problem.labels
        if towards is not None:
            self.labels = torch.stack([problem.labels, towards], 1)

    def value(self, rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the margins, `(m,)` each."""
        self.problem.forwards[rows] += 1
        loss = self.field.values(points, self.labels[rows]).squeeze(1)
        return loss, self.loss.take_margins()[0]

    def value_and_gradient(
        self, rows: Tensor, points: Tensor, *, check: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss `(m,)`, its gradient, and the margins, `(m,)`.

        A gradient that is not finite is returned as zero, so that its row stays where it is and
        fails alone.

        Raises:
            FieldError: With `check`, if the margin is flat at every point.
        """
        self.problem.forwards[rows] += 1
        self.problem.gradients[rows] += 1
        values, jacobian = self.field.value_and_jacobian(points, self.labels[rows])
        margins, scales = self.loss.take_margins()
        self.problem.note_rounding(rows, points, scales.view(-1, 1, 1) * jacobian)
        gradient = torch.where(jacobian.isfinite().all(2, keepdim=True), jacobian, 0.0)
        gradient = gradient.view_as(points)
        if check and not gradient.any():
            # It may be only the loss that is saturated, which is no fault of the model's.
            self.problem.refuse_flat(rows[margins > 0], points[margins > 0])
        return values.squeeze(1), gradient, margins

    def at(
        self, rows: Tensor, points: Tensor, *, check: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, its gradient, and which points are across; offer those as witnesses."""
        loss, gradient, margins = self.value_and_gradient(rows, points, check=check)
        return loss, gradient, self._offer(rows, points, margins)

    def offer_last(self, rows: Tensor, points: Tensor) -> None:
        """Keep the points after the last step where they are nearest."""
        self._offer(rows, points, self.problem.margin(rows, points))

    def _offer(self, rows: Tensor, points: Tensor, margins: Tensor) -> Tensor:
        """Offer the points that are far enough across; return which are, `(m,)`."""
        margins = torch.where(margins <= -self.least, margins, torch.inf)
        self.problem.offer(rows, points, margins)
        return self.problem.across(rows, margins)


class AttackLoss(nn.Module):
    r"""One number a point, the larger the nearer an attack is to its end.

    With y the label, t the target and $\pi$ the order of the logits from the largest down:

    - `cross_entropy`: $\log \sum_{j \ne y} e^{f_j} - f_y$, or $f_t - \log \sum_{j \ne t} e^{f_j}$:
      the log-odds, which grow with the cross-entropy $-\log p_y$. Its gradient points the same
      way, for the two differ by the factor $1 - p_y$; but it does not vanish where the softmax is
      1 to the last bit, as it is at most inputs of a network that is sure of itself.
    - `margin`: $\max_{j \ne y} f_j - f_y$, or $f_t - \max_{j \ne t} f_j$. Never saturates.
    - `ratio`: $-(f_y - \max_{j \ne y} f_j) / (f_{\pi_1} - f_{\pi_3})$, or
      $-(f_y - f_t) / (f_{\pi_1} - (f_{\pi_3} + f_{\pi_4}) / 2)$: the same whatever the scale and
      shift of the logits (Croce & Hein 2020).

    It also records the margins of the points evaluated last, which spares a forward pass for
    them.

    Args:
        function: Name of the public function at work, for messages.
        model: Maps `(n, *d)` to logits `(n, k)`.
        loss: Which of the three.
        targeted: Whether the labels are `(n, 2)`, label and target, rather than `(n,)`.
        classes: The number k of logits.
        any_class: Whether the margins are those of the label, although there is a target.
    """

    def __init__(
        self,
        function: str,
        model: Model,
        loss: LossName,
        *,
        targeted: bool,
        classes: int,
        any_class: bool = False,
    ) -> None:
        super().__init__()
        if loss not in get_args(LossName):
            names = ", ".join(get_args(LossName))
            message = f"{function}: `loss` must be one of {names}, got {loss!r}."
            raise ParameterError(message)
        least = 4 if targeted else 3
        if loss == "ratio" and 0 < classes < least:
            message = (
                f"{function}: `loss` 'ratio' needs at least {least} classes"
                f"{' with targets' if targeted else ''}, got {classes}. Take 'margin'."
            )
            raise FieldError(message)
        self.model, self.loss, self.targeted = model, loss, targeted
        self.any_class = any_class
        self._margins: list[Tensor] = []
        self._scales: list[Tensor] = []

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """Return the loss `(n,)` of points with labels `(n,)`, or `(n, 2)` if targeted."""
        logits = self.model(points)
        own, target = (labels[:, 0], labels[:, 1]) if self.targeted else (labels, None)
        wanted = own if target is None else target
        lead = _lead(logits, wanted) if target is None else -_lead(logits, wanted)
        margin = _lead(logits.detach(), own) if self.any_class else lead.detach()
        self._margins.append(margin)
        self._scales.append(torch.ones_like(lead))
        if self.loss == "margin":
            return -lead
        if self.loss == "cross_entropy":
            others = logits.scatter(1, wanted.unsqueeze(1), -torch.inf).logsumexp(1)
            odds = others - _of(logits, wanted)
            return odds if target is None else -odds
        ordered = logits.sort(1, descending=True).values
        if target is None:
            spread = _positive(ordered[:, 0] - ordered[:, 2])
            self._scales[-1] = spread.detach()
            return -lead / spread
        spread = _positive(ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2)
        self._scales[-1] = spread.detach()
        return (_of(logits, target) - _of(logits, own)) / spread

    def take_margins(self) -> tuple[Tensor, Tensor]:
        """Return margins and scales of the points evaluated since the last call, `(n,)` each.

        Margins are negative where the attack has succeeded; a loss's gradient times its scale has
        the size of the margin's.
        """
        margins, scales = torch.cat(self._margins), torch.cat(self._scales)
        self._margins.clear()
        self._scales.clear()
        return margins, scales


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def _lead(logits: Tensor, classes: Tensor) -> Tensor:
    """Return by how much the logit of a class is above the largest of the others."""
    others = logits.scatter(1, classes.unsqueeze(1), -torch.inf)
    return _of(logits, classes) - others.amax(1)


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny)
