"""Convex cells of a plane that share corners: loops of numbers of corners."""

from dataclasses import dataclass

import numpy as np

from levelset._typing import Booleans, Floats, Integers

__all__ = ["Cells", "merged", "ranges", "straightened", "twins"]


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a plane.

    Attributes:
        places: Corners, `(v, 2)`.
        loop: The corners of one cell after another, counter-clockwise, `(c,)`.
        start: Where each begins in `loop`, `(p,)`.
        tag: A number for each cell, which its parts inherit, `(p,)`.
    """

    places: Floats
    loop: Integers
    start: Integers
    tag: Integers

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.start)

    @property
    def sizes(self) -> Integers:
        """Corners of each, `(p,)`."""
        return np.diff(self.start, append=len(self.loop))

    @property
    def owner(self) -> Integers:
        """The cell of each entry of `loop`, `(c,)`."""
        return np.repeat(np.arange(len(self.start)), self.sizes)

    @property
    def ends(self) -> Integers:
        """The corner that follows each entry of `loop`, `(c,)`."""
        return self.loop[_following(self.start, len(self.loop))]

    def __getitem__(self, mask: Booleans) -> "Cells":
        """Return some of the cells, by a mask `(p,)`; the corners stay."""
        sizes = self.sizes
        kept = sizes[mask]
        loop = self.loop[np.repeat(mask, sizes)]
        return Cells(self.places, loop, np.cumsum(kept) - kept, self.tag[mask])

    def areas(self) -> Floats:
        """Return the area of each, `(p,)`."""
        if not len(self):
            return np.zeros(0)
        base = self.places[self.loop[self.start]]
        one = self.places[self.loop] - np.repeat(base, self.sizes, axis=0)
        other = one[_following(self.start, len(self.loop))]
        terms = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
        return np.add.reduceat(terms, self.start) / 2

    def middles(self, values: Floats) -> Floats:
        """Return the means of values at the corners, `(p, m)`."""
        sums = np.add.reduceat(values[self.loop], self.start, axis=0)
        return sums / self.sizes[:, None]

    def tagged(self, tag: Integers | None = None) -> "Cells":
        """Return the cells with other tags; their own numbers if none are given."""
        return Cells(
            self.places, self.loop, self.start, np.arange(len(self)) if tag is None else tag
        )


def ranges(counts: Integers) -> Integers:
    """Return 0, 1, ... up to each count, one after another."""
    stops = np.cumsum(counts)
    return np.arange(stops[-1] if len(stops) else 0) - np.repeat(stops - counts, counts)


def _following(start: Integers, total: int) -> Integers:
    """Return for each entry of loops the place of the next one in its loop."""
    after = np.arange(1, total + 1)
    if len(start):
        after[np.append(start[1:], total) - 1] = start
    return after


def twins(cells: Cells, rows: Integers | None = None) -> Integers:
    """Return for entries of `loop`, each an edge, the entry of the same edge in the next cell.

    Args:
        cells: The cells.
        rows: Entries to look at, with the entries of their twins; `None` for all.

    Returns:
        Places in `loop`, `(c,)`; -1 for edges on the outside.
    """
    ends = cells.ends
    rows = np.arange(len(cells.loop)) if rows is None else rows
    low = np.minimum(cells.loop[rows], ends[rows])
    key = low * len(cells.places) + np.maximum(cells.loop[rows], ends[rows])
    order = np.argsort(key, kind="stable")
    same = (key[order][1:] == key[order][:-1]).nonzero()[0]
    twin = np.full(len(cells.loop), -1)
    one, other = rows[order[same]], rows[order[same + 1]]
    twin[one], twin[other] = other, one
    return twin


def merged(cells: Cells, group: Integers) -> Cells:
    """Join the cells of each group, whose union is convex; the tags are those of the groups."""
    if len(np.unique(group)) == len(cells):
        return Cells(cells.places, cells.loop, cells.start, group)
    owner, twin = cells.owner, twins(cells)
    inner = (twin >= 0) & (group[owner[twin]] == group[owner])
    after = _following(cells.start, len(cells.loop))
    outer = (~inner).nonzero()[0]
    # Past an edge inside a group the outline goes on in the next cell.
    step = after.copy()
    for _ in range(len(cells.loop)):
        turn = inner[step] & ~inner
        if not turn.any():
            break
        step[turn] = after[twin[step[turn]]]
    kind = group[owner[outer]]
    _, head = np.unique(kind, return_index=True)
    walk = outer[head]
    begin, path, alive = walk.copy(), [], np.ones(len(walk), dtype=bool)
    members = np.arange(len(walk))
    trail = []
    while alive.any():
        path.append(cells.loop[walk[alive]])
        trail.append(members[alive])
        walk[alive] = step[walk[alive]]
        alive &= walk != begin
    which, corners = np.concatenate(trail), np.concatenate(path)
    order = np.argsort(which, kind="stable")
    counts = np.bincount(which, minlength=len(begin))
    return Cells(cells.places, corners[order], np.cumsum(counts) - counts, group[owner[begin]])


def straightened(cells: Cells, since: int) -> Cells:
    """Leave out corners where two edges alone meet, which are then in line.

    Args:
        cells: The cells.
        since: The first corner that may be left out.
    """
    counts = np.bincount(cells.loop, minlength=len(cells.places))
    loose = (counts > 0) & (counts <= 2)
    loose[:since] = False
    if not loose.any():
        return cells
    ends = cells.ends
    rows = (loose[cells.loop] | loose[ends]).nonzero()[0]
    lone = rows[twins(cells, rows)[rows] < 0]
    outside = np.zeros(len(loose), dtype=bool)
    outside[cells.loop[lone]] = outside[ends[lone]] = True
    loose &= counts + outside == 2
    stays = ~loose[cells.loop]
    sizes = np.add.reduceat(stays.astype(np.int64), cells.start)
    return Cells(cells.places, cells.loop[stays], np.cumsum(sizes) - sizes, cells.tag)
