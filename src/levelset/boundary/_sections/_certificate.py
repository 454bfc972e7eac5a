"""Whether curves are all of a decision boundary in a rectangle: a proof by cells."""

import math
from typing import NamedTuple

import numpy as np
import torch

from levelset._relaxation._program import Program
from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sections._bounds import CellBounds
from levelset.boundary._sections._cells import Cells, ranges
from levelset.boundary._sections._classes import by_class
from levelset.boundary._sections._plane import Frame
from levelset.boundary._sections._subdivision import subdivide
from levelset.boundary._sections._tracing import Curve, Tracer, between

__all__ = ["certify"]

# Lines that bend the network across a cell: fewer are tried, and cells with this many linear
# regions are subdivided.
_LINES, _REGIONS = 200.0, 4.0
# By how much lines between cells are moved, so that none runs through round numbers.
_UNEVEN = 0.0137
# How near two places are one, as a share of the rectangle, and by how much lengths may differ.
_NEAR, _LENGTH = 1e-9, 1e-6
# Numbers of the widest layer at the corners of regions that are computed together, 128 MiB, and
# points that are evaluated together.
_ELEMENTS, _AT_ONCE = 2**24, 16
# Columns, rows and levels that the quarters of a cell have more than twice its own.
_QUARTERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])


class _Cover(NamedTuple):
    """Squares `(m, 3)` that a rectangle is cut into: column, row, level.

    Those of one class alone are left out. `steady` says along which axes the scores of the two
    classes of a cell change in one direction only, `(m, 2)`; of those in `rest` nothing is known.
    """

    cells: Integers
    steady: Booleans
    rest: Integers


class _Grid:
    """Lines across a rectangle, at the powers of a half."""

    def __init__(self, frame: Frame) -> None:
        self.low, self.high = np.array(frame.low), np.array(frame.high)

    def at(self, index: Integers, level: Integers) -> Floats:
        """Return places on an axis, `(..., 2)`, from their numbers of columns and rows."""
        share = index / np.exp2(level)[..., None]
        share = share + _UNEVEN * share * (1.0 - share)
        return self.low + (self.high - self.low) * share

    def corners(self, cells: Integers) -> tuple[Floats, Floats]:
        """Return lower left and upper right corners of cells, `(m, 2)` each."""
        index, level = cells[:, :2], cells[:, 2]
        return self.at(index, level), self.at(index + 1, level)


def certify(
    tracer: Tracer, program: Program, single: Program, frame: Frame, expected: float, most: int
) -> bool:
    r"""Return whether the curves of a tracer are all of the boundary; follow those that it lacks.

    The rectangle is cut into ever smaller cells, until each has one class for certain, or two whose
    difference changes in one direction only along an axis. Along each line of that axis it is 0
    once at most, so that the boundary in the cell is a graph over the other axis, and no part of
    it ends inside. A curve that has not been followed would therefore run from cell to cell, and
    somewhere cross an edge along which the difference is monotone. Whether it is 0 there follows
    from its sign at both ends, and is compared with the curves. Cells that stay undecided are
    subdivided into linear regions, and the length of the boundary in them is compared.

    Nothing is certain where logits are equal on an area.

    Args:
        tracer: Has followed curves.
        program: The network, piecewise linear, in float64.
        single: The same in float32.
        frame: The rectangle.
        expected: Linear regions that it is likely to have.
        most: Linear regions that may be computed in undecided cells; with more it is not certain.
    """
    if tracer.tied:
        return False
    grid = _Grid(frame)
    cover = _cover(CellBounds(program, single, frame), grid, expected)
    if len(cover.rest) and expected * float((0.25 ** cover.rest[:, 2]).sum()) > most:
        return False
    edges = _Edges(program, frame, grid, cover)
    while True:
        count = len(tracer.curves)
        doubtful = np.zeros(len(cover.cells), dtype=bool)
        for wrong in edges.unexplained(tracer).tolist():
            place, pair = between(edges.label, *edges.ends(wrong))
            if edges.changes(wrong) and not tracer.is_known(place, pair):
                tracer.follow(place, pair)
            else:
                doubtful[edges.cell[wrong]] = True
        if len(tracer.curves) == count:
            break
    rest = np.concatenate([cover.rest, cover.cells[doubtful]])
    regions = expected / 4.0 ** rest[:, 2].max(initial=0) + 1.0
    widest = max(node.numel() for node in program.values(frame.origin).values())
    together = max(int(_ELEMENTS / (regions * widest)), 1)
    return all(
        _agrees(tracer, program, frame, grid, part)
        for part in np.split(rest, range(together, len(rest), together))
    )


def _cover(bounds: CellBounds, grid: _Grid, expected: float) -> _Cover:
    """Cut a rectangle into cells of which something is certain, and a rest."""
    lines = math.sqrt(max(expected, 1.0))
    level = max(math.ceil(math.log2(lines / _LINES)), 0)
    side = np.arange(2**level)
    column, row = np.meshgrid(side, side)
    cells = np.stack([column.ravel(), row.ravel(), np.full(column.size, level)], 1)
    certain, steady = [np.zeros((0, 3), dtype=np.int64)], [np.zeros((0, 2), dtype=bool)]
    while len(cells) and expected / 4.0**level > _REGIONS:
        found = bounds.bound(*map(torch.from_numpy, grid.corners(cells)))
        rival, along = found.rival.cpu().numpy(), found.steady.cpu().numpy()
        both = along.all(1, keepdims=True)
        # What leaves a graph through an edge across its axis must enter another cell.
        outer = (cells[:, :2] == 0) | (cells[:, :2] == 2**level - 1)
        along &= both | ~outer
        sure = along.any(1)
        certain.append(cells[sure])
        steady.append(along[sure])
        cells = cells[(rival != -1) & ~sure]
        level += 1
        cells = ((cells * [2, 2, 1] + [0, 0, 1])[:, None] + _QUARTERS).reshape(-1, 3)
    return _Cover(np.concatenate(certain), np.concatenate(steady), cells)


class _Edges:
    """Edges along which the difference of the two classes of a cell is monotone.

    Attributes:
        cell: The cell that each belongs to, `(e,)`.
    """

    def __init__(self, program: Program, frame: Frame, grid: _Grid, cover: _Cover) -> None:
        self._program, self._frame, self._grid = program, frame, grid
        self._level = int(cover.cells[:, 2].max(initial=0))
        scale = 2 ** (self._level - cover.cells[:, 2:])
        low, high = cover.cells[:, :2] * scale, (cover.cells[:, :2] + 1) * scale
        # Along an axis: on the lower and on the upper line of the other one.
        parts = [
            np.stack([np.full(rows.size, axis), rows, line[rows, 1 - axis], low[rows, axis],
                      high[rows, axis]], 1)
            for axis in (0, 1)
            for rows in [cover.steady[:, axis].nonzero()[0]]
            for line in (low, high)
        ]  # fmt: skip
        self._axis, self.cell, self._line, self._from, self._to = np.concatenate(parts).T
        places, self._number = np.unique(
            np.concatenate([self._indices(self._from), self._indices(self._to)]), axis=0,
            return_inverse=True,
        )  # fmt: skip
        self._places = grid.at(places, np.full(len(places), self._level))
        self._labels = self._label_all(self._places)

    def _indices(self, along: Integers) -> Integers:
        """Return columns and rows of ends of the edges, `(e, 2)`."""
        swapped = self._axis[:, None] == 1
        return np.where(swapped, np.stack([self._line, along], 1), np.stack([along, self._line], 1))

    def _label_all(self, places: Floats) -> Integers:
        parts = [
            self._program.values(self._frame.points(part))[self._program.output].argmax(1)
            for part in torch.split(torch.from_numpy(places), _AT_ONCE)
        ]
        return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, dtype=np.int64)

    def label(self, place: Floats) -> int:
        """Return the class at a place."""
        return int(self._label_all(place[None])[0])

    def ends(self, edge: int) -> tuple[Floats, Floats, int]:
        """Return both ends of an edge, and the class at the first."""
        one, other = self._number.reshape(2, -1)[:, edge]
        return self._places[one], self._places[other], int(self._labels[one])

    def changes(self, edge: int) -> bool:
        """Return whether the class changes along an edge."""
        one, other = self._number.reshape(2, -1)[:, edge]
        return bool(self._labels[one] != self._labels[other])

    def unexplained(self, tracer: Tracer) -> Integers:
        """Return the edges whose ends do not have the classes that follow from the curves."""
        one, other = self._number.reshape(2, -1)
        expected = (self._labels[one] != self._labels[other]).astype(np.int64)
        counts = np.zeros(len(self._axis), dtype=np.int64)
        for axis in (0, 1):
            mine = self._axis == axis
            keys = self._crossings(tracer.curves, axis)
            ticks = self._ticks(axis)
            low, high = (
                self._line[mine] + _share(ticks[ends[mine]], ticks)
                for ends in (self._from, self._to)
            )
            counts[mine] = np.searchsorted(keys, high) - np.searchsorted(keys, low)
        return (counts != expected).nonzero()[0]

    def _ticks(self, axis: int) -> Floats:
        index = np.arange(2**self._level + 1)
        return self._grid.at(np.stack([index, index], 1), np.full(len(index), self._level))[:, axis]

    def _crossings(self, curves: list[Curve], axis: int) -> Floats:
        """Return where curves cross the lines along an axis, as line plus share, in order."""
        lines, along = self._ticks(1 - axis), self._ticks(axis)
        near = _NEAR * (lines[-1] - lines[0])
        keys = [np.zeros(0)]
        for curve in curves:
            places = np.array(curve.places)
            over = places[:, 1 - axis]
            cell = np.searchsorted(lines[1:-1], over, side="right")
            rise = np.diff(cell)
            step = np.flatnonzero(rise)
            many = np.abs(rise[step])
            segment = np.repeat(step, many)
            number = 1 + np.repeat(np.minimum(cell[step], cell[step + 1]), many) + ranges(many)
            one, other = places[segment], places[segment + 1]
            share = (lines[number] - over[segment]) / (over[segment + 1] - over[segment])
            place = one[:, axis] + share * (other - one)[:, axis]
            keys.append(number + _share(place, along))
            for end in (places[0], places[-1]):
                for number_, line in ((0, lines[0]), (len(lines) - 1, lines[-1])):
                    if abs(end[1 - axis] - line) <= near:
                        keys.append(number_ + _share(end[axis : axis + 1], along))
        return np.sort(np.concatenate(keys))


def _share(place: Floats, ticks: Floats) -> Floats:
    """Return how far places are along an axis, from 0 to 0.9."""
    return 0.9 * np.clip((place - ticks[0]) / (ticks[-1] - ticks[0]), 0.0, 1.0)


def _agrees(tracer: Tracer, program: Program, frame: Frame, grid: _Grid, cells: Integers) -> bool:
    """Return whether curves are the boundary in cells, which are subdivided; follow what lacks."""
    if not len(cells):
        return True
    low, high = grid.corners(cells)
    corners = np.stack([low, np.stack([high[:, 0], low[:, 1]], 1), high,
                        np.stack([low[:, 0], high[:, 1]], 1)], 1)  # fmt: skip
    count = len(cells)
    boxes = Cells(
        corners.reshape(-1, 2), np.arange(4 * count), 4 * np.arange(count), np.arange(count)
    )
    regions, logits, size = subdivide(program, frame.basis, boxes)
    parts = by_class(regions, logits, size)
    ends = parts.cells.places[parts.edges]
    middles = ends.mean(1)
    for middle, pair in zip(middles, parts.sides.tolist(), strict=True):
        if not tracer.is_known(middle, (pair[0], pair[1])):
            tracer.follow(middle, (pair[0], pair[1]))
    owner = ((middles[:, None] >= low) & (middles[:, None] <= high)).all(2).argmax(1)
    lengths = np.bincount(owner, np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), len(cells))
    scale = float((grid.high - grid.low).max())
    followed = _length_within(tracer.curves, low, high)
    return bool((np.abs(lengths - followed) <= _LENGTH * (lengths + _NEAR * scale)).all())


def _length_within(curves: list[Curve], low: Floats, high: Floats) -> Floats:
    """Return the length of curves in boxes, `(m,)`."""
    lines = [np.array(curve.places) for curve in curves if len(curve.places) > 1]
    starts = np.concatenate([np.zeros((0, 2)), *(line[:-1] for line in lines)])
    ways = np.concatenate([np.zeros((0, 2)), *(np.diff(line, axis=0) for line in lines)])
    total = np.zeros(len(low))
    for box in range(len(low)):
        inside = np.stack([np.zeros(len(starts)), np.ones(len(starts))])
        with np.errstate(divide="ignore", invalid="ignore"):
            for axis in (0, 1):
                way, start = ways[:, axis], starts[:, axis]
                one, other = (low[box, axis] - start) / way, (high[box, axis] - start) / way
                still = way == 0
                beside = still & ((start < low[box, axis]) | (start > high[box, axis]))
                first = np.where(still, -np.inf, np.minimum(one, other))
                last = np.where(still, np.inf, np.maximum(one, other))
                inside[0] = np.where(beside, 1.0, np.maximum(inside[0], first))
                inside[1] = np.where(beside, 0.0, np.minimum(inside[1], last))
        share = np.maximum(inside[1] - inside[0], 0.0)
        total[box] = (share * np.linalg.norm(ways, axis=1)).sum()
    return total
