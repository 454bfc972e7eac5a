"""The decision boundary in a plane, followed from region to region."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from levelset._relaxation._program import Program
from levelset._typing import Floats, Integers
from levelset.boundary._sections._lattice import TIED, Lattice
from levelset.boundary._sections._plane import Frame
from levelset.boundary._sections._region import Region

__all__ = ["Curve", "Traced", "Tracer", "between", "trace_boundary"]

# How near two places are one, as a share of the rectangle, and how far past a corner where walls
# turn a walker round and round the next region is looked at.
_NEAR, _PAST = 1e-9, 1e-10
# Walls crossed at one place until then, and how far it is to another place, as such a share.
_TURNS, _SAME = 1000, 1e-14
_HALVINGS = 50


class Traced(NamedTuple):
    """Segments of the boundary.

    Attributes:
        segments: Their ends, `(s, 2, 2)`, with the first class on their left.
        sides: The classes on the left and right, `(s, 2)`.
        triple_points: Where three classes meet, `(t, 2)`.
        tied: Whether logits that are equal on an area were met.
    """

    segments: Tensor
    sides: Tensor
    triple_points: Tensor
    tied: bool


def trace_boundary(program: Program, frame: Frame, count: int) -> "Tracer":
    """Follow the boundary wherever a lattice shows it, and on from where three classes meet.

    Classes at the points of the lattice, and where the curves cross its lines, make a sequence on
    each line. Where two neighbours in it do not fit, there is a curve that has not been followed.

    Args:
        program: The network, piecewise linear.
        frame: The rectangle.
        count: Points of the lattice along each axis.
    """
    lattice = Lattice(program, frame, count)
    tracer = Tracer(program, frame)
    tracer.tied = lattice.tied
    while (gap := lattice.gap()) is not None:
        place, pair = between(lattice.label, gap.start, gap.end, gap.first)
        if tracer.is_known(place, pair):
            lattice.skip(gap)
            continue
        before = len(tracer.curves)
        tracer.follow(place, pair)
        for curve in tracer.curves[before:]:
            lattice.add(np.array(curve.places), curve.pair)
        lattice.skip(gap)
    return tracer


def between(
    label: Callable[[Floats], int], start: Floats, end: Floats, first: int
) -> tuple[Floats, tuple[int, int]]:
    """Return a point of the boundary between two points, and the classes on its two sides.

    Args:
        label: Returns the class at a place.
        start: A point beside which lies the first class.
        end: One of another class.
        first: The first class.
    """
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        if label(middle) == first:
            start = middle
        else:
            end = middle
    return (start + end) / 2, (first, label(end))


@dataclass
class Curve:
    """A part of the boundary between two classes.

    Attributes:
        pair: The class on its left, and on its right.
        places: Where it begins, bends and ends.
    """

    pair: tuple[int, int]
    places: list[Floats] = field(default_factory=list)


class _Meeting(NamedTuple):
    """Where three classes meet.

    Attributes:
        place: Where.
        classes: Which.
        state: The region there.
        curves: The pairs of classes whose curves from there have been followed.
    """

    place: Floats
    classes: frozenset[int]
    state: list[Integers]
    curves: set[frozenset[int]]


class Tracer:
    """A walker on the boundary.

    Attributes:
        curves: Those that it has followed.
        tied: Whether it met logits that are equal on an area. The class there is the first of them,
            and boundaries that run round the area, along walls, are not followed.
    """

    def __init__(self, program: Program, frame: Frame) -> None:
        self._region = Region(program, frame)
        self._low, self._high = np.array(frame.low), np.array(frame.high)
        self._scale = float((self._high - self._low).max())
        self._meetings: list[_Meeting] = []
        self.curves: list[Curve] = []
        self.tied = False

    def is_known(self, place: Floats, pair: tuple[int, int]) -> bool:
        """Return whether a place lies on a curve that has been followed."""
        for curve in self.curves:
            if {*curve.pair} == {*pair} and len(curve.places) > 1:
                line = np.array(curve.places)
                along = np.diff(line, axis=0)
                apart = place - line[:-1]
                square = np.maximum((along**2).sum(1), 1e-300)
                share = np.clip((apart * along).sum(1) / square, 0.0, 1.0)
                off = np.linalg.norm(apart - share[:, None] * along, axis=1)
                if off.min() <= _NEAR * self._scale:
                    return True
        return False

    def follow(self, place: Floats, pair: tuple[int, int]) -> None:
        """Follow a curve both ways, and all that begin where it ends."""
        self._region.enter(place)
        state = self._region.state()
        if not self._walk(place, pair):
            self._region.restore(state)
            self._walk(place, pair[::-1])
        while True:
            start = next(
                (
                    (meeting, third)
                    for meeting in self._meetings
                    for third in sorted(meeting.classes)
                    if meeting.classes - {third} not in meeting.curves
                ),
                None,
            )
            if start is None:
                return
            meeting, third = start
            meeting.curves.add(meeting.classes - {third})
            one, other = sorted(meeting.classes - {third})
            # Away from the third class, which is then behind.
            self._region.restore(meeting.state)
            ahead = self._ahead(meeting.place, (one, other))[1]
            slope = self._region.logits[1:, third] - self._region.logits[1:, one]
            self._walk(meeting.place, (one, other) if slope @ ahead <= 0 else (other, one))

    def _ahead(self, place: Floats, pair: tuple[int, int]) -> tuple[Floats, Floats]:
        """Return the nearest place where two classes tie, and the way on; NaN where they do not."""
        one, other = pair
        gap, *slope = self._region.logits[:, one] - self._region.logits[:, other]
        steep = np.array(slope)
        square = float(steep @ steep)
        if square == 0.0:
            self.tied = True
            return place, np.full(2, np.nan)
        place = place - steep * ((gap + steep @ place) / square)
        # The first class lies on the left, uphill of the difference.
        return place, np.array([steep[1], -steep[0]]) / np.sqrt(square)

    def _walk(self, place: Floats, pair: tuple[int, int]) -> bool:
        """Follow a curve one way; return whether it came back to where it began."""
        begin, ahead = self._ahead(place, pair)
        curve = Curve(pair, [begin])
        home, length, turns = begin, 0.0, 0
        while not np.isnan(ahead[0]):
            time, wall = self._region.first(begin, ahead)
            over, third = self._third(begin, ahead, pair)
            last = min(over, self._exit(begin, ahead))
            stop = min(time, last)
            back = self._back(home, begin, ahead, stop) if length > _NEAR * self._scale else np.inf
            if back <= stop:
                curve.places.append(home)
                self.curves.append(curve)
                return True
            end = begin + stop * ahead
            length += stop
            if last <= time:
                curve.places.append(end)
                if over == last:
                    self._meet(end, {*pair, third}, pair)
                break
            turns = turns + 1 if stop <= _SAME * self._scale else 0
            if turns > _TURNS:
                curve.places.append(end)
                self._region.enter(end + _PAST * self._scale * ahead)
                begin, ahead = self._ahead(end, pair)
                turns = 0
            elif self._region.cross(wall):
                if np.abs(end - curve.places[-1]).max() > _SAME * self._scale:
                    curve.places.append(end)
                begin, ahead = self._ahead(end, pair)
            else:
                begin = end
        self.curves.append(curve)
        return False

    def _third(self, place: Floats, ahead: Floats, pair: tuple[int, int]) -> tuple[float, int]:
        """Return how far it is to where another class takes over, and which."""
        logits = self._region.logits
        rest = logits[:, pair[0], None] - logits
        size = TIED * np.abs(logits[:, pair[0]]).max()
        alike = (np.abs(rest) <= size).all(0) | (
            np.abs(logits[:, pair[1], None] - logits) <= size
        ).all(0)
        self.tied |= int(alike.sum()) > 2
        value, rate = rest[0] + place @ rest[1:], ahead @ rest[1:]
        rate[list(pair)] = 0.0
        slow = rate >= 0
        over = np.maximum(value, 0.0) / np.where(slow, 1.0, -rate)
        over[slow] = np.inf
        third = int(over.argmin())
        return float(over[third]), third

    def _exit(self, place: Floats, ahead: Floats) -> float:
        """Return how far it is to the side of the rectangle."""
        sides = np.where(ahead > 0, self._high, self._low) - place
        still = ahead == 0
        far = sides / np.where(still, 1.0, ahead)
        far[still] = np.inf
        return max(float(far.min()), 0.0)

    def _back(self, home: Floats, place: Floats, ahead: Floats, stop: float) -> float:
        """Return how far it is to where the walk began; infinity where that lies elsewhere."""
        near = _NEAR * self._scale
        apart = home - place
        along = float(apart @ ahead)
        if not -near <= along <= stop + near:
            return np.inf
        off = apart - along * ahead
        return min(max(along, 0.0), stop) if float(off @ off) <= near**2 else np.inf

    def _meet(self, place: Floats, classes: set[int], pair: tuple[int, int]) -> None:
        """Note where three classes meet, and the curve that came there."""
        names = frozenset(classes)
        for meeting in self._meetings:
            apart = np.abs(meeting.place - place).max()
            if meeting.classes == names and apart <= _NEAR * self._scale:
                meeting.curves.add(frozenset(pair))
                return
        self._meetings.append(_Meeting(place, names, self._region.state(), {frozenset(pair)}))

    def traced(self) -> Traced:
        """Return all that has been followed."""
        ends, sides = [np.zeros((0, 2, 2))], [np.zeros((0, 2), dtype=np.int64)]
        for curve in self.curves:
            line = np.array(curve.places)
            segments = np.stack([line[:-1], line[1:]], 1)
            segments = segments[(line[:-1] != line[1:]).any(1)]
            ends.append(segments)
            sides.append(np.tile(np.array(curve.pair), (len(segments), 1)))
        meetings = np.array([meeting.place for meeting in self._meetings]).reshape(-1, 2)
        return Traced(
            torch.from_numpy(np.concatenate(ends)),
            torch.from_numpy(np.concatenate(sides)),
            torch.from_numpy(meetings),
            self.tied,
        )
