"""Training data: checked before the first step, identified by a hash when a run is resumed."""

import warnings
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from levelset._tools.checks import check_finite, check_labels, check_points, check_same_rows
from levelset._tools.digests import checksum
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset.errors import DataError, FieldError, LevelSetWarning, ShapeError

__all__ = ["Examples", "check_examples", "fingerprint", "warn_of_missing"]


@runtime_checkable
class Examples(Protocol):
    """Points with their labels, as the readers of `levelset.datasets` return them."""

    @property
    def points(self) -> Tensor:
        """The inputs, `(n, *d)`, floating point."""

    @property
    def labels(self) -> Tensor:
        """The class of each, `(n,)`, integers from 0."""


def check_examples(model: nn.Module, data: Examples, name: str) -> int:
    """Return the number of classes; refuse data that the model cannot learn from, by rows.

    Raises:
        DataError: If the data are empty, or hold NaN or infinity.
        ShapeError: If points or labels have another shape or dtype, or lie on another device than
            the model.
        ParameterError: If labels are outside the model's classes.
        FieldError: If the model does not map two of the points to `(2, k)`.
    """
    points, labels = data.points, data.labels
    check_points("train", points, f"{name}.points")
    check_same_rows("train", points, labels, f"{name}.labels")
    if len(points) == 0:
        message = f"train: `{name}` must hold at least one point, got none."
        raise DataError(message)
    for what, tensor in (("points", points), ("labels", labels)):
        other = next((p.device for p in model.parameters() if p.device != tensor.device), None)
        if other is not None:
            message = (
                f"train: `{name}.{what}` must be on the device of the model ({other}), got "
                f"{tensor.device}. Move one of the two."
            )
            raise ShapeError(message)
    check_finite("train", points, f"{name}.points")
    with frozen(model):
        logits = Evaluator("train", model).outputs(points[:2])
    if logits.dim() != 2:
        message = (
            "train: `model` must map (n, *d) to logits (n, k), "
            f"got {tuple(logits.shape)} from points {tuple(points[:2].shape)}."
        )
        raise FieldError(message)
    if logits.shape[1] == 1:
        message = (
            "train: `model` must return a logit for each class, got one output a point. Give "
            "`Classifier(model, outputs='logit')`, which returns (0, f), or outputs='probability'."
        )
        raise FieldError(message)
    check_labels("train", labels, points, logits.shape[1])
    return int(logits.shape[1])


def warn_of_missing(data: Examples, classes: int) -> None:
    """Warn where a class that the model can answer has no example, as in a small fraction."""
    counts = torch.bincount(data.labels.flatten().long().cpu(), minlength=classes)
    missing = (counts == 0).nonzero().flatten().tolist()
    if missing:
        names = getattr(data, "classes", ())
        words = [str(names[k]) if k < len(names) else str(k) for k in missing[:5]]
        message = (
            f"train: {len(missing)} of the model's {classes} classes have no example in `data` "
            f"({', '.join(words)}{', ...' * (len(missing) > 5)}), and will not be learnt. Draw a "
            "fraction of each class, or give the model fewer outputs."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=4)


def fingerprint(data: Examples) -> str:
    """Return 16 hexadecimal digits that change with any point or label, or with their order."""
    return checksum("", {"points": data.points, "labels": data.labels})[:16]
