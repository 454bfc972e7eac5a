"""Binary space partition of the faces of a solid, as a formula that is positive inside it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from levelset.shapes._polytopes._faces import Faces
from levelset.shapes._polytopes._formula import LEAST, MOST, Formula

__all__ = ["partition"]

# Cells of up to this many pieces are searched for planes that have all pieces on one side.
PEELED = 500
# Planes of faces that are tried in a cell.
TRIED = 48
# Cells of more pieces try planes along the axes too, and weigh a cut piece against balance less.
LARGE = 64
CUT_COST = {False: 8.0, True: 3.0}
# Where, as shares of the corners, planes along the axes are tried.
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7)
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
# Of a cell without faces: whether it is inside. Else the number of the cell.
Inside = bool


@dataclass
class _Cell:
    """What the formula of a cell is made of.

    Attributes:
        layers: Faces whose planes have all of the cell's other faces on one side: by turns minima,
            then maxima, the outermost first.
        plane: Normal and offset of the plane that cuts the rest in two; `None` if there is none.
        parts: What lies before and behind that plane: the number of a cell, or, without faces,
            whether it is inside.
    """

    layers: list[tuple[str, list[int]]] = field(default_factory=list)
    plane: tuple[Floats, float] | None = None
    parts: list[int | Inside] = field(default_factory=list)


@dataclass(frozen=True)
class _Pieces:
    """Pieces of faces in a cell: convex polygons, padded by their last corner, and their faces."""

    corners: Floats
    faces: Integers

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, rows: Mask) -> "_Pieces":
        return _Pieces(self.corners[rows], self.faces[rows])

    def heights(self, normals: Floats, offsets: Floats) -> tuple[Floats, Floats]:
        """Return the greatest and least heights of each piece above each of `(p, d)` planes."""
        n, m, d = self.corners.shape
        # pieces along the last axis, which is the fastest to reduce over corners
        points = self.corners.transpose(1, 0, 2).reshape(-1, d)
        heights = (normals @ points.T - offsets[:, None]).reshape(-1, m, n)
        return heights.max(axis=1), heights.min(axis=1)


def partition(faces: Faces) -> Formula:
    r"""Return a formula that is positive inside a solid, zero on its faces, negative outside.

    A cell's faces whose planes have all its others on one side need no cut: behind such a plane
    the rest decides, $\min(h, F)$, or the plane's other side is inside, $\max(h, F)$, with h the
    height below the plane. So a convex rest is one flat minimum. Where no face is like that, a
    plane cuts the cell: of a face, or in large cells along an axis, whichever cuts the fewest
    pieces and best halves the others. The two halves are joined by a gate.
    """
    cells, waiting = [_Cell()], [(0, _Pieces(faces.corners, np.arange(len(faces.rows))))]
    generator = np.random.default_rng(0)
    while waiting:
        number, pieces = waiting.pop()
        cell = cells[number]
        pieces = _peel(cell, pieces, faces)
        if not len(pieces):
            continue
        for half in _split(cell, pieces, faces, generator):
            if isinstance(half, _Pieces):
                cell.parts.append(len(cells))
                waiting.append((len(cells), half))
                cells.append(_Cell())
            else:
                cell.parts.append(half)
    return _join(cells, faces)


def _peel(cell: _Cell, pieces: _Pieces, faces: Faces) -> _Pieces:
    """Take off the faces whose planes have all others on one side; return what is left."""
    while 0 < len(pieces) <= PEELED:
        planes = np.unique(pieces.faces)
        high, low = pieces.heights(faces.normals[planes], faces.offsets[planes])
        behind = (high <= faces.tolerance).all(axis=1)
        before = (low >= -faces.tolerance).all(axis=1)
        if not (behind | before).any():
            break
        kind, rows = (LEAST, behind) if behind.any() else (MOST, before)
        gone, used = np.zeros(len(pieces), dtype=bool), []
        for row in np.nonzero(rows)[0]:
            on = (high[row] <= faces.tolerance) & (low[row] >= -faces.tolerance)
            if (on & ~gone).any():
                used.append(int(planes[row]))
                gone |= on
        cell.layers.append((kind, used))
        pieces = pieces[~gone]
    return pieces


def _split(
    cell: _Cell, pieces: _Pieces, faces: Faces, generator: np.random.Generator
) -> list[_Pieces | Inside]:
    """Choose the plane that cuts a cell; return what lies before and behind it."""
    rows = np.unique(pieces.faces)
    if len(rows) > TRIED:
        rows = np.sort(generator.choice(rows, TRIED, replace=False))
    normals, offsets = faces.normals[rows], faces.offsets[rows]
    large = len(pieces) > LARGE
    if large:
        points = pieces.corners.reshape(-1, normals.shape[1])
        heights = np.quantile(points, SHARES, axis=0, method="nearest")
        normals = np.concatenate([normals, np.repeat(np.eye(len(points[0])), len(SHARES), axis=0)])
        offsets = np.concatenate([offsets, heights.T.ravel()])
    high, low = pieces.heights(normals, offsets)
    above, below = high > faces.tolerance, low < -faces.tolerance
    cuts = (above & below).sum(axis=1)
    uneven = np.abs((above & ~below).sum(axis=1) - (below & ~above).sum(axis=1))
    free = np.arange(len(normals)) >= len(rows)
    cost = CUT_COST[large] * (cuts + free) + uneven
    # a plane of no face must have pieces on both sides to be of use
    cost[free & ~(above.any(axis=1) & below.any(axis=1))] = np.inf
    best = int(cost.argmin())
    normal, offset = normals[best], float(offsets[best])
    cell.plane = normal, offset
    above, below = above[best], below[best]
    cut = pieces[above & below]
    halves = _cut(cut.corners, normal, offset)
    flat = pieces.faces[~above & ~below]
    parts: list[_Pieces | Inside] = []
    for side, whole, corners in ((1, above & ~below, halves[0]), (-1, below & ~above, halves[1])):
        half = _joined(pieces[whole], _Pieces(corners, cut.faces))
        if len(half):
            parts.append(half)
        else:  # the largest face in the plane tells which of its sides is inside
            largest = flat[faces.areas[flat].argmax()]
            parts.append(bool(side * (faces.normals[largest] @ normal) < 0))
    return parts


def _cut(corners: Floats, normal: Floats, offset: float) -> list[Floats]:
    """Return the parts before and behind a plane of convex polygons that it cuts."""
    n, m, d = corners.shape
    if not n:
        return [corners, corners]
    heights = corners @ normal - offset
    after, height_after = np.roll(corners, -1, axis=1), np.roll(heights, -1, axis=1)
    crosses = heights * height_after < 0
    share = np.where(crosses, heights / np.where(crosses, heights - height_after, 1.0), 0.0)
    around = np.stack([corners, corners + share[..., None] * (after - corners)], axis=2)
    around = around.reshape(n, 2 * m, d)
    parts = []
    for side in (1, -1):
        kept = np.stack([side * heights >= 0, crosses], axis=2).reshape(n, 2 * m)
        count = kept.sum(axis=1)
        order = np.argsort(~kept, axis=1, kind="stable")
        order = np.take_along_axis(
            order, np.minimum(np.arange(count.max()), count[:, None] - 1), axis=1
        )
        parts.append(np.take_along_axis(around, order[..., None], axis=1))
    return parts


def _joined(a: _Pieces, b: _Pieces) -> _Pieces:
    if not len(a) or not len(b):
        return a if len(a) else b
    width = max(a.corners.shape[1], b.corners.shape[1])
    padded = [
        np.concatenate([c, np.repeat(c[:, -1:], width - c.shape[1], axis=1)], axis=1)
        for c in (a.corners, b.corners)
    ]
    return _Pieces(np.concatenate(padded), np.concatenate([a.faces, b.faces]))


@dataclass(frozen=True)
class _Fold:
    """A minimum or maximum that may still take further operands."""

    kind: str
    operands: list[int]


# What a cell's formula is so far: inside or outside throughout, an operand, or an open fold.
_Value = Inside | int | _Fold


class _Joiner:
    """Joins values into one formula."""

    def __init__(self) -> None:
        self.formula = Formula()

    def closed(self, value: int | _Fold) -> int:
        """Return the operand of a value that takes no more."""
        if isinstance(value, _Fold):
            return self.formula.fold(value.kind, value.operands)
        return value

    def fold(self, kind: str, operands: list[int], rest: _Value) -> _Value:
        """Return the minimum or maximum of operands and what lies behind their planes."""
        if isinstance(rest, bool):
            return _Fold(kind, operands) if rest == (kind == LEAST) else rest
        if isinstance(rest, _Fold) and rest.kind == kind:
            return _Fold(kind, [*operands, *rest.operands])
        return _Fold(kind, [*operands, self.closed(rest)])

    def gate(self, normal: Floats, offset: float, before: _Value, behind: _Value) -> _Value:
        """Return the gate of both halves of a cell, or what it comes to if one has no faces."""
        if isinstance(before, bool) and isinstance(behind, bool) and before == behind:
            return before
        if isinstance(behind, bool):  # seen from the other side of the plane
            normal, offset, before, behind = -normal, -offset, behind, before
        if isinstance(behind, bool):
            sign = 1 if behind else -1
            return self.formula.affine(-sign * normal, sign * offset)
        if isinstance(before, bool):
            sign = -1 if before else 1
            height = self.formula.affine(-sign * normal, sign * offset)
            return self.fold(MOST if before else LEAST, [height], behind)
        height = self.formula.affine(-normal, offset)
        return self.formula.gate(height, self.closed(behind), self.closed(before))


def _join(cells: list[_Cell], faces: Faces) -> Formula:
    """Return the formula of the first cell; cells come before their parts."""
    joiner = _Joiner()
    values: list[_Value] = [False] * len(cells)
    for number in range(len(cells) - 1, -1, -1):
        cell = cells[number]
        if cell.plane is None:
            value: _Value = cell.layers[-1][0] == LEAST
        else:
            parts = [part if isinstance(part, bool) else values[part] for part in cell.parts]
            value = joiner.gate(*cell.plane, *parts)
        for kind, rows in reversed(cell.layers):
            heights = [
                joiner.formula.affine(-faces.normals[row], float(faces.offsets[row]))
                for row in rows
            ]
            value = joiner.fold(kind, heights, value)
        values[number] = value
    root = values[0]
    assert not isinstance(root, bool), "a solid with faces is neither empty nor everything"
    joiner.formula.root = joiner.closed(root)
    return joiner.formula
