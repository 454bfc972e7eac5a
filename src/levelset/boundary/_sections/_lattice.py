"""Classes on a lattice in a plane, and whether curves explain where they change."""

from typing import NamedTuple

import numpy as np
import torch

from levelset._relaxation._program import Program
from levelset._typing import Floats, Integers
from levelset.boundary._sections._cells import ranges
from levelset.boundary._sections._plane import Frame

__all__ = ["TIED", "Gap", "Lattice"]

# Points at once, and how far inside of the rectangle the outer lines run, as shares of it: so that
# curves cross them before they leave, and lines through round numbers miss the lattice.
_AT_ONCE = 16
_INSET = (0.7e-9, 1.3e-9)
TIED = 1e-12
"""The share of the largest logit below which a difference counts as 0."""


class Gap(NamedTuple):
    """Two points of a line of the lattice between which the boundary lies.

    Attributes:
        start: A point beside which lies the first class, `(2,)`.
        end: One where another class lies before it.
        first: The class.
        name: What tells the gap from others.
    """

    start: Floats
    end: Floats
    first: int
    name: tuple[float, ...]


class Lattice:
    """Classes at the points of a lattice, and the curves that cross its lines.

    Attributes:
        tied: Whether two logits are equal and the largest at a point: then they are on an area.

    Args:
        program: The network.
        frame: The rectangle.
        count: Points along each axis.
    """

    def __init__(self, program: Program, frame: Frame, count: int) -> None:
        self._program, self._frame = program, frame
        shares = np.linspace(_INSET[0], 1.0 - _INSET[1], count)
        low, high = np.array(frame.low), np.array(frame.high)
        self._ticks = [low[axis] + (high - low)[axis] * shares for axis in (0, 1)]
        x, y = np.meshgrid(*self._ticks, indexing="ij")
        self.tied = False
        labels = self._labels(np.stack([x.ravel(), y.ravel()], 1)).reshape(count, count)
        self._skipped: set[tuple[float, ...]] = set()
        # Along lines of x and of y: the line, the place on it, the classes before and after.
        self._events: list[tuple[Integers, Floats, Integers, Integers]] = []
        for axis in (0, 1):
            line, place = np.indices((count, count)).reshape(2, -1)
            label = (labels if axis == 0 else labels.T).ravel()
            self._events.append((line, self._ticks[1 - axis][place], label, label))

    def label(self, place: Floats) -> int:
        """Return the class at a place."""
        return int(self._labels(place[None])[0])

    def _labels(self, places: Floats) -> Integers:
        parts = [
            self._program.values(self._frame.points(part))[self._program.output]
            for part in torch.split(torch.from_numpy(places), _AT_ONCE)
        ]
        logits = torch.cat(parts)
        if len(places) > 1 and logits.shape[1] > 1:
            best = logits.topk(2, dim=1).values
            self.tied = bool((best[:, 0] - best[:, 1] <= TIED * logits.abs().amax(1)).any())
        return logits.argmax(1).cpu().numpy()

    def add(self, line: Floats, pair: tuple[int, int]) -> None:
        """Note a curve with a class on its left and one on its right.

        Args:
            line: Its places in order, `(m, 2)`.
            pair: The classes.
        """
        for axis in (0, 1):
            ticks = self._ticks[axis]
            cell = np.searchsorted(ticks, line[:, axis], side="right")
            rise = np.diff(cell)
            step = np.flatnonzero(rise)
            many = np.abs(rise[step])
            segment = np.repeat(step, many)
            number = np.minimum(cell[step], cell[step + 1])
            number = np.repeat(number, many) + ranges(many)
            one, other = line[segment], line[segment + 1]
            share = (ticks[number] - one[:, axis]) / (other - one)[:, axis]
            place = one[:, 1 - axis] + share * (other - one)[:, 1 - axis]
            # Up a line of x, or right along a line of y, the curve passes from right to left
            # where it goes right, or down.
            up = (rise[segment] > 0) == (axis == 0)
            before = np.where(up, pair[1], pair[0])
            after = np.where(up, pair[0], pair[1])
            lines, places, left, right = self._events[axis]
            self._events[axis] = (
                np.concatenate([lines, number]),
                np.concatenate([places, place]),
                np.concatenate([left, before]),
                np.concatenate([right, after]),
            )

    def gap(self) -> Gap | None:
        """Return two neighbours on a line that do not fit; `None` if all do."""
        for axis in (0, 1):
            line, place, before, after = self._events[axis]
            order = np.lexsort((place, line))
            line, place, before, after = line[order], place[order], before[order], after[order]
            broken = (line[1:] == line[:-1]) & (after[:-1] != before[1:])
            for row in np.flatnonzero(broken):
                name = (axis, float(line[row]), float(place[row]), float(place[row + 1]))
                if name in self._skipped:
                    continue
                ends = np.full((2, 2), self._ticks[axis][line[row]])
                ends[:, 1 - axis] = place[row : row + 2]
                return Gap(ends[0], ends[1], int(after[row]), name)
        return None

    def skip(self, gap: Gap) -> None:
        """Do not return a gap again."""
        self._skipped.add(gap.name)
