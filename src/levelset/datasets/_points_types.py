"""What the readers of points hand on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "columns_of"]


@dataclass(frozen=True)
class Columns:
    """Points as found, before they are checked.

    Attributes:
        points: `(n, 2)` or `(n, 3)`, of any number type.
        normals: `(n, 3)`, or `None`.
        notes: What the user should know, in sentences.
    """

    points: NDArray[Any]
    normals: NDArray[Any] | None
    notes: tuple[str, ...] = ()


def columns_of(table: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return three fields of a structured array as `(n, 3)`, or `None` if one is missing."""
    if not set(names) <= set(table.dtype.names or ()):
        return None
    return np.stack([table[name].astype(np.float64) for name in names], axis=1)
