"""The box that inputs may fill: read from what the caller gives, and fitted to the points."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from levelset._tools.checks import first_rows, shown
from levelset.errors import ParameterError, ShapeError

__all__ = ["bounds_pair", "check_bounds", "check_sides", "fit_bounds", "read_numbers"]


def bounds_pair(function: str, bounds: Any) -> tuple[Tensor, Tensor]:
    """Return `(low, high)` as tensors of float64, refused unless low < high everywhere.

    Sides of different shapes are compared by `fit_bounds`, which knows the points.

    Each may be a number, a list, an array or a tensor: one value for all entries, `(c,)` with one
    a channel, or the shape of a point. Infinite sides are allowed.
    """
    expected = f"{function}: `bounds` must be (low, high) with low < high"
    pair = bounds if isinstance(bounds, list | tuple | np.ndarray | Tensor) else ()
    if isinstance(pair, np.ndarray | Tensor) and pair.ndim == 0:
        pair = ()
    if len(pair) != 2:
        raise ParameterError(f"{expected}, got {shown(bounds)}.")
    expected_side = "each a number, one number a channel, or an array of the shape of a point"
    low, high = (read_numbers(function, "bounds", side, expected_side) for side in pair)
    high = high.to(low.device)
    if low.isnan().any() or high.isnan().any():
        raise ParameterError(f"{expected}, got ({_short(low)}, {_short(high)}).")
    if low.numel() > 1 and high.numel() > 1 and low.shape != high.shape:
        return low, high  # what they mean, and so their order, depends on the points
    if not bool((low < high).all()):
        got = f"({_short(low)}, {_short(high)})"
        raise ParameterError(f"{expected}, got {got}.")
    return low, high


def check_sides(function: str, bounds: Any) -> Any:
    """Return bounds as they are, `None` too, once they are known to be some."""
    if bounds is not None:
        bounds_pair(function, bounds)
    return bounds


def read_numbers(function: str, name: str, value: Any, expected: str) -> Tensor:
    """Return real numbers of any shape, but at least one, as a tensor of float64."""
    try:
        values = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        values = torch.empty(0)
    plain = values.layout == torch.strided and not values.is_meta
    if not plain or values.is_complex() or values.dtype == torch.bool or values.numel() == 0:
        message = f"{function}: `{name}` must be (low, high), {expected}, got {shown(value)}."
        raise ParameterError(message)
    return values.to(torch.float64)


def _short(side: Tensor) -> str:
    return f"{float(side):g}" if side.numel() == 1 else f"values of the shape {tuple(side.shape)}"


def fit_bounds(function: str, bounds: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sides in the dtype and on the device of points `(n, *d)`, which must lie inside.

    A side is a number `()`, or broadcasts against the points: `(c,)` numbers stand for the
    channels of `(n, c, ...)`.
    """
    pair = (_fitted(function, side, points) for side in bounds_pair(function, bounds))
    low, high = (side.to(points.device, points.dtype) for side in pair)
    if not bool((low < high).all()):  # of different shapes, or closer than the dtype resolves
        got = f"({_short(low)}, {_short(high)}) in {points.dtype}"
        message = f"{function}: `bounds` must be (low, high) with low < high, got {got}."
        raise ParameterError(message)
    check_bounds(function, points, low, high)
    return low, high


def _fitted(function: str, side: Tensor, points: Tensor) -> Tensor:
    """Return a side that broadcasts against the points, the same for all of them."""
    shape = tuple(points.shape[1:])
    if side.numel() == 1:
        return side.reshape(())
    if side.dim() == 1 and len(shape) > 1:
        if len(side) == shape[0]:
            return side.view(-1, *[1] * (len(shape) - 1))
    elif side.dim() == len(shape) + 1 and len(side) == 1:
        return _fitted(function, side[0], points)
    elif side.dim() == len(shape) and _broadcasts(side, shape):
        return side
    channels = f", ({shape[0]},) for one number a channel" if len(shape) > 1 else ""
    message = (
        f"{function}: `bounds` must be numbers{channels}, or of the shape {shape} of a point, "
        f"got the shape {tuple(side.shape)}."
    )
    raise ShapeError(message)


def _broadcasts(side: Tensor, shape: tuple[int, ...]) -> bool:
    return all(own in (1, size) for own, size in zip(side.shape, shape, strict=True))


def check_bounds(function: str, points: Tensor, low: Tensor, high: Tensor) -> None:
    """Refuse points outside `low` to `high`, naming the range of their values."""
    bad = ((points < low) | (points > high)).flatten(1).any(1)
    if bad.any():
        values = f"{float(points.min()):g} to {float(points.max()):g}"
        box = f"{float(low.min()):g} to {float(high.max()):g}"
        message = (
            f"{function}: `points` must lie within the bounds {box}, got values from {values} "
            f"({int(bad.sum())} of {len(bad)} rows; first: {first_rows(bad)}). "
            "Scale the data, or give `bounds=(low, high)` in the data's own units."
        )
        raise ParameterError(message)
