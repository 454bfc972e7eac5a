"""Which coefficients of a spline grid are unknown, and how grids of different fineness relate.

A grid of `cells` cells a side has `cells + 2` coefficients a side, one at the centre of each cell
and one layer beyond the cube. Arrays are numpy's; a node is the flat index of a coefficient.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.sparse import csr_matrix

from levelset._typing import Booleans, Floats, Integers

__all__ = ["REACH", "Band", "all_nodes", "band_around", "halve", "refine", "rows_to_matrix"]

REACH = 1.1
"""Half the side of the cube on which fields are fitted, in the unit frame."""


@dataclass(frozen=True, eq=False)
class Band:
    """Some nodes of a grid.

    Attributes:
        cells: Cells a side.
        nodes: The nodes, ascending, `(m,)`.
        place: Position of every node of the grid in `nodes`, -1 where it is absent.
        free: Which nodes are unknown; the others keep their values, `(m,)`.
    """

    cells: int
    nodes: Integers
    place: NDArray[np.int32]
    free: Booleans

    @property
    def side(self) -> int:
        """Coefficients a side."""
        return self.cells + 2

    @property
    def width(self) -> float:
        """Side of a cell."""
        return 2 * REACH / self.cells

    @property
    def grid_index(self) -> Integers:
        """Index of each node along the three axes, `(m, 3)`."""
        return np.stack(np.unravel_index(self.nodes, (self.side,) * 3), 1)


def _band(cells: int, chosen: Booleans, free: Booleans | None) -> Band:
    nodes = np.flatnonzero(chosen)
    place = np.full(chosen.size, -1, np.int32)
    place[nodes] = np.arange(len(nodes), dtype=np.int32)
    inner = np.ones(len(nodes), bool) if free is None else free.ravel()[nodes]
    return Band(cells, nodes, place, inner)


def all_nodes(cells: int) -> Band:
    """Return every node, all of them unknown."""
    return _band(cells, np.ones((cells + 2) ** 3, bool), None)


def band_around(cells: int, coefficients: Floats, needed: Integers, width: float) -> Band:
    """Return the nodes near the zero level of a grid, and near `needed` ones.

    The outermost layer keeps its values, so that the field goes over into the coarser one there.

    Args:
        cells: Cells a side.
        coefficients: About the distance to the surface, `(cells + 2,) * 3`.
        needed: Nodes that must be unknown.
        width: How far from the zero level, in units of the points.
    """
    near = np.abs(coefficients) < width
    near.ravel()[needed.ravel()] = True
    chosen = binary_dilation(near)
    return _band(cells, chosen, binary_erosion(chosen, border_value=1))


def refine(coefficients: Floats) -> Floats:
    """Return the coefficients of the same function on a grid of half the cells' side (Chaikin)."""
    for axis in range(3):
        old = np.moveaxis(coefficients, axis, 0)
        new = np.empty((2 * len(old) - 2, *old.shape[1:]), old.dtype)
        new[1::2] = 0.25 * old[:-1] + 0.75 * old[1:]
        new[0::2] = 0.75 * old[:-1] + 0.25 * old[1:]
        coefficients = np.moveaxis(new, 0, axis)
    return np.ascontiguousarray(coefficients)


def halve(band: Band) -> tuple[csr_matrix, Band]:
    """Return the grid of twice the cells' side that the band's nodes are made of.

    Returns:
        The matrix `(m, m')` that refines coefficients of the coarser nodes, and those nodes.
    """
    index = band.grid_index - 1
    even = index % 2 == 0
    first = index // 2 + np.where(even, 0, 1)
    share = np.where(even, 0.25, 0.75)
    cells = band.cells // 2
    side = cells + 2
    corners = np.array(list(np.ndindex(2, 2, 2)))
    at = first[:, None, :] + corners
    nodes = (at[..., 0] * side + at[..., 1]) * side + at[..., 2]
    weights = np.where(corners, 1 - share[:, None, :], share[:, None, :]).prod(2)
    chosen = np.zeros(side**3, bool)
    chosen[nodes.ravel()] = True
    coarse = _band(cells, chosen, None)
    return rows_to_matrix(coarse.place[nodes], weights, len(coarse.nodes)), coarse


def rows_to_matrix(columns: NDArray[np.int32], values: Floats, width: int) -> csr_matrix:
    """Return a sparse matrix in single precision, each row with `k` entries `(m, k)`."""
    rows, entries = columns.shape
    data = np.ascontiguousarray(values, np.float32).ravel()
    starts = np.arange(0, rows * entries + 1, entries, dtype=np.int32)
    index = np.ascontiguousarray(columns, np.int32).ravel()
    return csr_matrix((data, index, starts), shape=(rows, width))
