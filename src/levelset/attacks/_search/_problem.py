"""What every attack works on: a model, inputs, labels, a box, and evaluation counts."""

import math

import torch
from torch import Tensor, nn

from levelset._logits import as_logits
from levelset._tools.bounds import fit_bounds
from levelset._tools.checks import (
    check_batch_size,
    check_finite,
    check_labels,
    check_points,
    first_rows,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset._tools.rounding import resolution, rounding
from levelset._typing import Bounds, Model
from levelset.attacks._search._attack import Attack
from levelset.errors import FieldError, NoGradientError, ParameterError
from levelset.fields import LogitDifference, Margin, bounds_of

__all__ = ["Problem", "runners_up"]

# Random points at which a model without gradients at its inputs is differentiated.
_PROBES = 16
# In all but one case in thousands an error is below this multiple of the larger of two draws.
_DRAWN = 5.0
# Most pushes of a witness that is not across when evaluated again; length of the first, in eps.
_PUSHES, _FIRST_PUSH = 8, 16.0


class Problem:
    """Inputs to be moved across the decision boundary, the best witness so far, and the cost.

    Rows are numbered as in `points`; an attack works on any subset of them. The margin is
    positive while a point is still answered as it should not be: with its label, or, where there
    are targets, with anything but its target.

    A witness is a point whose margin is below zero by more than `rounding`, so that no other
    batch or layout puts it back on the side of its input. A nearer point whose margin is zero or
    below, but by less than that, is a tie: it is returned only where there is no witness.

    With `look`, the gradients of the margins at the inputs are taken in the pass that the logits
    need anyway: `slope`, shaped as the points; `None` where the model has none.
    """

    def __init__(
        self,
        function: str,
        model: Model,
        points: Tensor,
        labels: Tensor | None,
        targets: Tensor | None = None,
        norm: float = 2.0,
        bounds: Bounds | None = None,
        batch_size: int | None = None,
        *,
        look: bool = False,
    ) -> None:
        check_points(function, points)
        check_finite(function, points)
        check_batch_size(function, batch_size)
        self.low, self.high = box_of(function, model, points, bounds)
        model = as_logits(function, model, points.detach())
        self.function, self.model, self.norm = function, model, norm
        self.points = points.detach()
        self.batch_size = batch_size
        field = Margin(model) if targets is None else _Shortfall(model)
        self.field = Evaluator(function, field, batch_size)
        n = len(points)
        self.forwards = torch.zeros(n, dtype=torch.int64, device=points.device)
        self.gradients = torch.zeros(n, dtype=torch.int64, device=points.device)
        self.looked = look
        self.slope: Tensor | None = None
        self.logits = self._look(labels) if look else self._outputs()
        self.forwards += 1
        self._check_logits(self.logits)
        k = self.logits.shape[1]
        self.predictions = self.logits.argmax(1) if k else self.forwards.clone()
        self.labels = self.predictions if labels is None else labels.to(points.device)
        check_labels(function, self.labels, points, k)
        self.labels = self.labels.long()
        self.targets = None if targets is None else targets.to(points.device)
        if self.targets is not None:
            self._check_targets(self.targets, k)
            self.targets = self.targets.long()
        rows = torch.arange(n, device=points.device)
        self.margins = self._margins(rows, self.logits)
        self.best = self.points.clone()
        self.distance = points.new_full((n,), torch.inf)
        self.distance[self.reached(self.predictions)] = 0.0
        self.ties = self.points.clone()
        self.tie_distance = points.new_full((n,), torch.inf)
        self.eps = resolution(model, points)
        self.size = self.logits.abs().amax(1) if k else self.distance.clone()
        self.least_rounding = torch.zeros_like(self.distance)
        self.rounding = rounding(torch.zeros_like(self.points), self.points, self.size, self.eps)

    def _outputs(self) -> Tensor:
        return Evaluator(self.function, self.model, self.batch_size).values(self.points)

    def _look(self, labels: Tensor | None) -> Tensor:
        """Return the logits, and take the gradients of the margins in the same pass."""
        n = len(self.points)
        odd = labels is not None and (labels.shape != (n,) or labels.is_floating_point())
        if n == 0 or odd:
            return self._outputs()  # odd labels are refused once the number of classes is known
        first = _FirstLook(self.model)
        field = Evaluator(self.function, first, self.batch_size)
        own = None if labels is None else labels.to(self.points.device).long()
        try:
            _, jacobian = field.value_and_jacobian(self.points, own)
        except NoGradientError:
            return self._outputs()
        logits = torch.cat(first.logits).to(self.points.dtype)
        if len(logits) != n:
            return self._outputs()  # of a model that takes batches of one size, filled up
        self.gradients += 1
        self.slope = jacobian.view_as(self.points)
        return logits

    def reached(self, classes: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return which predictions are the goal of the attack."""
        if self.targets is not None:
            return classes == (self.targets if rows is None else self.targets[rows])
        return classes != (self.labels if rows is None else self.labels[rows])

    def margin(self, rows: Tensor, points: Tensor) -> Tensor:
        """Return the margins `(m,)` of points that belong to `rows`."""
        self.forwards[rows] += 1
        return self.field.values(points, self.anchors(rows)).squeeze(1)

    def classes(self, rows: Tensor, points: Tensor) -> Tensor:
        """Return the classes other than the labels with the highest logits at points, `(m,)`."""
        self.forwards[rows] += 1
        logits = Evaluator(self.function, self.model, self.batch_size).values(points)
        return logits.scatter(1, self.labels[rows].unsqueeze(1), -torch.inf).argmax(1)

    def margin_and_gradient(self, rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins `(m,)` and their gradients, shaped as the points."""
        self.forwards[rows] += 1
        self.gradients[rows] += 1
        values, jacobian = self.field.value_and_jacobian(points, self.anchors(rows))
        self.note_rounding(rows, points, jacobian)
        return values.squeeze(1), jacobian.view_as(points)

    def difference_and_gradient(
        self, rows: Tensor, points: Tensor, rivals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return f_label - f_rival `(m,)` and its gradient, shaped as the points."""
        self.forwards[rows] += 1
        self.gradients[rows] += 1
        pairs = torch.stack([self.labels[rows], rivals], dim=1)
        field = Evaluator(self.function, LogitDifference(self.model), self.batch_size)
        values, jacobian = field.value_and_jacobian(points, pairs)
        self.note_rounding(rows, points, jacobian)
        return values.squeeze(1), jacobian.view_as(points)

    def note_rounding(self, rows: Tensor, points: Tensor, gradient: Tensor) -> None:
        """Set the rounding of the margins of `rows` by their gradient, `(m, *)`, at `points`."""
        there = rounding(gradient.view_as(points), points, self.size[rows], self.eps)
        self.rounding[rows] = torch.maximum(there, self.least_rounding[rows])

    def sample_rounding(self, rows: Tensor, points: Tensor, margin: Tensor) -> None:
        """Raise the rounding of `rows` to what the last bits of `points` change of their margins.

        Where much cancels inside a model, the gradient does not show how coarsely it rounds. Moving
        each entry by its last bit rounds everything anew, and so draws the error once more.
        """
        for share in (1.0 + self.eps, 1.0 - self.eps):
            moved = self.margin(rows, self.clip(points * share)) - margin
            drawn = (_DRAWN * moved.abs()).nan_to_num(0.0, 0.0, 0.0)
            self.least_rounding[rows] = torch.maximum(self.least_rounding[rows], drawn)
        self.rounding[rows] = torch.maximum(self.rounding[rows], self.least_rounding[rows])

    def across(self, rows: Tensor, margin: Tensor) -> Tensor:
        """Return which margins `(m,)` are below zero by more than rounding can undo."""
        return margin <= -self.rounding[rows]

    def refuse_flat(self, rows: Tensor, points: Tensor) -> None:
        """Raise if the model has no gradient anywhere, for an attack that met none at `points`.

        It is the model that is refused, not the inputs: beside them the margin is differentiated
        at random points of the box. Where it has a gradient at one, the inputs fail on their own.
        """
        if len(rows) == 0 or self.margin_and_gradient(rows, points)[1].any():
            return
        anywhere = self._random_points()
        classes = Evaluator(self.function, self.model, self.batch_size).values(anywhere).argmax(1)
        field = Evaluator(self.function, Margin(self.model), self.batch_size)
        if field.value_and_jacobian(anywhere, classes)[1].any():
            return
        message = (
            f"{self.function}: `model` must have a gradient to follow, but it is zero for all "
            f"{len(rows)} inputs, and at {_PROBES} random points. Does it round its input, or "
            "return labels? Attack it with the gradient-free `square`."
        )
        raise NoGradientError(message)

    def _random_points(self) -> Tensor:
        """Return points drawn uniformly from the box, or normally where it has no end."""
        shape = tuple(self.points.shape[1:])
        streams = Streams(torch.Generator().manual_seed(0), self.points)
        rows = torch.arange(_PROBES)
        width = (self.high - self.low).expand(shape)
        inside = self.low + width * streams.uniform(rows, shape)
        return torch.where(width.isfinite(), inside, self.clip(streams.normal(rows, shape)))

    def clip(self, points: Tensor) -> Tensor:
        """Return the points moved into the box."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def offer(self, rows: Tensor, points: Tensor, margin: Tensor) -> Tensor:
        """Keep the points across that are nearer than those before; return which, `(m,)`.

        Args:
            rows: The inputs that the points belong to, `(m,)`.
            points: `(m, *d)`.
            margin: Their margins, `(m,)`.
        """
        lengths = norm_of(points - self.points[rows], self.norm)
        better = self.across(rows, margin) & (lengths < self.distance[rows])
        self.best[rows[better]] = points[better]
        self.distance[rows[better]] = lengths[better]
        tied = (margin <= 0) & (lengths < self.tie_distance[rows])
        self.ties[rows[tied]] = points[tied]
        self.tie_distance[rows[tied]] = lengths[tied]
        return better

    def forget(self, rows: Tensor) -> None:
        """Drop the witnesses of `rows`, a mask `(n,)`."""
        self.best[rows] = self.points[rows]
        self.distance[rows] = self.tie_distance[rows] = torch.inf

    def open(self) -> Tensor:
        """Return the rows that the model classified right, before any attack."""
        return (self.distance > 0).nonzero().flatten()

    def result(self, radius: float | None = None) -> Attack:
        """Evaluate the best points once more and return what holds.

        Without a `radius`, a tie is returned where there is no witness, and a witness that is not
        across when it is evaluated again, beside other points, is pushed further until it is.
        With one, a point further away than it is no success, and where the attack failed its last
        attempt is returned instead of the input.
        """
        if radius is None:
            tied = self.distance.isinf() & self.tie_distance.isfinite()
            self.best[tied], self.distance[tied] = self.ties[tied], self.tie_distance[tied]
        reached, margin, finite = self.judge(torch.arange(len(self.points)), self.best)
        inside = (self.clip(self.best) == self.best).flatten(1).all(1)
        if radius is None:
            level = margin <= self.rounding
            lost = (self.distance.isfinite() & finite & inside & ~reached & ~level).nonzero()
            self.push(lost.flatten(), 2.0 * margin[lost.flatten()])
            reached = reached | (self.distance.isfinite() & level)
            reached[lost.flatten()] = self.distance[lost.flatten()].isfinite()
            inside = (self.clip(self.best) == self.best).flatten(1).all(1)
        else:
            self.distance = norm_of(self.best - self.points, self.norm)
            inside = inside & (self.distance <= radius)
        success = reached & inside & finite
        shape = (-1, *[1] * (self.points.dim() - 1))
        failed = self.points if radius is None else self.best
        return Attack(
            points=torch.where(success.view(shape), self.best, failed),
            success=success,
            distance=torch.where(success, self.distance, torch.inf),
            evaluations=self.forwards,
            gradients=self.gradients,
            norm=self.norm,
            inputs=self.points,
        )

    def judge(self, rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return which points have reached the goal, their margins, and which logits are finite.

        The rows are evaluated from the last to the first, so in other batches than during the
        attack.
        """
        self.forwards[rows] += 1
        rows, points = rows.flip(0), points.flip(0)
        logits = Evaluator(self.function, self.model, self.batch_size).values(points)
        if not logits.shape[1]:
            nothing = logits.new_zeros(0)
            return nothing.bool(), nothing, nothing.bool()
        reached, margin = self.reached(logits.argmax(1), rows), self._margins(rows, logits)
        return reached.flip(0), margin.flip(0), logits.isfinite().all(1).flip(0)

    def _margins(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Return the margins `(m,)` of points that belong to `rows`, by their logits `(m, k)`."""
        if not logits.shape[1]:
            return logits.new_zeros(len(logits))
        anchors = self.anchors(rows).unsqueeze(1)
        others = logits.scatter(1, anchors, -torch.inf).amax(1)
        lead = logits.gather(1, anchors).squeeze(1) - others
        return lead if self.targets is None else -lead

    def push(self, rows: Tensor, depth: Tensor) -> None:
        """Move witnesses outwards until their margins are below minus `depth`, `(m,)`.

        For witnesses that are on the wrong side when evaluated again, or too near the boundary,
        because the model rounds more coarsely than estimated. A row that still fails is given up.
        """
        inputs, delta = self.points[rows], self.best[rows] - self.points[rows]
        self.distance[rows] = torch.inf
        largest = inputs.flatten(1).abs().amax(1) / norm_of(delta, math.inf)
        share = _FIRST_PUSH * self.eps * (1.0 + largest)
        for _ in range(_PUSHES):
            if len(rows) == 0:
                return
            column = (1.0 + share).view(-1, *[1] * (delta.dim() - 1))
            there = self.clip(inputs + column * delta)
            across = self.judge(rows, there)[1] < -depth
            self.best[rows[across]] = there[across]
            self.distance[rows[across]] = norm_of(there - inputs, self.norm)[across]
            left = ~across
            rows, inputs, delta = rows[left], inputs[left], delta[left]
            depth, share = depth[left], 4.0 * share[left]

    def anchors(self, rows: Tensor) -> Tensor:
        """Return the classes that the margin of each row is about: labels, or targets."""
        return self.labels[rows] if self.targets is None else self.targets[rows]

    def _check_logits(self, logits: Tensor) -> None:
        bad = ~logits.isfinite().all(1)
        if bad.any():
            message = (
                f"{self.function}: `model` must return finite logits, got NaN or infinity for "
                f"{int(bad.sum())} of {len(bad)} inputs (first: {first_rows(bad)})."
            )
            raise FieldError(message)

    def _check_targets(self, targets: Tensor, k: int) -> None:
        check_labels(self.function, targets, self.points, k)
        same = targets == self.labels
        if same.any():
            message = (
                f"{self.function}: `targets` must differ from the labels, but {int(same.sum())} "
                f"of {len(same)} are equal (first: {first_rows(same)})."
            )
            raise ParameterError(message)


class _FirstLook(nn.Module):
    """The margin of the labels, or of the predictions without any; it keeps the logits."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.logits: list[Tensor] = []

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the margins `(n,)`."""
        logits = self.model(points)
        own = logits.argmax(1) if labels is None else labels.clamp(0, logits.shape[1] - 1)
        self.logits.append(logits.detach())
        column = own.unsqueeze(1)
        rivals = logits.scatter(1, column, -torch.inf).amax(1)
        return logits.gather(1, column).squeeze(1) - rivals


class _Shortfall(Margin):
    """How far a target is from winning: the margin of the target, with the other sign."""

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the largest other logit less that of the target, `(n,)`."""
        return -super().forward(points, labels)


def box_of(
    function: str, model: Model, points: Tensor, bounds: Bounds | None
) -> tuple[Tensor, Tensor]:
    """Return the two sides of the box as tensors that broadcast against the points.

    Where none is given, it is the classifier's own, or 0 to 1.
    """
    if bounds is None:
        bounds = bounds_of(function, model, points.detach())
    return fit_bounds(function, bounds, points)


def runners_up(
    function: str, model: Model, points: Tensor, labels: Tensor | None, batch_size: int | None
) -> Tensor:
    """Return, for attacks that need targets and were given none, the likeliest other class `(n,)`.

    An input that is misclassified already keeps the class that it is given.
    """
    check_points(function, points)
    check_batch_size(function, batch_size)
    model = as_logits(function, model, points.detach())
    logits = Evaluator(function, model, batch_size).values(points)
    if logits.shape[1] < 2 or len(logits) == 0:
        return torch.zeros(len(points), dtype=torch.int64, device=points.device)
    own = logits.argmax(1) if labels is None else labels
    check_labels(function, own, points, logits.shape[1])
    return logits.scatter(1, own.unsqueeze(1).to(logits.device), -torch.inf).argmax(1)
