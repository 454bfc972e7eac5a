"""Curves as the common zeros of one field less than there are coordinates."""

from itertools import permutations

import numpy as np
import torch

from levelset._projection import Newton, project
from levelset._tools.arguments import checked
from levelset._tools.bounds import read_numbers
from levelset._tools.calling import like_parameters
from levelset._tools.checks import check_batch_size, shown
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._typing import Booleans, Corners, Field, Floats, Integers, Progress
from levelset.errors import FieldError, ParameterError
from levelset.reconstruction._curves._polylines import Polylines

__all__ = ["join", "trace_curve"]


_COARSEST = 24  # cells a side in which the search begins
_GOLDEN = 0.6180339887498949
# Neighbours on a line that are closer than this part of the median distance are one.
_DOUBLE = 0.05


@checked
def trace_curve(
    field: Field,
    *,
    bounds: Corners,
    resolution: int = 128,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Polylines:
    r"""Return the curve F = 0 of a field with one value less than there are coordinates.

    In space F has two values, and the curve is where their two zero surfaces meet; in the plane F
    has one. A lattice is cut into simplices (six tetrahedra, or two triangles, a cell). On each F
    is taken as linear, so that the zero set of the first value is a flat patch, and that of the
    second on it a straight piece from one face to another. A face is decided once for both of its
    sides: pieces join without gaps however ragged the two surfaces are, each line is closed or
    ends at the bounds, and a face is met by no more than one line. At the end `project` moves
    every point onto F = 0.

    The lattice is searched from coarse to fine: a cell is left out when every value of F keeps
    its sign there, with the range at the corners widened by itself to either side. The planes of
    the lattice stand at slightly irregular distances, so that zeros on planes of symmetry do not
    fall on its nodes.

    What is smaller than a cell of the first, coarse lattice (at most a 24th of the bounds), and
    curved strongly, can be missed; two strands closer than a fine cell can be joined crosswise.
    Points where `project` finds no zero within a cell, as at a jump of F, are left out, and the
    line ends there.

    Cost: evaluations of the field near the curve, about 100 a fine cell on it beside those of the
    coarse lattice, and a few with derivatives a point.

    Args:
        field: The field; maps `(n, 3)` to `(n, 2)`, or `(n, 2)` to `(n,)` or `(n, 1)`. A module in
            float32 is evaluated in float32, anything else in float64.
        bounds: Lowest and highest corner of the box. Two numbers mean a cube in space.
        resolution: Fine cells along each side of the box.
        batch_size: Most points per evaluation of the field; `None` for the fastest.
        progress: Called as `progress(done, total)` after each level of the lattice.

    Returns:
        The lines, longest first, closed or open, in float64, on F = 0.

    Raises:
        ParameterError: If the bounds are no box, or `resolution` is below 2.
        FieldError: If the field returns another shape, or is not differentiable.

    Example:
        >>> from levelset.reconstruction import trace_curve
        >>> from levelset.shapes import Circle
        >>> trace_curve(Circle(1.0), bounds=(-1.5, 1.5), resolution=32).closed
        (True,)

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, section 3.3: curves as
          zero sets of networks with two outputs.
        - H. W. Kuhn, "Some combinatorial lemmas in topology", IBM J. Res. Dev. 4 (1960): how a
          cube is cut into simplices that fit their neighbours'.
    """
    low, high = _box(bounds)
    check_batch_size("trace_curve", batch_size)
    if resolution < 2:
        message = f"trace_curve: `resolution` must be at least 2, got {resolution}."
        raise ParameterError(message)
    lattice = _Nodes(field, low, high, resolution, batch_size)
    with frozen(field):
        cells = lattice.cells(progress)
        points, pieces, size = lattice.crossings(cells)
        lines, closed = join(*_polished(field, points, pieces, lattice, size, batch_size))
    return Polylines(tuple(torch.from_numpy(line) for line in lines), tuple(closed))


class _Nodes:
    """Nodes of a lattice in a box, with the values of a field at those evaluated so far."""

    def __init__(
        self, field: Field, low: Floats, high: Floats, resolution: int, batch_size: int | None
    ) -> None:
        self.levels = max(int(np.floor(np.log2(resolution / _COARSEST))), 0)
        step = 2**self.levels
        self.side = -(-resolution // step) * step
        self.dim = len(low)
        self.cell = (high - low) / self.side
        self.axes = [
            a + (b - a) * _irregular(self.side, axis) / self.side
            for axis, (a, b) in enumerate(zip(low, high, strict=True))
        ]
        self.evaluator = Evaluator("trace_curve", field, batch_size)
        self.dtype = like_parameters(field).dtype
        self.known = np.empty(0, np.int64)
        self.values = np.empty((0, self.dim - 1))

    def cells(self, progress: Progress | None) -> Integers:
        """Return the lowest corners of the fine cells that may hold zeros, `(c, d)`."""
        step = 2**self.levels
        grid = np.meshgrid(*[np.arange(0, self.side, step)] * self.dim, indexing="ij")
        cells = np.stack([g.ravel() for g in grid], 1)
        for level in range(self.levels, -1, -1):
            step = 2**level
            corners = self.at(cells[:, None] + step * _corners(self.dim))
            low, high = corners.min(1), corners.max(1)
            margin = (high - low) if level else 0.0
            cells = cells[((low - margin <= 0) & (high + margin >= 0)).all(1)]
            if level:
                cells = (cells[:, None] + step // 2 * _corners(self.dim)).reshape(-1, self.dim)
            if progress is not None:
                progress(self.levels - level + 1, self.levels + 1)
        return cells

    def at(self, nodes: Integers) -> Floats:
        """Return the values at nodes `(..., d)`, `(..., l)`; each node is evaluated once."""
        keys = np.ravel_multi_index(tuple(np.moveaxis(nodes, -1, 0)), [self.side + 1] * self.dim)
        missing = np.setdiff1d(keys, self.known)
        if len(missing):
            self.known = np.concatenate([self.known, missing])
            self.values = np.concatenate([self.values, self._evaluate(missing)])
            order = self.known.argsort()
            self.known, self.values = self.known[order], self.values[order]
        return self.values[np.searchsorted(self.known, keys)]

    def _evaluate(self, keys: Integers) -> Floats:
        points = torch.from_numpy(self.places(keys)).to(self.dtype)
        values = self.evaluator.values(points).double().numpy()
        if values.shape[1] != self.dim - 1:
            message = (
                f"trace_curve: `field` must return {self.dim - 1} value(s) for a curve in "
                f"{self.dim} coordinates, got {values.shape[1]}."
            )
            raise FieldError(message)
        return values

    def places(self, keys: Integers) -> Floats:
        """Return where nodes are, `(..., d)`."""
        nodes = np.unravel_index(keys, [self.side + 1] * self.dim)
        return np.stack([axis[index] for axis, index in zip(self.axes, nodes, strict=True)], -1)

    def crossings(self, cells: Integers) -> tuple[Floats, Integers, float]:
        """Return where zeros cross faces, `(p, d)`, the pieces between them, and a size of F."""
        nodes = cells[:, None, None] + _simplices(self.dim)
        values = self.at(nodes).reshape(-1, self.dim + 1, self.dim - 1)
        keys = np.ravel_multi_index(tuple(np.moveaxis(nodes, -1, 0)), [self.side + 1] * self.dim)
        keys = keys.reshape(-1, self.dim + 1)
        low, high = values.min(1), values.max(1)
        cut = ((low <= 0) & (high >= 0)).all(1)
        keys = keys[cut]
        size = float(np.median(high[cut] - low[cut])) if cut.any() else 1.0
        # Face k of a simplex is the one without its corner k.
        without = np.array(
            [[j for j in range(self.dim + 1) if j != k] for k in range(self.dim + 1)]
        )
        faces = np.sort(keys[:, without].reshape(-1, self.dim), axis=1)
        faces, of = np.unique(faces, axis=0, return_inverse=True)
        shares, hit = self._shares(faces)
        points = (shares[hit, :, None] * self.places(faces[hit])).sum(1)
        of = of.reshape(-1, self.dim + 1)
        met = hit[of]
        twice = met.sum(1) == 2
        number = np.cumsum(hit) - 1
        pieces = number[of[twice][met[twice]]].reshape(-1, 2)
        return points, pieces, size

    def _shares(self, faces: Integers) -> tuple[Floats, Booleans]:
        """Return the weights of the corners at the zero of each face, and which faces have one."""
        corners = self.values[np.searchsorted(self.known, faces)]
        system = np.concatenate([np.ones((*faces.shape, 1)), corners], 2).transpose(0, 2, 1)
        regular = np.isfinite(system).all((1, 2))
        system[~regular] = np.eye(self.dim)
        regular &= np.abs(np.linalg.det(system)) > 0
        system[~regular] = np.eye(self.dim)
        target = np.broadcast_to(np.eye(self.dim)[:, :1], (len(faces), self.dim, 1))
        shares = np.linalg.solve(system, target)[..., 0]
        return shares, regular & (shares >= 0).all(1)


def _polished(
    field: Field,
    points: Floats,
    pieces: Integers,
    lattice: _Nodes,
    size: float,
    batch_size: int | None,
) -> tuple[Floats, Integers]:
    """Return the points moved onto F = 0, and the pieces between those that converged."""
    reach = float(np.linalg.norm(lattice.cell))
    share = 1e-10 if lattice.dtype == torch.float64 else 1e-4
    tol = max(share * size, 5.0 * torch.finfo(lattice.dtype).eps)
    start = torch.from_numpy(points).to(lattice.dtype)
    method = Newton(max_iter=20, max_step=0.5 * reach)
    projection = project(field, start, method=method, tol=tol, batch_size=batch_size)
    near = torch.linalg.vector_norm(projection.points - start, dim=1) <= reach
    on_curve = (projection.converged & near).numpy()
    number = np.cumsum(on_curve) - 1
    return projection.points.double().numpy()[on_curve], number[pieces[on_curve[pieces].all(1)]]


def _box(bounds: Corners) -> tuple[Floats, Floats]:
    box = read_numbers("trace_curve", "bounds", bounds, "the corners of a box").cpu().numpy()
    if box.shape == (2,):
        box = np.repeat(box[:, None], 3, axis=1)
    right = box.shape in ((2, 2), (2, 3)) and np.isfinite(box).all()
    if not right or not (box[0] < box[1]).all():
        message = (
            "trace_curve: `bounds` must be the lowest and highest corner of a box in the plane or "
            f"in space, low < high, got {shown(bounds)}."
        )
        raise ParameterError(message)
    return box[0], box[1]


def _irregular(side: int, axis: int) -> Floats:
    """Return 0 to `side` with the whole numbers between moved by up to an eighth."""
    numbers = np.arange(side + 1, dtype=np.float64)
    moves = ((numbers + 1.0) * _GOLDEN ** (axis + 1) + 0.317 * (axis + 1)) % 1.0 - 0.5
    moves[[0, -1]] = 0.0
    return numbers + 0.25 * moves


def _corners(dim: int) -> Integers:
    return np.stack([g.ravel() for g in np.meshgrid(*[[0, 1]] * dim, indexing="ij")], 1)


def _simplices(dim: int) -> Integers:
    """Return the corners of the simplices of a cell, `(dim!, dim + 1, dim)`: Kuhn's."""
    rows = []
    for order in permutations(range(dim)):
        steps = np.eye(dim, dtype=np.int64)[list(order)]
        rows.append(np.concatenate([np.zeros((1, dim), np.int64), steps.cumsum(0)]))
    return np.stack(rows)


def join(points: Floats, pieces: Integers) -> tuple[list[Floats], list[bool]]:
    """Return the lines that pieces make, longest first, and which of them are closed.

    A closed line holds its first point once. Where more than two pieces meet, lines end. Points
    that all but coincide with the one before are left out.

    Args:
        points: The points, `(p, d)`.
        pieces: Two rows of `points` each, `(e, 2)`.
    """
    if len(pieces) == 0:
        return [], []
    neighbours: list[list[int]] = [[] for _ in range(len(points))]
    for a, b in pieces.tolist():
        if a != b and b not in neighbours[a]:
            neighbours[a].append(b)
            neighbours[b].append(a)
    typical = float(np.median(np.linalg.norm(points[pieces[:, 0]] - points[pieces[:, 1]], axis=1)))
    lines = []
    for chain, closed in _chains(neighbours):
        line = _thinned(points[chain], _DOUBLE * typical, closed)
        if len(line) >= (3 if closed else 2):
            ring = np.concatenate([line, line[:1]]) if closed else line
            length = float(np.linalg.norm(np.diff(ring, axis=0), axis=1).sum())
            lines.append((length, line, closed))
    lines.sort(key=lambda one: -one[0])
    return [line for _, line, _ in lines], [closed for _, _, closed in lines]


def _chains(neighbours: list[list[int]]) -> list[tuple[list[int], bool]]:
    """Return open chains from end to end, then the closed ones."""
    used: set[tuple[int, int]] = set()
    chains = []
    ends = [k for k, some in enumerate(neighbours) if len(some) not in (0, 2)]
    for end in ends:
        for first in neighbours[end]:
            if (end, first) not in used:
                chains.append((_walk(neighbours, used, end, first), False))
    for start, some in enumerate(neighbours):
        if len(some) == 2 and (start, some[0]) not in used:
            chains.append((_walk(neighbours, used, start, some[0])[:-1], True))
    return chains


def _walk(
    neighbours: list[list[int]], used: set[tuple[int, int]], start: int, first: int
) -> list[int]:
    """Return the rows from `start` by way of `first` to an end, or back to `start`."""
    chain = [start, first]
    used |= {(start, first), (first, start)}
    while chain[-1] != start and len(neighbours[chain[-1]]) == 2:
        one, other = neighbours[chain[-1]]
        onward = other if one == chain[-2] else one
        used |= {(chain[-1], onward), (onward, chain[-1])}
        chain.append(onward)
    return chain


def _thinned(line: Floats, least: float, closed: bool) -> Floats:
    """Return the line without points closer than `least` to the last one that stays."""
    rows = [0]
    for k in range(1, len(line)):
        if np.linalg.norm(line[k] - line[rows[-1]]) > least:
            rows.append(k)
    if closed and len(rows) > 1 and np.linalg.norm(line[rows[-1]] - line[0]) <= least:
        rows.pop()
    return line[rows]
