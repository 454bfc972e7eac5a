"""Batches that do not fit into the memory of a device: halved once, with a word."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from levelset.errors import LevelSetWarning

__all__ = ["Room"]

T = TypeVar("T")


@dataclass(eq=False)
class Room:
    """How many rows fit into memory at once, as far as is known.

    Where memory runs out, half as many rows go at once from there on, and a warning names the
    `batch_size` to begin with. Where it runs out again, that is an error: something else takes it.

    Attributes:
        function: Name of the public function at work, for messages.
        most: Rows that go at once since it ran out; `None` before.
    """

    function: str
    most: int | None = None

    def shrink(self, rows: int, error: torch.OutOfMemoryError) -> None:
        """Take half of the rows from now on.

        Raises:
            torch.OutOfMemoryError: The error itself, if it came before or for one row.
        """
        if self.most is not None or rows < 2:
            error.add_note(f"{self.function}: give a smaller `batch_size`.")
            raise error
        self.most = -(-rows // 2)
        message = (
            f"{self.function}: {rows} points at once do not fit into the memory of the device: "
            f"{self.most} from here on. Give `batch_size={self.most}` to begin with it."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=3)

    def batches(self, n: int, size: int, do: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
        """Yield what comes of batches of rows, with their rows, in order.

        Args:
            n: Rows.
            size: Most rows a batch.
            do: Takes the rows of a batch; it may be called again with fewer of the same.
        """
        start = 0
        while start < n:
            most = size if self.most is None else min(size, self.most)
            rows = slice(start, min(start + most, n))
            try:
                result = do(rows)
            except torch.OutOfMemoryError as error:
                self.shrink(rows.stop - rows.start, error)
                continue
            yield rows, result
            start = rows.stop
