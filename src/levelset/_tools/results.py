"""The parent of row-wise results: one tensor entry a point, cut by masks, one line to print."""

import dataclasses
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Rows", "concatenate"]

T = TypeVar("T", bound="Rows")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """A frozen dataclass whose tensors have one row per point; other attributes are shared."""

    def __len__(self) -> int:
        """Return the number of points."""
        return next(len(v) for v in vars(self).values() if isinstance(v, Tensor))

    def __getitem__(self: T, rows: Tensor | slice | list[int]) -> T:
        """Return the same result for a mask, slice or list of rows."""
        if isinstance(rows, int):
            message = "index a result with a mask, a slice or a list of rows, not one integer"
            raise TypeError(message)
        cut = {k: v[rows] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **cut)

    def __repr__(self) -> str:
        """Return the summary on one line."""
        inside = ", ".join(
            f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
            for k, v in self.summary().items()
        )
        return f"{type(self).__name__}({inside})"

    def summary(self) -> dict[str, int | float]:
        """Return the numbers that describe the whole result, ready for JSON."""
        return {"points": len(self)}


def concatenate(parts: list[T]) -> T:
    """Join results of consecutive rows into one."""
    first = parts[0]
    joined = {
        k: torch.cat([getattr(part, k) for part in parts])
        for k, v in vars(first).items()
        if isinstance(v, Tensor)
    }
    return dataclasses.replace(first, **joined)
