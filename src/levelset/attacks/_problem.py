"""What every attack works on: a model, inputs, labels, a box, and books of what was spent."""

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
from levelset._typing import Bounds
from levelset.attacks._attack import Attack
from levelset.errors import FieldError, ParameterError
from levelset.fields import LogitDifference, Margin, bounds_of

__all__ = ["Problem", "runners_up"]


class Problem:
    """Inputs to be moved across the decision boundary, the best witness so far, and the cost.

    Rows are numbered as in `points`; an attack works on any subset of them. The margin is
    positive while a point is still answered as it should not be: with its label, or, where there
    are targets, with anything but its target.
    """

    def __init__(
        self,
        function: str,
        model: nn.Module,
        points: Tensor,
        labels: Tensor | None,
        *,
        norm: float,
        bounds: Bounds | None = None,
        targets: Tensor | None = None,
        batch_size: int | None = None,
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
        self.logits = Evaluator(function, model, batch_size).values(points)
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
        self.best = self.points.clone()
        self.distance = points.new_full((n,), torch.inf)
        self.distance[self.reached(self.predictions)] = 0.0

    def reached(self, classes: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return which predictions are what the attack wants."""
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
        return values.squeeze(1), jacobian.view_as(points)

    def logits_and_jacobian(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits `(m, k)` of the inputs themselves and `(m, k, e)` derivatives."""
        values, jacobian = Evaluator(self.function, self.model, self.batch_size).value_and_jacobian(
            self.points[rows]
        )
        self.forwards[rows] += 1
        self.gradients[rows] += values.shape[1]
        return values, jacobian

    def difference_and_gradient(
        self, rows: Tensor, points: Tensor, rivals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return f_label - f_rival `(m,)` and its gradient, shaped as the points."""
        self.forwards[rows] += 1
        self.gradients[rows] += 1
        pairs = torch.stack([self.labels[rows], rivals], dim=1)
        field = Evaluator(self.function, LogitDifference(self.model), self.batch_size)
        values, jacobian = field.value_and_jacobian(points, pairs)
        return values.squeeze(1), jacobian.view_as(points)

    def refuse_flat(self, rows: Tensor, points: Tensor) -> None:
        """Raise if the margin has no gradient at any of the points, for an attack that met none."""
        if len(rows) == 0 or self.margin_and_gradient(rows, points)[1].any():
            return
        message = (
            f"{self.function}: `model` must have a gradient to follow, but it is zero for all "
            f"{len(rows)} inputs. Does it round its input, or return labels? Attack it with the "
            "gradient-free `square`."
        )
        raise FieldError(message)

    def clip(self, points: Tensor) -> Tensor:
        """Return the points moved into the box."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def offer(self, rows: Tensor, points: Tensor, reached: Tensor) -> Tensor:
        """Keep the points that reached the other side nearer than before; return which."""
        lengths = norm_of(points - self.points[rows], self.norm)
        better = reached & (lengths < self.distance[rows])
        self.best[rows[better]] = points[better]
        self.distance[rows[better]] = lengths[better]
        return better

    def forget(self, rows: Tensor) -> None:
        """Take back the points kept for `rows`, a mask `(n,)`, as if nothing had been found."""
        self.best[rows] = self.points[rows]
        self.distance[rows] = torch.inf

    def open(self) -> Tensor:
        """Return the rows that were not on the other side to begin with."""
        return (self.distance > 0).nonzero().flatten()

    def result(self, radius: float | None = None) -> Attack:
        """Evaluate the best points once more and return what holds.

        With a `radius`, a point further away than it is no success, and where the attack failed
        its last attempt is returned instead of the input.
        """
        logits = Evaluator(self.function, self.model, self.batch_size).values(self.best)
        self.forwards += 1
        success = self.reached(logits.argmax(1) if logits.shape[1] else self.predictions)
        inside = (self.clip(self.best) == self.best).flatten(1).all(1)
        success = success & inside & logits.isfinite().all(1)
        points, distance = self.best, self.distance
        if radius is None:
            shape = (-1, *[1] * (self.points.dim() - 1))
            points = torch.where(success.view(shape), self.best, self.points)
        else:
            distance = norm_of(self.best - self.points, self.norm)
            success = success & (distance <= radius)
        return Attack(
            points=points,
            success=success,
            distance=torch.where(success, distance, torch.inf),
            evaluations=self.forwards,
            gradients=self.gradients,
            norm=self.norm,
            inputs=self.points,
        )

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


class _Shortfall(Margin):
    """How far a target is from winning: the margin of the target, with the other sign."""

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the largest other logit less that of the target, `(n,)`."""
        return -super().forward(points, labels)


def box_of(
    function: str, model: nn.Module, points: Tensor, bounds: Bounds | None
) -> tuple[Tensor, Tensor]:
    """Return the two sides of the box as tensors that broadcast against the points.

    Where none is given, it is the classifier's own, or 0 to 1.
    """
    if bounds is None:
        bounds = bounds_of(function, model, points.detach())
    return fit_bounds(function, bounds, points)


def runners_up(
    function: str, model: nn.Module, points: Tensor, labels: Tensor | None, batch_size: int | None
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
