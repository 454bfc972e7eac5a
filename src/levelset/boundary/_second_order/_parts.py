"""Measuring second derivatives a part of the points at a time, with the field held still."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from levelset._tools.batches import swift_batch
from levelset._tools.checks import check_finite
from levelset._tools.memory import Room
from levelset._tools.modes import frozen
from levelset._tools.random import Streams
from levelset._typing import Field, Progress
from levelset.boundary._second_order._smoothing import Part
from levelset.errors import ShapeError

__all__ = ["check_measurable", "measure", "points_together"]

T = TypeVar("T")


def check_measurable(function: str, points: Tensor, *, least: int = 1, half: bool = False) -> int:
    """Return the size of a point; refuse points that no second derivative can be measured at.

    Args:
        function: Name of the public function at work, for messages.
        points: The points, `(n, *d)`.
        least: How many numbers each must have.
        half: Whether half precision will do, which has neither eigenvalues nor second derivatives
            of gradients to speak of.
    """
    if not half and points.dtype not in (torch.float32, torch.float64):
        message = (
            f"{function}: `points` must be float32 or float64, got {points.dtype}. Convert points "
            "and model with `.float()`."
        )
        raise ShapeError(message)
    check_finite(function, points)
    size = points.new_zeros(1, *points.shape[1:]).numel()
    if size < least:
        message = f"{function}: `points` must have at least two numbers each, got {size}."
        raise ShapeError(message)
    return size


def measure(
    function: str,
    field: Field,
    points: Tensor,
    labels: Tensor | None,
    of_part: Callable[[Part], T],
    *,
    together: int,
    draws: bool,
    generator: torch.Generator | None,
    progress: Progress | None = None,
    tangential: bool = True,
    rows: Tensor | None = None,
) -> list[T]:
    """Return what `of_part` measures of each part of the points, in their order.

    Args:
        function: Name of the public function at work, for messages.
        field: Is held in evaluation mode meanwhile.
        points: Where, `(n, *d)`.
        labels: Passed to the field, a row a point.
        of_part: Measures some points; where they do not fit into memory, half as many.
        together: How many points are tried together.
        draws: Whether random numbers are needed, one stream a point.
        generator: Of the streams; one draw.
        progress: Called after each part.
        tangential: Whether differences are taken along the level set.
        rows: Numbers of the streams, `(n,)`; `None` for 0 to n - 1.
    """
    streams = Streams(generator, points) if draws and len(points) else None
    numbers = torch.arange(len(points), device=points.device) if rows is None else rows

    def measured(cut: slice) -> T:
        some = None if labels is None else labels[cut]
        return of_part(Part(function, field, points[cut], some, numbers[cut], streams, tangential))

    parts = []
    with frozen(field):
        for cut, part in Room(function).batches(len(points), together, measured):
            parts.append(part)
            if progress is not None:
                progress(cut.stop, len(points))
    return parts


def points_together(field: Field, points: Tensor, batch_size: int | None, memory: int) -> int:
    """Return how many points to treat at once, each keeping `kept` numbers in memory."""
    most = max((1 << 27) // max(memory, 1), 1)
    return min(swift_batch(field, points), most, batch_size or most)
