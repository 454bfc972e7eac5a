"""Fields made of models, and the classifier in the data's own units."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.bounds import bounds_pair
from levelset._tools.checks import check_labels, check_points, integer_labels, row_labels
from levelset._typing import Bounds, FieldLabels, Labels, Logits, PerPoint, Points
from levelset.errors import FieldError, ParameterError, ShapeError

__all__ = ["Classifier", "Component", "LogitDifference", "Margin"]

Bound = float | Sequence[float] | Tensor


class Classifier(nn.Module):
    r"""A model with the box its inputs live in, and its own normalisation inside.

    Everything outside this class speaks the data's own units: points in the bounds go in, logits
    come out. The model sees (x - mean) / std.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        bounds: Smallest and largest value of an input, in the data's own units: numbers, one
            number a channel, `(c,)`, or arrays of the shape of a point.
        mean: Subtracted from the points: one number, or one a channel, `(c,)`.
        std: Divides the points after that: one number, or one a channel, `(c,)`.
        classes: Names of the classes, in the order of the logits.

    Example:
        >>> import torch
        >>> from levelset import Classifier
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        >>> classifier = Classifier(model, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> classifier(torch.zeros(4, 3, 2, 2)).shape
        torch.Size([4, 3])
    """

    mean: Tensor | None
    std: Tensor | None

    @checked
    def __init__(
        self,
        model: nn.Module,
        *,
        bounds: Bounds = (0.0, 1.0),
        mean: Bound | None = None,
        std: Bound | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.bounds = _plain(bounds_pair("Classifier", bounds))
        self.classes = None if classes is None else tuple(classes)
        self.register_buffer("mean", _per_channel("mean", mean), persistent=False)
        self.register_buffer("std", _per_channel("std", std), persistent=False)
        if self.std is not None and not bool((self.std > 0).all()):
            message = f"Classifier: `std` must be positive, got {self.std.flatten().tolist()}."
            raise ParameterError(message)

    def forward(self, points: Points) -> Logits:
        """Return the logits of points in the data's own units."""
        check_points("Classifier", points)
        normal = points
        if self.mean is not None:
            normal = normal - _align("mean", self.mean, points)
        if self.std is not None:
            normal = normal / _align("std", self.std, points)
        logits: Tensor = self.model(normal)
        return logits


class Margin(nn.Module):
    r"""The margin of a classifier, $F(x) = f_y(x) - \max_{j \ne y} f_j(x)$, y the label.

    Positive where the model answers y, negative where it answers something else, zero on the
    boundary of class y (Atzmon et al. 2019, Eq. 1).

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, k at least 2.
    """

    @checked
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Points, labels: Labels | None = None) -> PerPoint:
        """Return the margins `(n,)` of points with labels `(n,)`."""
        if labels is None:
            message = "Margin: `labels` must be given, one class per point, got None."
            raise ParameterError(message)
        logits = _logits("Margin", self.model, points)
        if logits.shape[1] < 2:
            message = (
                f"Margin: `model` must return at least two logits a point, got {logits.shape[1]}. "
                "Turn one logit f into (0, f)."
            )
            raise FieldError(message)
        labels = integer_labels("Margin", labels, points, "labels")
        check_labels("Margin", labels, points, logits.shape[1])
        column = labels.unsqueeze(1)
        rivals = logits.scatter(1, column, -torch.inf)
        return logits.gather(1, column).squeeze(1) - rivals.amax(1)


class LogitDifference(nn.Module):
    r"""The difference of two logits, $F(x) = f_i(x) - f_j(x)$.

    Its zero level set is where classes i and j tie; it is part of the decision boundary only
    where no third class is above both.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        i: The first class, for all points; `None` to take it from the labels.
        j: The second class, for all points; `None` to take it from the labels.
    """

    @checked
    def __init__(self, model: nn.Module, i: int | None = None, j: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.i = i
        self.j = j

    def forward(self, points: Points, labels: FieldLabels = None) -> PerPoint:
        """Return the differences `(n,)`.

        Args:
            points: `(n, *d)`.
            labels: `(n, 2)` with i and j a point where neither was fixed; `(n,)` with the one
                that was not; not needed where both were.
        """
        logits = _logits("LogitDifference", self.model, points)
        if labels is not None and not isinstance(labels, Tensor):
            labels = row_labels("LogitDifference", labels, points, "labels")
        first, second = self._pair(labels, points, logits.shape[1])
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, first] - logits[rows, second]

    def _pair(self, labels: Tensor | None, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
        open_ends = (self.i is None) + (self.j is None)
        shape = {0: None, 1: (len(points),), 2: (len(points), 2)}[open_ends]
        if shape is not None and (labels is None or tuple(labels.shape) != shape):
            got = None if labels is None else tuple(labels.shape)
            message = f"LogitDifference: `labels` must have the shape {shape}, got {got}."
            raise ShapeError(message)
        columns = [] if labels is None or open_ends == 0 else _columns(labels)
        pair = []
        for name, fixed in (("i", self.i), ("j", self.j)):
            if fixed is None:
                check_labels("LogitDifference", columns[0], points, k)
                pair.append(columns.pop(0).long())
            elif 0 <= fixed < k:
                pair.append(torch.full((len(points),), fixed, device=points.device))
            else:
                message = f"LogitDifference: `{name}` must lie in 0 to {k - 1}, got {fixed}."
                raise ParameterError(message)
        return pair[0], pair[1]


class Component(nn.Module):
    r"""One output of a model as a field, $F(x) = f_k(x)$.

    Args:
        model: Maps `(n, *d)` to `(n, l)`.
        k: Which output.
    """

    @checked
    def __init__(self, model: nn.Module, k: int) -> None:
        super().__init__()
        self.model = model
        self.k = k

    def forward(self, points: Points) -> PerPoint:
        """Return output k, `(n,)`."""
        out = _logits("Component", self.model, points)
        if not -out.shape[1] <= self.k < out.shape[1]:
            message = f"Component: `k` must lie in 0 to {out.shape[1] - 1}, got {self.k}."
            raise ParameterError(message)
        return out[:, self.k]


def _logits(function: str, model: Any, points: Tensor) -> Tensor:
    check_points(function, points)
    out = model(points)
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != len(points):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        message = (
            f"{function}: `model` must map points {tuple(points.shape)} to ({len(points)}, k), "
            f"got {got}."
        )
        raise FieldError(message)
    return out


def _plain(pair: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    """Return bounds as numbers where they are the same for all entries of a point."""
    low, high = (float(side) if side.numel() == 1 else side for side in pair)
    return low, high


def _columns(labels: Tensor) -> list[Tensor]:
    return [labels] if labels.dim() == 1 else list(labels.unbind(1))


def _per_channel(name: str, value: Bound | None) -> Tensor | None:
    if value is None:
        return None
    tensor = torch.as_tensor(value, dtype=torch.float32)
    if tensor.dim() > 1:
        message = f"Classifier: `{name}` must be a number or (c,), got {tuple(tensor.shape)}."
        raise ShapeError(message)
    return tensor


def _align(name: str, value: Tensor, points: Tensor) -> Tensor:
    if value.numel() not in (1, points.shape[1]):
        message = (
            f"Classifier: `{name}` must have one number a channel, got {value.numel()} for points "
            f"{tuple(points.shape)}."
        )
        raise ShapeError(message)
    value = value.to(points.dtype)
    return value.view(-1, *[1] * (points.dim() - 2)) if value.dim() == 1 else value
