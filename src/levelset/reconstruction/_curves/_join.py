"""Straight pieces joined to lines."""

import numpy as np

from levelset._typing import Floats, Integers

__all__ = ["join"]

# Neighbours on a line that are closer than this part of the median distance are one.
_DOUBLE = 0.05


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
    found = []
    for chain, closed in _chains(neighbours):
        line = _thinned(points[chain], _DOUBLE * typical, closed)
        if len(line) >= (3 if closed else 2):
            ring = np.concatenate([line, line[:1]]) if closed else line
            length = float(np.linalg.norm(np.diff(ring, axis=0), axis=1).sum())
            found.append((length, line, closed))
    found.sort(key=lambda one: -one[0])
    return [line for _, line, _ in found], [closed for _, _, closed in found]


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
    """Return the line without points that are closer than `least` to the one kept before."""
    kept = [0]
    for k in range(1, len(line)):
        if np.linalg.norm(line[k] - line[kept[-1]]) > least:
            kept.append(k)
    if closed and len(kept) > 1 and np.linalg.norm(line[kept[-1]] - line[0]) <= least:
        kept.pop()
    return line[kept]
