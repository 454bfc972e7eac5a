"""Cells cut by many lines at once.

A corner has a sign for each line: negative, 0 or positive, kept as bits. Where a line meets an edge
it makes a corner, whose sign for that line is 0 and whose other signs follow from its place on the
edge. Nothing is decided by comparing rounded values twice, so cells fit together whatever lines
coincide, meet in a point, or run along edges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sections._cells import Cells, ranges

__all__ = ["Births", "Cut", "Words", "cut", "extended", "packed"]

Words = np.ndarray
"""Sets of lines as bits, `(w, n)` in uint64: w words for each of n corners or cells."""

# Corners nearer than this share of an edge are one.
_NEAR = 1e-12
# More rounds than any cut needs: each halves what is left.
_ROUNDS = 400


@dataclass(frozen=True, eq=False)
class Births:
    """New corners of one round: between which two, and how far along.

    Attributes:
        one: Corners, `(n,)`.
        other: Corners, `(n,)`.
        share: 0 at the first, 1 at the second, `(n,)`.
    """

    one: Integers
    other: Integers
    share: Floats

    def between(self, values: Floats) -> Floats:
        """Return values at the new corners from those at the old, `(n, m)`."""
        share = self.share[:, None]
        return values[self.one] * (1.0 - share) + values[self.other] * share


@dataclass(frozen=True, eq=False)
class Cut:
    """Cells after a cut.

    Attributes:
        cells: The parts, with the tags of what they are part of.
        values: Those of the lines at all corners, `(v, u)`: 0 where a line made the corner.
        births: The new corners, round by round.
    """

    cells: Cells
    values: Floats
    births: list[Births]


def extended(values: Floats, births: list[Births]) -> Floats:
    """Return values at the corners with those at the new ones, by interpolation."""
    for part in births:
        values = np.concatenate([values, part.between(values)])
    return values


def cut(
    cells: Cells,
    values: Floats,
    zero: Floats,
    *,
    merge: float = 0.0,
    allowed: Words | None = None,
    check: Callable[[int], None] | None = None,
) -> Cut:
    """Cut cells along the zeros of functions that are affine on each.

    Args:
        cells: The cells.
        values: Of the functions at the corners, `(v, u)`.
        zero: Absolute values that count as 0, `(u,)`.
        merge: Corners nearer than this on an edge are one.
        allowed: Which lines may cut which cell, as bits `(w, p)`; `None` for all.
        check: Called with the number of cells after each round; may raise.
    """
    above, below = values > zero, values < -zero
    alive = np.flatnonzero(above.any(0) & below.any(0))
    if not len(alive):
        return Cut(cells, values, [])
    if allowed is not None or len(alive) > values.shape[1] // 2:
        alive = np.arange(values.shape[1])
    whole = len(alive) == values.shape[1]
    knife = _Knife(
        cells, values if whole else values[:, alive],
        above if whole else above[:, alive], below if whole else below[:, alive], merge,
    )  # fmt: skip
    parts = knife.run(cells, allowed, check)
    if whole:
        return Cut(parts, knife.values[: knife.count, 2:], knife.births)
    every = extended(values, knife.births)
    every[:, alive] = knife.values[: knife.count, 2:]
    return Cut(parts, every, knife.births)


class _Knife:
    """Corners with values and signs, which grow while cells are cut.

    Attributes:
        values: Places, then the values of all lines, `(room, 2 + u)`; `count` rows are in use.
        above: Lines that are positive at each corner, as bits `(w, room)`.
        below: Those that are negative.
        births: New corners, round by round.
    """

    def __init__(
        self, cells: Cells, values: Floats, above: Booleans, below: Booleans, merge: float
    ) -> None:
        self.count, self.lines = values.shape
        self.merge = merge
        self.values = np.concatenate([cells.places, values], axis=1)
        self.above, self.below = packed(above), packed(below)
        self.births: list[Births] = []

    def run(
        self, cells: Cells, allowed: Words | None, check: Callable[[int], None] | None
    ) -> Cells:
        """Return the parts of the cells."""
        loop, start = self._cut_edges(cells, allowed)
        tag = cells.tag
        done: list[tuple[Integers, Integers, Integers]] = []
        total = 0
        for _ in range(_ROUNDS):
            over, under = self._sides(loop, start)
            crossing = over & under
            if allowed is not None:
                crossing &= allowed
            active = crossing.any(0)
            first, second = self._chords(loop, start, crossing, active)
            active = first >= 0
            sizes = np.diff(start, append=len(loop))
            if not active.all():
                rest = ~active
                done.append((loop[np.repeat(rest, sizes)], sizes[rest], tag[rest]))
                total += len(done[-1][1])
            if not active.any():
                break
            loop, start = self._split(
                loop, start[active], sizes[active], first[active], second[active],
                crossing[:, active],
            )  # fmt: skip
            tag = np.repeat(tag[active], 2)
            allowed = None if allowed is None else np.repeat(allowed[:, active], 2, axis=1)
            if check is not None:
                check(total + len(start))
        loops, counts, tags = (np.concatenate(part) for part in zip(*done, strict=True))
        return Cells(self.values[: self.count, :2].copy(), loops, np.cumsum(counts) - counts, tags)

    def _sides(self, loop: Integers, start: Integers) -> tuple[Words, Words]:
        """Return the lines that have a corner of each cell above, and below."""
        over = np.bitwise_or.reduceat(self.above.take(loop, 1), start, axis=1)
        under = np.bitwise_or.reduceat(self.below.take(loop, 1), start, axis=1)
        return over, under

    def _crossing(self, one: Integers, other: Integers) -> Words:
        """Return the lines that have the two ends of each edge on different sides."""
        above, below = self.above, self.below
        crossing = above.take(one, 1) & below.take(other, 1)
        crossing |= below.take(one, 1) & above.take(other, 1)
        return crossing

    def _cut_edges(self, cells: Cells, allowed: Words | None) -> tuple[Integers, Integers]:
        """Put corners where lines cross edges, and return the loops with them."""
        loop, start = cells.loop, cells.start
        ends = cells.ends
        crossing = self._crossing(loop, ends)
        rows = np.flatnonzero(crossing.any(0))
        if not len(rows):
            return loop, start
        low, high = np.minimum(loop[rows], ends[rows]), np.maximum(loop[rows], ends[rows])
        keys, index, inverse = np.unique(
            low * self.count + high, return_index=True, return_inverse=True
        )
        lines = crossing[:, rows[index]]
        if allowed is not None:
            order = np.argsort(inverse, kind="stable")
            bounds = np.searchsorted(inverse[order], np.arange(len(keys)))
            mine = allowed[:, cells.owner[rows[order]]]
            lines = lines & np.bitwise_or.reduceat(mine, bounds, axis=1)
        counts, first = self._split_edges(low[index], high[index], lines)
        # Each edge has its new corners in the order from its lower to its higher end.
        added = np.zeros(len(loop), dtype=np.int64)
        added[rows] = counts[inverse]
        places = np.arange(len(loop)) + np.cumsum(added) - added
        out = np.empty(len(loop) + int(added.sum()), dtype=np.int64)
        out[places] = loop
        step = ranges(counts[inverse])
        many = counts[inverse]
        forward = np.repeat(loop[rows] == low, many)
        number = np.where(forward, step, np.repeat(many, many) - 1 - step)
        out[np.repeat(places[rows], many) + 1 + step] = np.repeat(first[inverse], many) + number
        return out, places[start]

    def _split_edges(
        self, one: Integers, other: Integers, crossing: Words
    ) -> tuple[Integers, Integers]:
        """Make the corners of edges, in order; return how many each has, and the first's number."""
        edge, line = _bits(crossing, self.lines)
        if not len(edge):
            return np.zeros(len(one), dtype=np.int64), np.full(len(one), self.count)
        ahead = np.abs(self.values[one[edge], line + 2])
        behind = np.abs(self.values[other[edge], line + 2])
        total = ahead + behind
        share = np.divide(ahead, total, out=np.full(len(edge), 0.5), where=total > 0)
        order = np.lexsort((share, edge))
        edge, line, share = edge[order], line[order], share[order]
        near = _NEAR if self.merge == 0.0 else self._near(one, other)[edge[1:]]
        fresh = np.ones(len(edge), dtype=bool)
        fresh[1:] = (edge[1:] != edge[:-1]) | (share[1:] - share[:-1] > near)
        heads = fresh.nonzero()[0]
        corner = np.cumsum(fresh) - 1
        of = edge[heads]
        counts = np.bincount(of, minlength=len(one))
        first = self.count + np.cumsum(counts) - counts
        own = np.zeros((len(self.above), len(heads)), dtype=np.uint64)
        np.bitwise_or.at(own, (line // 64, corner), _bit(line))
        self._add(one[of], other[of], share[heads], own, crossing[:, of], of)
        self.values[self.count - len(heads) + corner, line + 2] = 0.0
        return counts, first

    def _near(self, one: Integers, other: Integers) -> Floats:
        """Return the share of each edge below which two corners are one."""
        length = np.linalg.norm(self.values[one, :2] - self.values[other, :2], axis=1)
        return np.maximum(_NEAR, self.merge / np.maximum(length, np.finfo(float).tiny))

    def _add(
        self, one: Integers, other: Integers, share: Floats, own: Words, crossing: Words,
        edge: Integers,
    ) -> None:  # fmt: skip
        """Add corners between others, in order along each edge, with what they lie on."""
        stop = self.count + len(one)
        if stop > len(self.values):
            room = max(stop, 2 * len(self.values))
            self.values = _grown(self.values, room)
            self.above, self.below = (_grown(w.T, room).T.copy() for w in (self.above, self.below))
        birth = Births(one, other, share)
        self.values[self.count : stop] = birth.between(self.values)
        # Lines that cross the edge before a corner have it on the side of the second end.
        passed = np.cumsum(own, axis=1, dtype=np.uint64) - own
        begin = np.ones(len(edge), dtype=bool)
        begin[1:] = edge[1:] != edge[:-1]
        heads = begin.nonzero()[0]
        passed -= np.repeat(passed[:, heads], np.diff(heads, append=len(edge)), axis=1)
        before, after = crossing & passed, crossing & ~(passed | own)
        for bits in (self.above, self.below):
            near, far = bits.take(one, 1), bits.take(other, 1)
            bits[:, self.count : stop] = (
                ((near | far) & ~crossing) | (far & before) | (near & after)
            )
        self.births.append(birth)
        self.count = stop

    def _chords(
        self, loop: Integers, start: Integers, crossing: Words, active: Booleans
    ) -> tuple[Integers, Integers]:
        """Return for each cell the two places in its loop that the most even cut joins.

        A line enters the side below it at a corner of sign 0 and leaves it at another. Cells that
        no line crosses get -1.
        """
        sizes = np.diff(start, append=len(loop))
        best = np.full(len(start), -1), np.full(len(start), -1)
        entries = np.repeat(active, sizes).nonzero()[0]
        if not len(entries):
            return best
        owner = np.repeat(np.arange(len(start)), sizes)[entries]
        corners = loop[entries]
        free = ~(self.above.take(corners, 1) | self.below.take(corners, 1))
        row, line = _sparse_bits(free & crossing.take(owner, 1))
        place, owner = entries[row], owner[row]
        begin, size = start[owner], sizes[owner]
        local = place - begin
        after = loop[np.where(local + 1 < size, place + 1, begin)]
        before = loop[np.where(local > 0, place - 1, begin + size - 1)]
        word, bit = line // 64, _bit(line)
        enters = (self.below[word, after] & bit) != 0
        leaves = (self.below[word, before] & bit) != 0
        key = owner * (64 * len(self.above)) + line
        first, at = np.unique(key[enters], return_index=True)
        second, to = np.unique(key[leaves], return_index=True)
        _, mine, others = np.intersect1d(first, second, assume_unique=True, return_indices=True)
        one, other = local[enters][at[mine]], local[leaves][to[others]]
        owner = owner[enters][at[mine]]
        span = (other - one) % sizes[owner]
        uneven = np.abs(2 * span - sizes[owner])
        sound = uneven <= sizes[owner] - 4
        order = np.lexsort((uneven[sound], owner[sound]))
        owner, one, other = owner[sound][order], one[sound][order], other[sound][order]
        head = np.ones(len(owner), dtype=bool)
        head[1:] = owner[1:] != owner[:-1]
        best[0][owner[head]], best[1][owner[head]] = one[head], other[head]
        return best

    def _split(
        self, loop: Integers, start: Integers, sizes: Integers, first: Integers, second: Integers,
        crossing: Words,
    ) -> tuple[Integers, Integers]:  # fmt: skip
        """Cut each cell between two places of its loop; return the loops of the halves."""
        one, other = loop[start + first], loop[start + second]
        lines = self._crossing(one, other) & crossing
        counts, number = self._split_edges(one, other, lines)
        span = (second - first) % sizes
        # The first half runs from one to the other and back along the chord, and the second on.
        run = np.stack([span + 1, sizes - span + 1], axis=1).ravel()
        base = np.stack([first, second], axis=1).ravel()
        total = run + np.repeat(counts, 2)
        half = np.repeat(np.arange(len(run)), total)
        step = ranges(total)
        cell, run = half // 2, run[half]
        along = step - run
        back = np.where(half % 2 == 0, counts[cell] - 1 - along, along)
        place = start[cell] + (base[half] + step) % sizes[cell]
        inside = step < run
        place[~inside] = 0
        loops = np.where(inside, loop[place], number[cell] + back)
        return loops, np.cumsum(total) - total


def packed(mask: Booleans) -> Words:
    """Return the columns of a mask `(n, u)` as bits `(w, n)`."""
    few = np.packbits(mask, axis=1, bitorder="little")
    wide = -(-few.shape[1] // 8) * 8
    bits = np.zeros((len(mask), wide), dtype=np.uint8)
    bits[:, : few.shape[1]] = few
    return np.ascontiguousarray(bits.view(np.uint64).T)


def _bit(line: Integers) -> Words:
    """Return the bit of each line in its word."""
    return np.uint64(1) << (line % 64).astype(np.uint64)


def _grown(array: np.ndarray, room: int) -> np.ndarray:
    out = np.empty((room, *array.shape[1:]), dtype=array.dtype)
    out[: len(array)] = array
    return out


def _bits(words: Words, lines: int) -> tuple[Integers, Integers]:
    """Return the columns and bits that are set, by columns."""
    flat = np.ascontiguousarray(words.T).view(np.uint8)
    columns, bits = np.unpackbits(flat, axis=1, bitorder="little")[:, :lines].nonzero()
    return columns, bits


def _sparse_bits(words: Words) -> tuple[Integers, Integers]:
    """Return the same in any order, where few bits of a word are set."""
    columns, lines = [], []
    for place, word in enumerate(words):
        index = word.nonzero()[0]
        left = word[index]
        while len(index):
            low = left & (~left + np.uint64(1))
            columns.append(index)
            lines.append(64 * place + np.log2(low.astype(np.float64)).astype(np.int64))
            left = left ^ low
            more = left != 0
            index, left = index[more], left[more]
    if not columns:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(columns), np.concatenate(lines)
