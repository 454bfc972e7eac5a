"""The plane that is drawn: its axes, its rectangle, and the models on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from levelset._tools.calling import FAILURES, Caller, tensor_of
from levelset._tools.checks import check_finite, check_points
from levelset._tools.modes import frozen
from levelset._typing import Floats
from levelset.errors import LevelSetError, ParameterError, ShapeError

__all__ = ["Extent", "Frame", "Rectangle", "batch_of", "read_frame"]

Extent: TypeAlias = float | Sequence[Sequence[float]]
"""Half the side of a square round the origin, or `((left, right), (bottom, top))`."""

Rectangle: TypeAlias = tuple[tuple[float, float], tuple[float, float]]
"""`((left, right), (bottom, top))`."""

# The sine of the angle between the axes below which they count as parallel.
_PARALLEL = 1e-9


@dataclass(frozen=True, eq=False)
class Frame:
    """A rectangle of the plane of points origin + x u + y v.

    Attributes:
        origin: `(1, *d)`, in float64, as the axes.
        u: First axis, `(1, *d)`.
        v: Second axis, `(1, *d)`.
        low: Its lower left corner, `(2,)`.
        high: Its upper right corner, `(2,)`.
        like: An empty tensor `(0, *d)` in the dtype and on the device of the caller's.
    """

    origin: Tensor
    u: Tensor
    v: Tensor
    low: tuple[float, float]
    high: tuple[float, float]
    like: Tensor

    @property
    def corners(self) -> Floats:
        """The four corners, counter-clockwise, `(4, 2)`."""
        (left, bottom), (right, top) = self.low, self.high
        return np.array([[left, bottom], [right, bottom], [right, top], [left, top]])

    @property
    def metric(self) -> Floats:
        """The scalar products of the axes, `(2, 2)`."""
        axes = torch.cat([self.u, self.v]).flatten(1)
        return (axes @ axes.T).cpu().numpy()

    @property
    def basis(self) -> Tensor:
        """Origin and axes, `(3, *d)`."""
        return torch.cat([self.origin, self.u, self.v])

    def points(self, places: Tensor) -> Tensor:
        """Return the points at places `(n, 2)`, `(n, *d)` in float64."""
        flat = self.basis.flatten(1)
        moved = flat[0] + places.to(flat) @ flat[1:]
        return moved.view(-1, *self.origin.shape[1:])


def read_frame(
    function: str, model: Any, origin: Tensor, u: Tensor, v: Tensor, extent: Extent
) -> Frame:
    """Return a plane from the arguments of a caller.

    Args:
        function: Name of the public function at work, for messages.
        model: What takes the points; it settles whether the first axis counts points.
        origin: `(*d)` or `(1, *d)`.
        u: First axis, shaped alike.
        v: Second axis, shaped alike.
        extent: The rectangle.

    Raises:
        ShapeError: If the shapes differ.
        DataError: If one is not finite.
        ParameterError: If the axes are parallel, or the rectangle is empty.
        FieldError: If the model does not take such points.
    """
    for name, each in (("origin", origin), ("u", u), ("v", v)):
        check_points(function, each.unsqueeze(0), name)
        check_finite(function, each.unsqueeze(0), name)
        if each.shape != origin.shape:
            message = (
                f"{function}: `{name}` must have the shape of `origin`, {tuple(origin.shape)}, got "
                f"{tuple(each.shape)}."
            )
            raise ShapeError(message)
    check_axes(function, u, v)
    low, high = _rectangle(function, extent)
    origin, u, v = batch_of(function, model, origin.detach(), u.detach(), v.detach())
    like = origin[:0]
    return Frame(origin.double(), u.double(), v.double(), low, high, like)


def batch_of(function: str, model: Any, *points: Tensor) -> tuple[Tensor, ...]:
    """Return points `(*d)` as batches of one, `(1, *d)`, and such batches as they are.

    A first axis of length 1 belongs to a point if the model takes it so.
    """
    batches = tuple(point.unsqueeze(0) for point in points)
    first = batches[0]
    if first.shape[1] == 1 and first.dim() > 2 and not _takes(function, model, first):
        return points
    return batches


def check_axes(function: str, u: Tensor, v: Tensor) -> None:
    """Refuse directions that span no plane."""
    one, other = (each.detach().double().flatten() for each in (u, v))
    if not bool(one.any()) or not bool(other.any()):
        message = f"{function}: `{'v' if bool(one.any()) else 'u'}` must not be zero."
        raise ParameterError(message)
    one, other = one / one.norm(), other / other.norm()
    sine = float((other - (one @ other) * one).norm())
    if sine < _PARALLEL:
        message = (
            f"{function}: `u` and `v` must span a plane, got parallel directions (the sine of "
            f"their angle is {sine:.1g}). For the plane of three points a, b, c take b - a and "
            "c - a, of points that are not in line."
        )
        raise ParameterError(message)


def _rectangle(function: str, extent: Extent) -> tuple[tuple[float, float], tuple[float, float]]:
    if isinstance(extent, float | int):
        if not (math.isfinite(extent) and extent > 0):
            message = f"{function}: `extent` must be positive, got {extent}."
            raise ParameterError(message)
        return (-float(extent), -float(extent)), (float(extent), float(extent))
    try:
        (left, right), (bottom, top) = (map(float, pair) for pair in extent)
    except (TypeError, ValueError):
        left = right = bottom = top = math.nan
    if not (math.isfinite(left + right + bottom + top) and left < right and bottom < top):
        message = (
            f"{function}: `extent` must be a number, half the side of a square round the origin, "
            f"or ((left, right), (bottom, top)), each pair in order, got {extent!r}."
        )
        raise ParameterError(message)
    return (left, bottom), (right, top)


def _takes(function: str, model: Any, points: Tensor) -> bool:
    """Return whether a model returns a row a point."""
    try:
        with torch.no_grad(), frozen(model):
            out = tensor_of(function, "model", Caller(function, model)(points), 1)
    except (*FAILURES, LevelSetError):
        return False
    return out.dim() in (1, 2) and len(out) == 1
