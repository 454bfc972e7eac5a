"""Checks of arguments, one sentence a failure: argument, what was expected, what came, remedy."""

import math
from numbers import Integral

import torch
from torch import Tensor

from levelset.errors import DataError, ParameterError, ShapeError

__all__ = [
    "check_at_least_one",
    "check_batch_size",
    "check_bounds",
    "check_finite",
    "check_labels",
    "check_level",
    "check_points",
    "check_positive",
    "check_same_rows",
    "check_whole",
    "first_rows",
]


def first_rows(mask: Tensor, count: int = 3) -> str:
    """Return the first indices where `mask` holds, as they stand in messages."""
    rows = mask.nonzero().flatten()
    shown = ", ".join(str(int(row)) for row in rows[:count])
    return shown + (", ..." if len(rows) > count else "")


def check_points(function: str, points: Tensor, name: str = "points") -> None:
    """Refuse anything but a floating point tensor `(n, *d)` with at least one axis a point."""
    if not isinstance(points, Tensor):
        message = f"{function}: `{name}` must be a torch.Tensor, got {type(points).__name__}."
        raise ShapeError(message)
    if not points.is_floating_point():
        message = (
            f"{function}: `{name}` must be floating point, got {points.dtype}. "
            f"Convert with `{name}.float()`."
        )
        raise ShapeError(message)
    if points.dim() < 2:
        message = f"{function}: `{name}` must have the shape (n, *d), got {tuple(points.shape)}."
        raise ShapeError(message)


def check_finite(function: str, points: Tensor, name: str = "points") -> None:
    """Refuse NaN and infinite entries, naming the rows."""
    bad = ~torch.isfinite(points).flatten(1).all(1)
    if bad.any():
        message = (
            f"{function}: `{name}` must be finite, got NaN or infinity in "
            f"{int(bad.sum())} of {len(bad)} rows (first: {first_rows(bad)})."
        )
        raise DataError(message)


def check_same_rows(function: str, points: Tensor, other: Tensor | None, name: str) -> None:
    """Refuse what is no tensor, or one whose first axis is not that of `points`."""
    if other is not None and not isinstance(other, Tensor):
        message = f"{function}: `{name}` must be a torch.Tensor, got {type(other).__name__}."
        raise ShapeError(message)
    if other is not None and (other.dim() == 0 or len(other) != len(points)):
        message = (
            f"{function}: `{name}` must have one row per point ({len(points)}), "
            f"got {tuple(other.shape)}."
        )
        raise ShapeError(message)


def check_labels(
    function: str, labels: Tensor, points: Tensor, classes: int, name: str = "labels"
) -> None:
    """Refuse labels that are not `(n,)` integers in 0 to `classes` - 1."""
    check_same_rows(function, points, labels, name)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        message = f"{function}: `{name}` must be integers, got {labels.dtype}."
        raise ShapeError(message)
    if labels.dim() != 1:
        message = f"{function}: `{name}` must have the shape (n,), got {tuple(labels.shape)}."
        raise ShapeError(message)
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        worst = int(labels[bad][0])
        message = (
            f"{function}: `{name}` must lie in 0 to {classes - 1}, got {worst} "
            f"({int(bad.sum())} of {len(bad)} rows; first: {first_rows(bad)})."
        )
        raise ParameterError(message)


def check_positive(function: str, name: str, value: int | float) -> None:
    """Refuse an option that is not a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        message = f"{function}: `{name}` must be positive, got {value}."
        raise ParameterError(message)


def check_at_least_one(function: str, name: str, value: int | float) -> None:
    """Refuse a count below 1, NaN and infinity."""
    if not (math.isfinite(value) and value >= 1):
        message = f"{function}: `{name}` must be at least 1, got {value}."
        raise ParameterError(message)


def check_whole(function: str, name: str, value: object, *, at_least: int = 1) -> None:
    """Refuse what is not an integer of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < at_least:
        message = f"{function}: `{name}` must be an integer of at least {at_least}, got {value!r}."
        raise ParameterError(message)


def check_level(function: str, level: float) -> None:
    """Refuse a level that is not a finite number."""
    if not math.isfinite(level):
        message = f"{function}: `level` must be finite, got {level}."
        raise ParameterError(message)


def check_batch_size(function: str, batch_size: int | None) -> None:
    """Refuse a batch size below 1."""
    if batch_size is not None and batch_size < 1:
        message = f"{function}: `batch_size` must be at least 1, or None, got {batch_size}."
        raise ParameterError(message)


def check_bounds(function: str, points: Tensor, low: Tensor, high: Tensor) -> None:
    """Refuse points outside `low` to `high`, naming the range that was found."""
    bad = ((points < low) | (points > high)).flatten(1).any(1)
    if bad.any():
        found = f"{float(points.min()):g} to {float(points.max()):g}"
        box = f"{float(low.min()):g} to {float(high.max()):g}"
        message = (
            f"{function}: `points` must lie within the bounds {box}, got values from {found} "
            f"({int(bad.sum())} of {len(bad)} rows; first: {first_rows(bad)}). "
            "Scale the data, or give `bounds=(low, high)` in the data's own units."
        )
        raise ParameterError(message)
