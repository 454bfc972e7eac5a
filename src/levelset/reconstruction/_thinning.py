"""A few points of a cloud, evenly spread."""

import numpy as np

from levelset._tools.cells import distinct
from levelset._typing import Floats, Integers

__all__ = ["thin"]


def thin(points: Floats, most: int, sheet: Integers | None = None) -> Integers:
    """Return at most `most` rows of points: of each cell of a lattice the one nearest its mean.

    Bisection settles the size of the cells, so that 95 to 100 % of `most` come back, or all.

    Args:
        points: The cloud, `(n, 3)`, without duplicates.
        most: Largest number of rows.
        sheet: Which of the sheets that share a cell each lies on, 0 to 2, `(n,)`: each has a row
            of its own in the cell. `None` for one sheet.
    """
    if len(points) <= most:
        return np.arange(len(points))
    points = points - points.min(0)
    sheet = np.zeros(len(points), dtype=np.int64) if sheet is None else sheet
    low, high = 0.0, float(points.max()) * 1.001
    for _ in range(40):
        size = 0.5 * (low + high)
        count = distinct(_cells(points, size, sheet))
        low, high = (size, high) if count > most else (low, size)
        if 0.95 * most < count <= most:
            break
    _, cell, counts = np.unique(
        _cells(points, high, sheet), return_inverse=True, return_counts=True
    )
    sums = [np.bincount(cell, points[:, axis]) for axis in range(3)]
    means = np.stack(sums, axis=1) / counts[:, None]
    order = np.lexsort((((points - means[cell]) ** 2).sum(1), cell))
    first = np.r_[0, np.cumsum(counts)[:-1]]
    return order[first]


def _cells(points: Floats, size: float, sheet: Integers) -> Integers:
    index = (points / size).astype(np.int64)
    return 3 * ((index[:, 0] << 42) + (index[:, 1] << 21) + index[:, 2]) + sheet
