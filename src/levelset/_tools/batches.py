"""Cutting rows into batches: the caller's, and the size at which a processor runs fastest."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from levelset._tools.modes import modules_of

__all__ = ["row_batches", "swift_batch"]

# Elements of the points in one evaluation. Measured on two CPU cores with ConvNet-4a (784 inputs):
# at 25 to 50 rows a forward and gradient costs 0.16 ms a row, at 100 to 250 rows 0.25 ms, at 1,000
# rows 0.35 ms, because activations leave the cache and their pages go back to the system after
# each call. A network without convolutions keeps little, and gains from tall matrices: more so
# where no gradient is taken.
_CONVOLUTION_ELEMENTS = 39_200
_OTHER_ELEMENTS, _OTHER_ELEMENTS_FORWARD = 262_144, 786_432
_LEAST, _MOST = 8, 16_384


def row_batches(n: int, size: int) -> Iterator[slice]:
    """Yield slices that cover `n` rows, `size` at a time; none for no rows."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def swift_batch(field: Any, points: Tensor, *, gradient: bool = True) -> int:
    """Return how many rows to evaluate at once for speed: all of them off the CPU.

    Args:
        field: What is evaluated; modules among it tell whether it convolves.
        points: The points, `(n, *d)`.
        gradient: Whether gradients are taken too.
    """
    if points.device.type != "cpu":
        return max(len(points), 1)
    modules = (module for root in modules_of(field) for module in root.modules())
    convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in modules)
    other = _OTHER_ELEMENTS if gradient else _OTHER_ELEMENTS_FORWARD
    elements = _CONVOLUTION_ELEMENTS if convolves else other
    width = max(points[0].numel(), 1) if len(points) else 1
    return min(max(elements // width, _LEAST), _MOST)
