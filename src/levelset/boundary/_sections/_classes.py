"""Linear regions cut where the class changes, and the decision boundary between them."""

from typing import NamedTuple

import numpy as np

from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sections._cells import Cells, merged, straightened, twins
from levelset.boundary._sections._cutting import Words, cut, extended, packed
from levelset.boundary._sections._subdivision import ZERO

__all__ = ["Classified", "by_class"]


class Classified(NamedTuple):
    """Cells of one class each.

    Attributes:
        cells: The cells; their tags number the linear regions that they are part of.
        classes: The class of each, `(p,)`.
        edges: Corners of the edges between different classes, `(s, 2)`.
        sides: Classes on the left and on the right of each, `(s, 2)`.
    """

    cells: Cells
    classes: Integers
    edges: Integers
    sides: Integers


def by_class(cells: Cells, logits: Floats, size: float) -> Classified:
    """Cut linear regions where the largest logit changes; of equal ones the first counts.

    Args:
        cells: The regions.
        logits: At the corners, `(v, k)`.
        size: What a logit is summed from.
    """
    slack = 2.0 * ZERO * size
    best = logits >= logits.max(1, keepdims=True) - slack
    common = np.bitwise_and.reduceat(packed(best).take(cells.loop, 1), cells.start, axis=1)
    settled: Booleans = np.any(common != 0, axis=0)
    classes = _lowest(common)
    if not settled.all():
        cells, classes = _cut(cells.tagged(), logits, slack, ~settled, classes)
    else:
        cells = cells.tagged()
    edges, sides = _edges(cells, classes)
    return Classified(cells, classes, edges, sides)


def _lowest(words: Words) -> Integers:
    """Return the number of the lowest bit of each column; 0 where there is none."""
    low = words & (~words + np.uint64(1))
    place = np.log2(np.maximum(low, 1).astype(np.float64)).astype(np.int64)
    first = (low != 0).argmax(0)
    return 64 * first + place[first, np.arange(words.shape[1])]


def _cut(
    cells: Cells, logits: Floats, slack: float, open_: Booleans, classes: Integers
) -> tuple[Cells, Integers]:
    """Cut the open regions by ties, and return all with their classes."""
    rivals, columns = _rivals(cells[open_], logits, slack)
    one, other = np.triu_indices(len(columns), 1)
    both = rivals[:, one] & rivals[:, other]
    used = both.any(0)
    one, other, both = one[used], other[used], both[:, used]
    allowed = np.zeros((-(-both.shape[1] // 64), len(cells)), dtype=np.uint64)
    allowed[:, open_] = packed(both)
    values = logits[:, columns[one]] - logits[:, columns[other]]
    done = cut(cells, values, np.full(len(one), slack), allowed=allowed)
    whole, logits = done.cells, extended(logits, done.births)
    is_part = open_[whole.tag]
    parts, rest = whole[is_part], whole[~is_part]
    middles = parts.middles(logits[:, columns])
    near = middles >= middles.max(1, keepdims=True) - slack
    winners = columns[near.argmax(1)]
    # A tie below a third class cuts what belongs together.
    _, index, group = np.unique(
        np.stack([parts.tag, winners], axis=1), axis=0, return_index=True, return_inverse=True
    )
    group = group.reshape(-1)
    regions, winners = parts.tag[index], winners[index]
    parts = merged(parts, group)
    joined = Cells(
        whole.places, np.concatenate([rest.loop, parts.loop]),
        np.concatenate([rest.start, parts.start + len(rest.loop)]),
        np.concatenate([rest.tag, regions[parts.tag]]),
    )  # fmt: skip
    joined = straightened(joined, len(cells.places))
    return joined, np.concatenate([classes[rest.tag], winners[parts.tag]])


def _rivals(cells: Cells, logits: Floats, slack: float) -> tuple[Booleans, Integers]:
    """Return which classes may be the largest somewhere in each cell, and their numbers."""
    rows = logits[cells.loop]
    high = np.maximum.reduceat(rows, cells.start, axis=0)
    low = np.minimum.reduceat(rows, cells.start, axis=0)
    may = high >= low.max(1, keepdims=True) - slack
    columns = may.any(0).nonzero()[0]
    may, rows = may[:, columns], rows[:, columns]
    for j in range(len(columns)):
        # Where one class is never below another, the other never counts; of equals the first does.
        ahead = rows - rows[:, j : j + 1]
        least = np.minimum.reduceat(ahead, cells.start, axis=0)
        most = np.maximum.reduceat(ahead, cells.start, axis=0)
        beats = (least >= -slack) & ((most > slack) | (np.arange(len(columns)) < j))
        may[:, j] &= ~beats.any(1)
    return may, columns


def _edges(cells: Cells, classes: Integers) -> tuple[Integers, Integers]:
    """Return the edges between cells of different classes, and the classes beside them."""
    mine = classes[cells.owner]
    seen = np.full(len(cells.places), -1)
    seen[cells.loop] = mine
    several = np.zeros(len(cells.places), dtype=bool)
    several[cells.loop[seen[cells.loop] != mine]] = True
    ends = cells.ends
    rows = (several[cells.loop] & several[ends]).nonzero()[0]
    twin = twins(cells, rows)[rows]
    border = (twin > rows) & (mine[twin] != mine[rows])
    rows, twin = rows[border], twin[border]
    return (
        np.stack([cells.loop[rows], ends[rows]], axis=1),
        np.stack([mine[rows], mine[twin]], axis=1),
    )
