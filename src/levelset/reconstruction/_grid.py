"""Spline grids: the unknowns, the equations of points and smoothness, and their solution."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers, Singles

__all__ = [
    "REACH",
    "Band",
    "Pins",
    "Roughness",
    "Stencil",
    "all_nodes",
    "band_around",
    "band_at",
    "gradients",
    "halve",
    "least_squares",
    "open_nodes",
    "refine",
    "roughness",
    "rows_to_matrix",
    "scaled",
    "stencil",
    "values",
]

REACH = 1.1
"""Half the side of the cube on which fields are fitted, in the unit frame."""
# Directions to the neighbours in a lattice, 26 of them.
_DIRECTIONS = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]


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


def band_at(cells: int, needed: Integers, layers: int) -> Band:
    """Return `needed` nodes of a grid, unknown, and further layers around them.

    The outermost layer keeps its values, as in `band_around`.

    Args:
        cells: Cells a side.
        needed: The nodes.
        layers: How many to add, at least one.
    """
    chosen = np.zeros((cells + 2,) * 3, bool)
    chosen.ravel()[needed.ravel()] = True
    chosen = binary_dilation(chosen, iterations=layers)
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
    odd = index & 1
    first = (index + odd) >> 1
    side = band.cells // 2 + 2
    step = np.array([side * side, side, 1])
    nodes = (first @ step)[:, None] + list(np.ndindex(2, 2, 2)) @ step
    chosen = np.zeros(side**3, bool)
    chosen[nodes.ravel()] = True
    coarse = _band(band.cells // 2, chosen, None)
    # one row for each kind of node, even or odd along each axis, one column a corner
    line = np.array([[0.25, 0.75], [0.75, 0.25]], np.float32)
    weights = np.kron(np.kron(line, line), line)[odd @ (4, 2, 1)]
    return rows_to_matrix(coarse.place[nodes], weights, len(coarse.nodes)), coarse


def rows_to_matrix(columns: NDArray[np.int32], values: Floats | Singles, width: int) -> csr_matrix:
    """Return a sparse matrix in single precision, each row with `k` entries `(m, k)`."""
    rows, entries = columns.shape
    data = np.ascontiguousarray(values, np.float32).ravel()
    starts = np.arange(0, rows * entries + 1, entries, dtype=np.int32)
    index = np.ascontiguousarray(columns, np.int32).ravel()
    return csr_matrix((data, index, starts), shape=(rows, width))


def scaled(matrix: csr_matrix, scale: Floats | Singles) -> csr_matrix:
    """Return the matrix with each row multiplied by a number."""
    data = matrix.data * np.repeat(scale.astype(np.float32), np.diff(matrix.indptr))
    return csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


@dataclass(frozen=True, eq=False)
class Stencil:
    """The weights that evaluate a quadratic spline at points: products of those along the axes.

    Attributes:
        nodes: The 27 coefficients that each point sees, `(n, 27)`.
        lines: The weights of the three nodes along each axis in the value, the slope and the
            second derivative, each `(n, 3, 3)` by axis and node.
    """

    nodes: Integers
    lines: tuple[Floats, Floats, Floats]

    @property
    def value(self) -> Floats:
        """The weights in the value, `(n, 27)`."""
        return self._product(0, 0, 0)

    @property
    def laplacian(self) -> Floats:
        """The weights in the sum of the second derivatives, `(n, 27)`."""
        return self._product(2, 0, 0) + self._product(0, 2, 0) + self._product(0, 0, 2)

    @property
    def gradient(self) -> tuple[Floats, Floats, Floats]:
        """The weights in the derivatives along the three axes, `(n, 27)` each."""
        return self._product(1, 0, 0), self._product(0, 1, 0), self._product(0, 0, 1)

    def _product(self, *orders: int) -> Floats:
        x, y, z = (self.lines[order][:, axis] for axis, order in enumerate(orders))
        plane = x[:, :, None] * y[:, None, :]
        return (plane[..., None] * z[:, None, None, :]).reshape(len(x), 27)


def stencil(points: Floats, cells: int) -> Stencil:
    """Return the weights of the coefficients of a grid at points `(n, 3)`."""
    width = 2 * REACH / cells
    place = np.clip((points + REACH) / width, 0, cells)
    cell = np.minimum(place.astype(np.int64), cells - 1)
    t = place - cell
    value, slope, bend = (np.empty((len(points), 3, 3)) for _ in range(3))
    value[..., 0], value[..., 1], value[..., 2] = (1 - t) ** 2 / 2, 0.75 - (t - 0.5) ** 2, t**2 / 2
    slope[..., 0], slope[..., 1], slope[..., 2] = (t - 1) / width, (1 - 2 * t) / width, t / width
    bend[:] = np.array([1.0, -2.0, 1.0]) / width**2
    step = np.array([(cells + 2) ** 2, cells + 2, 1])
    nodes = (cell @ step)[:, None] + list(np.ndindex(3, 3, 3)) @ step
    return Stencil(nodes, (value, slope, bend))


def values(at: Stencil, coefficients: Floats) -> Floats:
    """Return the spline at the points, `(n,)`."""
    x, y, z = at.lines[0].transpose(1, 0, 2)
    return _dot(_contracted(_contracted(coefficients.ravel()[at.nodes], z), y), x)


def gradients(at: Stencil, coefficients: Floats) -> Floats:
    """Return its gradients, `(n, 3)`."""
    (x, y, z), (dx, dy, dz) = (line.transpose(1, 0, 2) for line in at.lines[:2])
    block = coefficients.ravel()[at.nodes]
    plane, along_z = _contracted(block, z), _contracted(block, dz)
    parts = [
        _dot(_contracted(plane, y), dx),
        _dot(_contracted(plane, dy), x),
        _dot(_contracted(along_z, y), x),
    ]
    return np.stack(parts, 1)


def _contracted(block: Floats, weights: Floats) -> Floats:
    """Return sums over the last axis of blocks `(n, 3k)`, weighted `(n, 3)`: `(n, k)`."""
    return (block.reshape(len(block), -1, 3) @ weights[:, :, None])[..., 0]


def _dot(a: Floats, b: Floats) -> Floats:
    return np.einsum("nk,nk->n", a, b)


@dataclass(frozen=True, eq=False)
class Roughness:
    """One kind of second difference at the nodes of a band, in units of a second derivative.

    Attributes:
        matrix: One row a node that has the neighbours for it.
        node: Position of that node in the band.
    """

    matrix: csr_matrix
    node: Integers


def roughness(band: Band) -> list[Roughness]:
    r"""Return the six second differences; their squares sum to the square of the Hessian's norm.

    The mixed ones count twice in the norm, and so carry the factor $\sqrt2$.
    """
    index, side, step = band.grid_index, band.side, (band.side**2, band.side, 1)
    kinds = []
    for a in range(3):
        rows = np.flatnonzero((index[:, a] > 0) & (index[:, a] < side - 1))
        offsets = np.array([-step[a], 0, step[a]])
        kinds.append(_differences(band, rows, offsets, np.array([1.0, -2.0, 1.0])))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        rows = np.flatnonzero((index[:, a] < side - 1) & (index[:, b] < side - 1))
        offsets = np.array([0, step[a], step[b], step[a] + step[b]])
        kinds.append(_differences(band, rows, offsets, np.array([1, -1, -1, 1]) * np.sqrt(2)))
    return kinds


def _differences(band: Band, rows: Integers, offsets: Integers, signs: Floats) -> Roughness:
    lines = [band.place[band.nodes[rows] + offset] for offset in offsets]
    whole = np.logical_and.reduce([line >= 0 for line in lines])
    columns = np.stack([line[whole] for line in lines], 1)
    entries = np.broadcast_to(signs / band.width**2, columns.shape)
    return Roughness(rows_to_matrix(columns, entries, len(band.nodes)), rows[whole])


class Pins(NamedTuple):
    """Nodes of a grid whose values are roughly known.

    Attributes:
        nodes: `(k,)`.
        target: The distance to the nearest point, `(k,)`.
    """

    nodes: Integers
    target: Floats


def open_nodes(points: Floats, cells: int, clearance: Floats, share: float) -> Pins:
    """Return the nodes that see enough of the open.

    A node sees the open in a direction if no point lies within `clearance` of that ray, as far as
    the lattice resolves. The inside of a surface sees it through holes only, so a few free
    directions say nothing; the space between two ears sees it in half of the directions, whatever
    the normals there.

    Args:
        points: `(n, 3)`.
        cells: Cells a side of the grid.
        clearance: How far a node must be from each point that is its nearest, `(n,)`.
        share: Least share of the 26 directions that must be free.
    """
    line = (np.arange(cells + 2) - 0.5) * (2 * REACH / cells) - REACH
    place = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    # most nodes are far from all points: a plain tree answers them three times as fast
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    distance, nearest = tree.query(place.reshape(-1, 3))
    blocked = (distance < clearance[nearest]).reshape(place.shape[:3])
    free = sum(_unseen(blocked, step) for step in _DIRECTIONS)
    nodes = np.flatnonzero((free >= share * len(_DIRECTIONS)) & ~blocked)
    return Pins(nodes, distance[nodes])


def _unseen(blocked: Booleans, step: tuple[int, ...]) -> Integers:
    """Return 1 where the ray in a direction meets nothing blocked, 0 elsewhere."""
    met, reach = blocked, 1
    while reach < len(blocked):
        # rays of twice the length, from two of the length before
        shift = [s * reach for s in step]
        near = tuple(slice(max(0, -s), len(blocked) - max(0, s)) for s in shift)
        far = tuple(slice(max(0, s), len(blocked) - max(0, -s)) for s in shift)
        longer = met.copy()
        longer[near] |= met[far]
        met, reach = longer, 2 * reach
    return (~met).astype(np.int64)


def least_squares(
    matrix: csr_matrix,
    target: Singles,
    start: Floats,
    free: Booleans,
    precondition: Callable[[Floats], Floats],
    *,
    tol: float,
    max_iter: int,
    stop: Callable[[], bool] = lambda: False,
    normal: csr_matrix | None = None,
) -> Floats:
    r"""Return the $x$ that minimises $|Ax - b|^2$ with some entries fixed.

    Products are formed in single precision and summed up in double. The matrix enters as
    $A^\top(Ax)$, unless `normal` gives its square, which is cheaper where the rows are many to an
    unknown.

    Args:
        matrix: $A$, `(rows, m)`.
        target: $b$, `(rows,)`.
        start: Where to begin, `(m,)`; entries that are not free keep it.
        free: Which entries may change, `(m,)`.
        precondition: An approximation to the inverse of $A^\top A$.
        tol: Stop when the preconditioned residual has fallen by this factor.
        max_iter: Most iterations.
        stop: Called after each iteration; true ends the search.
        normal: $A^\top A$ in double precision, or `None`.
    """

    def image_of(direction: Floats) -> Floats:
        if normal is not None:
            return normal @ direction
        return (transposed @ (matrix @ direction.astype(np.float32))).astype(np.float64)

    transposed = matrix.T
    x = start.copy()
    r = (transposed @ (target - matrix @ x.astype(np.float32))).astype(np.float64) * free
    z = precondition(r) * free
    direction, energy = z.copy(), float(r @ z)
    first = energy
    for _ in range(max_iter):
        if energy <= tol * tol * first or energy <= 0 or stop():
            break
        image = image_of(direction) * free
        step = energy / float(direction @ image)
        x += step * direction
        r -= step * image
        z = precondition(r) * free
        before, energy = energy, float(r @ z)
        direction = z + energy / before * direction
    return x
