"""Checks of arguments, one sentence a failure: argument, what was expected, what came, remedy."""

import inspect
import math
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from levelset.errors import DataError, ParameterError, ShapeError

__all__ = [
    "check_at_least_one",
    "check_batch_size",
    "check_callable",
    "check_choice",
    "check_columns",
    "check_finite",
    "check_instance",
    "check_labels",
    "check_level",
    "check_number",
    "check_path",
    "check_points",
    "check_positive",
    "check_same_rows",
    "check_tensor",
    "check_whole",
    "first_rows",
    "integer_labels",
    "row_labels",
    "shown",
]

# The largest integer that torch and the files take.
_LARGEST = 2**63 - 1


def first_rows(mask: Tensor, count: int = 3) -> str:
    """Return the first indices where `mask` holds, as they stand in messages."""
    rows = mask.nonzero().flatten()
    shown = ", ".join(str(int(row)) for row in rows[:count])
    return shown + (", ..." if len(rows) > count else "")


def shown(value: object) -> str:
    """Return a value as messages show it: short values as typed, others by type and shape."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.ndim):
        return f"{type(value).__name__} of shape {tuple(value.shape)} and {value.dtype}"
    if value is None or isinstance(value, str | bytes | int | float | complex | np.generic):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return type(value).__name__


def check_tensor(function: str, tensor: Any, name: str) -> Tensor:
    """Refuse anything but a dense tensor that has values."""
    if not isinstance(tensor, Tensor):
        hint = f" Convert with `torch.as_tensor({name})`." if _is_array(tensor) else ""
        kind = shown(tensor) if isinstance(tensor, type) else type(tensor).__name__
        message = f"{function}: `{name}` must be a torch.Tensor, got {kind}.{hint}"
        raise ShapeError(message)
    if tensor.layout != torch.strided:
        remedy = f"Convert with `{name}.to_dense()`."
        message = f"{function}: `{name}` must be a dense tensor, got {tensor.layout}. {remedy}"
        raise ShapeError(message)
    if tensor.is_meta:
        message = f"{function}: `{name}` must hold values, got a tensor on the meta device."
        raise ShapeError(message)
    return tensor


def check_points(function: str, points: Any, name: str = "points") -> Tensor:
    """Refuse anything but a floating point tensor `(n, *d)` with at least one axis a point."""
    check_tensor(function, points, name)
    if not points.is_floating_point():
        message = (
            f"{function}: `{name}` must be floating point, got {points.dtype}. "
            f"Convert with `{name}.float()`."
        )
        raise ShapeError(message)
    if points.dim() < 2:
        message = f"{function}: `{name}` must have the shape (n, *d), got {tuple(points.shape)}."
        raise ShapeError(message)
    return points


def check_columns(
    function: str, points: Tensor, columns: int | None = None, name: str = "points"
) -> None:
    """Refuse points other than `(n, columns)`; `None` for any number of columns but none."""
    if points.dim() != 2 or points.shape[1] != (columns or max(points.shape[1], 1)):
        shape = f"(n, {columns or 'd'})"
        got = f"got {tuple(points.shape)}."
        raise ShapeError(f"{function}: `{name}` must have the shape {shape}, {got}")


def check_finite(function: str, points: Tensor, name: str = "points") -> None:
    """Refuse NaN and infinite entries, naming the rows."""
    if torch.isfinite(points.sum()):  # a tenth of the time; a sum may be infinite without one
        return
    bad = ~torch.isfinite(points).flatten(1).all(1)
    if bad.any():
        message = (
            f"{function}: `{name}` must be finite, got NaN or infinity in "
            f"{int(bad.sum())} of {len(bad)} rows (first: {first_rows(bad)})."
        )
        raise DataError(message)


def check_same_rows(function: str, points: Tensor, other: Any, name: str) -> None:
    """Refuse what is no tensor, or one whose first axis is not that of `points`."""
    if other is None:
        return
    check_tensor(function, other, name)
    if other.dim() == 0 or len(other) != len(points):
        message = (
            f"{function}: `{name}` must have one row per point ({len(points)}), "
            f"got {tuple(other.shape)}."
        )
        raise ShapeError(message)


def row_labels(function: str, labels: Any, points: Tensor | None, name: str) -> Tensor:
    """Return what a field takes with each point as a tensor `(n, ...)` beside the points.

    Tensors stay as they are; arrays and lists are converted, and one integer is meant for all.
    """
    tensor = _as_tensor(function, labels, points, name)
    if points is None:
        return tensor
    if tensor.dim() == 0:
        tensor = tensor.repeat(len(points))
    check_same_rows(function, points, tensor, name)
    return tensor.to(points.device)


def integer_labels(function: str, labels: Any, points: Tensor | None, name: str) -> Tensor:
    """Return labels as a tensor `(n,)` of int64 beside the points.

    Integers of any width, in tensors, arrays and lists, are taken; one integer is meant for all
    points.
    """
    tensor = _as_tensor(function, labels, points, name)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        message = (
            f"{function}: `{name}` must be integers, got {tensor.dtype}. "
            f"Convert with `{name}.long()` if these are class numbers."
        )
        raise ShapeError(message)
    tensor = row_labels(function, tensor, points, name)
    if tensor.dim() != 1:
        message = f"{function}: `{name}` must have the shape (n,), got {tuple(tensor.shape)}."
        raise ShapeError(message)
    return tensor.to(torch.int64)


def _as_tensor(function: str, values: Any, points: Tensor | None, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return check_tensor(function, values, name)
    whole = isinstance(values, Integral) and not isinstance(values, bool) and points is not None
    if not whole and not _is_array(values):
        expected = "a tensor, array or list of one label per point"
        expected += ", or one integer for all" if points is not None else ""
        message = f"{function}: `{name}` must be {expected}, got {shown(values)}."
        raise ShapeError(message)
    try:
        # Through numpy, which refuses ragged lists, texts and what overflows in one way.
        array = np.array(values)  # a copy, for arrays that are read-only
        empty = array.size == 0 and not isinstance(values, np.ndarray)
        return torch.as_tensor(array.astype(np.int64) if empty else array)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        message = f"{function}: `{name}` must be numbers, one row per point: {error}."
        raise ShapeError(message) from error


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | list | tuple)


def check_labels(
    function: str, labels: Tensor, points: Tensor, classes: int, name: str = "labels"
) -> None:
    """Refuse labels that are not `(n,)` integers in 0 to `classes` - 1."""
    labels = integer_labels(function, labels, points, name)
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        worst = int(labels[bad][0])
        message = (
            f"{function}: `{name}` must lie in 0 to {classes - 1}, got {worst} "
            f"({int(bad.sum())} of {len(bad)} rows; first: {first_rows(bad)}). "
            f"The model tells {classes} classes apart, counted from 0."
        )
        raise ParameterError(message)


def check_number(function: str, name: str, value: Any) -> float:
    """Return a real number as a float; tensors of one entry are taken too.

    NaN passes: it is in no range, so that a check of the range refuses it in its own words.
    """
    single = _single(value)
    if isinstance(single, Real) and not isinstance(single, bool):
        try:
            return float(single)
        except OverflowError:  # an integer beyond the largest float
            pass
    message = f"{function}: `{name}` must be a number, got {shown(value)}."
    raise ParameterError(message)


def check_whole(function: str, name: str, value: Any, *, at_least: int | None = 1) -> int:
    """Return an integer of at least `at_least`; tensors of one integer are taken too."""
    single = _single(value)
    least = -_LARGEST if at_least is None else at_least
    whole = isinstance(single, Integral) and not isinstance(single, bool)
    if whole and least <= int(single) <= _LARGEST:
        return int(single)
    limit = "" if at_least is None else f" of at least {at_least}"
    limit = f" below {_LARGEST:.2g}" if whole and int(single) > _LARGEST else limit
    message = f"{function}: `{name}` must be an integer{limit}, got {shown(value)}."
    raise ParameterError(message)


def _single(value: Any) -> Any:
    """Return the Python number inside a tensor or array without axes; anything else as it is."""
    if isinstance(value, Tensor) and value.dim() == 0 and not value.is_meta:
        return value.detach().item() if value.layout == torch.strided else value
    if isinstance(value, np.bool_) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value


def check_choice(function: str, name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Return a value that is one of those `allowed`."""
    options = tuple(allowed)
    if not isinstance(value, str | int) or value not in options:
        names = ", ".join(str(option) for option in options)
        message = f"{function}: `{name}` must be one of {names}, got {shown(value)}."
        raise ParameterError(message)
    return value


def check_callable(
    function: str, name: str, value: Any, arguments: tuple[str, ...] | None = None
) -> Any:
    """Return a callable; refuse a class, and what does not take the `arguments` of a call."""
    if not callable(value) or isinstance(value, type):
        message = f"{function}: `{name}` must be callable, got {shown(value)}."
        raise ParameterError(message)
    if arguments is not None and not _takes(value, len(arguments)):
        call = f"{name}({', '.join(arguments)})"
        message = (
            f"{function}: `{name}` must take {len(arguments)} argument"
            f"{'s' * (len(arguments) > 1)}, as in `{call}`, got a callable that does not."
        )
        raise ParameterError(message)
    return value


def _takes(value: Callable[..., Any], count: int) -> bool:
    try:
        # A module's own signature is that of any call: its `forward` knows better.
        called = getattr(value, "forward", value) if isinstance(value, nn.Module) else value
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # builtins that do not say
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def check_instance(function: str, name: str, value: Any, kind: type) -> Any:
    """Return an instance of a class; refuse anything else."""
    if not isinstance(value, kind):
        hint = f" Call it: `{value.__name__}(...)`." if value is kind else ""
        article = "an" if kind.__name__[0].lower() in "aeiou" else "a"
        message = f"{function}: `{name}` must be {article} {kind.__name__}, got "
        raise ParameterError(message + f"{shown(value)}.{hint}")
    return value


def check_path(function: str, name: str, value: Any) -> Any:
    """Return what may name a file or folder; refuse anything else."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        message = f"{function}: `{name}` must be a path, as text or pathlib.Path, got "
        raise ParameterError(message + f"{shown(value)}.")
    return value


def check_positive(function: str, name: str, value: int | float) -> None:
    """Refuse an option that is not a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        message = f"{function}: `{name}` must be positive, got {value}."
        raise ParameterError(message)


def check_at_least_one(function: str, name: str, value: int | float) -> None:
    """Refuse a number below 1, NaN and infinity."""
    if not (math.isfinite(value) and value >= 1):
        message = f"{function}: `{name}` must be at least 1, got {value}."
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
