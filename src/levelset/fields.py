"""Fields made of models, and the classifier in the data's own units."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levelset._logits import AsLogits, Outputs, Reader, margin_of
from levelset._tools.arguments import checked
from levelset._tools.bounds import bounds_pair
from levelset._tools.calling import tensor_of
from levelset._tools.checks import check_labels, check_points, integer_labels, row_labels
from levelset._tools.modes import modules_of
from levelset._typing import Bounds, FieldLabels, Labels, Model, PerPoint, Points
from levelset.errors import FieldError, ParameterError, ShapeError

__all__ = ["Classifier", "Component", "LogitDifference", "Margin"]

Bound = float | Sequence[float] | Tensor


class Classifier(AsLogits):
    r"""A model with the box its inputs live in, its normalisation inside, and logits outside.

    Everything outside this class speaks the data's own units: points in the bounds go in, logits
    `(n, k)` come out. The model sees (x - mean) / std.

    A model with one output a point is a binary classifier. Its logit f becomes the logits (0, f):
    class 1 is where f > 0. Its probability p becomes (0, log p - log(1 - p)): class 1 is where
    p > 1/2. Rows of probabilities become their logarithms. Where the last function that the model
    calls is a sigmoid or a softmax, the logits are the input of that, so that nothing saturates.

    With `outputs=None` this is found out at the first call: by that last function; else by the
    outputs, which are probabilities where they are never negative and sum to 1, or, one a point,
    lie between 0 and 1, at the first points and on eight patterns of sizes 1 and 1,000. Every
    function that takes a classifier does the same.

    Args:
        model: Maps `(n, *d)` to logits or probabilities `(n, k)`, or, with one output, `(n,)` or
            `(n, 1)`; or to an object that has these as `logits`.
        bounds: Smallest and largest value of an input, in the data's own units: numbers, one
            number a channel, `(c,)`, or arrays of the shape of a point.
        mean: Subtracted from the points: one number, or one a channel, `(c,)`.
        std: Divides the points after that: one number, or one a channel, `(c,)`.
        classes: Names of the classes, in the order of the logits.
        outputs: What the model returns: `logits`, `logit`, `probabilities` or `probability`;
            `None` to find out, with a warning where they are probabilities.

    Raises:
        FieldError: From a call, if the model returns something else.

    Warns:
        LevelSetWarning: At the first call, if the model is found to return probabilities.

    Example:
        >>> import torch
        >>> from levelset import Classifier
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        >>> classifier = Classifier(model, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> classifier(torch.zeros(4, 3, 2, 2)).shape
        torch.Size([4, 3])
        >>> binary = torch.nn.Sequential(torch.nn.Linear(12, 1), torch.nn.Sigmoid())
        >>> Classifier(binary, outputs="probability")(torch.zeros(4, 12)).shape
        torch.Size([4, 2])
    """

    mean: Tensor | None
    std: Tensor | None

    @checked
    def __init__(
        self,
        model: Model,
        *,
        bounds: Bounds = (0.0, 1.0),
        mean: Bound | None = None,
        std: Bound | None = None,
        classes: Sequence[str] | None = None,
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__(model, outputs)
        self.bounds = _plain(bounds_pair("Classifier", bounds))
        self.classes = None if classes is None else tuple(classes)
        self.register_buffer("mean", _per_channel("mean", mean), persistent=False)
        self.register_buffer("std", _per_channel("std", std), persistent=False)
        if self.std is not None and not bool((self.std > 0).all()):
            message = f"Classifier: `std` must be positive, got {self.std.flatten().tolist()}."
            raise ParameterError(message)

    def read(self, function: str, points: Tensor) -> Tensor:
        """Return the logits of points in the data's own units; `function` is for messages."""
        check_points(function, points)
        return super().read(function, self.normalised(points))

    def normalised(self, points: Tensor) -> Tensor:
        """Return points as the model sees them, (x - mean) / std."""
        if self.mean is not None:
            points = points - _align("mean", self.mean, points)
        if self.std is not None:
            points = points / _align("std", self.std, points)
        return points


class Margin(nn.Module):
    r"""The margin of a classifier, $F(x) = f_y(x) - \max_{j \ne y} f_j(x)$, y the label.

    Positive where the model answers y, negative where it answers something else, zero on the
    boundary of class y (Atzmon et al. 2019, Eq. 1).

    Args:
        model: Any classifier: one output or several, logits or probabilities, as
            [`Classifier`][levelset.Classifier] reads them.
    """

    @checked
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self._reader = Reader()

    def forward(self, points: Points, labels: Labels | None = None) -> PerPoint:
        """Return the margins `(n,)` of points with labels `(n,)`."""
        if labels is None:
            message = "Margin: `labels` must be given, one class per point, got None."
            raise ParameterError(message)
        logits = _logits("Margin", self, points)
        labels = integer_labels("Margin", labels, points, "labels")
        check_labels("Margin", labels, points, logits.shape[1])
        return margin_of(logits, labels)


class LogitDifference(nn.Module):
    r"""The difference of two logits, $F(x) = f_i(x) - f_j(x)$.

    Its zero level set is where classes i and j tie; it is part of the decision boundary only
    where no third class is above both.

    Args:
        model: Any classifier, as for [`Margin`][levelset.Margin]; of one with a single output f
            the logits are (0, f).
        i: The first class, for all points; `None` to take it from the labels.
        j: The second class, for all points; `None` to take it from the labels.
    """

    @checked
    def __init__(self, model: Model, i: int | None = None, j: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.i = i
        self.j = j
        self._reader = Reader()

    def forward(self, points: Points, labels: FieldLabels = None) -> PerPoint:
        """Return the differences `(n,)`.

        Args:
            points: `(n, *d)`.
            labels: `(n, 2)` with i and j a point where neither was fixed; `(n,)` with the one
                that was not; not needed where both were.
        """
        logits = _logits("LogitDifference", self, points)
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
        model: Maps `(n, *d)` to `(n, l)`, or to `(n,)` for one output. Taken as they are: no
            probability is turned into a logit.
        k: Which output.
    """

    @checked
    def __init__(self, model: Model, k: int) -> None:
        super().__init__()
        self.model = model
        self.k = k

    def forward(self, points: Points) -> PerPoint:
        """Return output k, `(n,)`."""
        check_points("Component", points)
        copies = points.clone()  # a model may write into its input
        out = tensor_of("Component", "model", self.model(copies), len(points))
        if out.dim() not in (1, 2) or len(out) != len(points):
            message = (
                f"Component: `model` must map points {tuple(points.shape)} to ({len(points)}, k), "
                f"got {tuple(out.shape)}."
            )
            raise FieldError(message)
        out = out.unsqueeze(1) if out.dim() == 1 else out
        if not -out.shape[1] <= self.k < out.shape[1]:
            message = f"Component: `k` must lie in 0 to {out.shape[1] - 1}, got {self.k}."
            raise ParameterError(message)
        return out[:, self.k]


def _logits(function: str, field: Margin | LogitDifference, points: Tensor) -> Tensor:
    """Return the logits `(n, k)` of the model of a field."""
    check_points(function, points)
    logits = field._reader(function, field.model, points)
    if not logits.is_floating_point():
        message = f"{function}: `model` must return floating-point logits, got {logits.dtype}."
        raise FieldError(message)
    return logits


def bounds_of(function: str, model: Any, points: Tensor) -> tuple[Any, Any]:
    """Return the bounds of the classifier that a model is or wraps; (0, 1) if there is none.

    A classifier inside a wrapper has bounds in the units of the points if it is handed the points
    themselves, which one call of the wrapper shows.

    Raises:
        ParameterError: If a classifier inside is handed something else, as behind a normalisation,
            or two that are inside have different bounds.
    """
    inside = [m for root in modules_of(model) for m in root.modules() if isinstance(m, Classifier)]
    if isinstance(model, Classifier):
        return model.bounds
    if not inside:
        return (0.0, 1.0)
    shown = [c.bounds for c in inside if _is_shown(c, model, points[:1])]
    if len(shown) == len(inside) and all(_same(bounds, shown[0]) for bounds in shown):
        return shown[0]
    message = (
        f"{function}: `bounds` must be given for a model that has a Classifier inside which does "
        f"not see the points as they are, so that its bounds {inside[0].bounds} are in other "
        "units. Say `bounds=(low, high)` in the units of the points, or make Classifier the "
        "outermost module."
    )
    raise ParameterError(message)


def _is_shown(classifier: Classifier, model: Any, points: Tensor) -> bool:
    """Return whether a classifier inside a model is called with the points themselves."""
    seen: list[Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    try:
        with torch.no_grad():
            model(points.clone())
    finally:
        hook.remove()
    return bool(seen) and all(
        s.shape == points.shape and torch.equal(s.to(points.dtype), points) for s in seen
    )


def _same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return all(
        torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(one, other, strict=True)
    )


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
