"""Where the searches of losses ended about each input, to go on from there an epoch later."""

from collections.abc import Mapping

import torch
from torch import Tensor

from levelset.training._augmentation import Moved

__all__ = ["Starts"]

_PREFIX = "starts."


class Starts:
    """The last end of every search, one a training input, for the losses that ask for it.

    Kept as differences to the inputs in bfloat16: 1/256 of each is exact enough for a start, in a
    ball of any size.

    Args:
        names: Of the losses.
        points: All inputs, `(n, *d)`.
    """

    def __init__(self, names: list[str], points: Tensor) -> None:
        self._points = points
        self._moves = {
            name: torch.full_like(points, torch.nan, dtype=torch.bfloat16) for name in names
        }

    def at(self, rows: Tensor, moved: Moved | None = None) -> dict[str, Tensor]:
        """Return where the searches about some inputs ended; NaN where there was none yet.

        Args:
            rows: Which inputs.
            moved: How these images are moved about: the ends go with them.
        """
        points = _of(moved, self._points[rows])
        return {
            name: points + _of(moved, moves[rows], outside=torch.nan)
            for name, moves in self._moves.items()
        }

    def keep(self, rows: Tensor, ends: Mapping[str, Tensor], moved: Moved | None = None) -> None:
        """Keep where the searches about some inputs ended, moved about as in `at`."""
        for name in self._moves.keys() & ends.keys():
            moves = self._moves[name]
            steps = ends[name].detach() - _of(moved, self._points[rows])
            steps = steps if moved is None else moved.back(steps, outside=torch.nan)
            moves[rows] = steps.to(moves.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it, for a checkpoint."""
        return {_PREFIX + name: moves for name, moves in self._moves.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        for name, moves in self._moves.items():
            moves.copy_(tensors[_PREFIX + name])


def _of(moved: Moved | None, images: Tensor, *, outside: float = 0.0) -> Tensor:
    return images if moved is None else moved.of(images, outside=outside)
