"""Rows of nodes along curves: cut at jumps, joined over gaps, made whole where they touch."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from levelset._typing import Floats

__all__ = ["Path", "attached", "joined", "pieces", "touching"]


# The most by which the two ends of a gap may turn together, in radians: a hairpin's and some.
_TURN = 3.5
# Rows of nodes cut corners and end early, so gaps look wider than they are.
_SLACK = 1.1


@dataclass(frozen=True, eq=False)
class Path:
    """A row of nodes along one curve.

    Attributes:
        nodes: Points in order, `(m, d)`; of a closed curve the first stands once.
        closed: Whether the last is joined to the first.
    """

    nodes: Floats
    closed: bool

    @property
    def length(self) -> float:
        """The length of the row, without the piece that closes it."""
        return float(np.linalg.norm(np.diff(self.nodes, axis=0), axis=1).sum())


def pieces(ring: Floats, jump: float) -> list[Path]:
    """Return the rows of nodes between the jumps of a tour; single nodes are left out."""
    steps = np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1)
    jumps = np.flatnonzero(steps > jump)
    if len(jumps) == 0:
        return [Path(ring, closed=True)]
    ring = np.roll(ring, -(jumps[-1] + 1), 0)
    cuts = np.sort((jumps - jumps[-1] - 1) % len(ring)) + 1
    rows = [row for row in np.split(ring, cuts) if len(row) > 1]
    return [Path(row, closed=False) for row in rows]


def joined(paths: list[Path], gap: float, step: float, *, loops: bool) -> list[Path]:
    """Return the paths with gaps between their ends closed, those first that bend least."""
    paths = paths if loops else [_opened(path) for path in paths]
    while True:
        bridges = [
            bridge
            for i in range(len(paths))
            for j in range(i, len(paths))
            if not paths[i].closed and not paths[j].closed
            for bridge in _bridges(paths, i, j, gap, step, loops)
        ]
        if not bridges:
            return paths
        _, i, j, row, closed = min(bridges, key=lambda bridge: bridge[0])
        paths = [path for k, path in enumerate(paths) if k not in (i, j)] + [Path(row, closed)]


def _bridges(
    paths: list[Path], i: int, j: int, gap: float, step: float, loops: bool
) -> list[tuple[float, int, int, Floats, bool]]:
    """Return the ways to join two paths, or one with itself: cost, both rows, nodes, closed."""
    one, other = paths[i].nodes, paths[j].nodes
    if i == j:
        ways = [(one, one)] if loops and len(one) > 3 else []
    else:
        ways = [(a, b) for a in (one, one[::-1]) for b in (other, other[::-1])]
    visible = paths[i].length + (paths[j].length if i != j else 0.0)
    allowed = _SLACK * gap / (1.0 - gap) * visible + 2.0 * step
    found = []
    for first, second in ways:
        wide, turn = float(np.linalg.norm(second[0] - first[-1])), _turn(first, second)
        if wide <= allowed and turn <= _TURN:
            row = first if i == j else np.concatenate([first, second])
            found.append((wide * (1.0 + turn**2), i, j, row, i == j))
    return found


def touching(paths: list[Path], jump: float) -> list[Path] | None:
    """Return the paths after a loop that touches another was made part of it, or none."""
    for i, loop in enumerate(paths):
        for j, other in enumerate(paths):
            if i == j or not loop.closed:
                continue
            far = cdist(loop.nodes, other.nodes)
            k, m = np.unravel_index(int(far.argmin()), far.shape)
            if far[k, m] <= jump:
                ring = np.roll(loop.nodes, -int(k), 0)
                straight = _turn(other.nodes[: m + 1], ring) <= _turn(
                    other.nodes[: m + 1], ring[::-1]
                )
                ring = ring if straight else np.roll(ring[::-1], 1, 0)
                row = np.concatenate([other.nodes[: m + 1], ring, other.nodes[m + 1 :]])
                rest = [path for n, path in enumerate(paths) if n not in (i, j)]
                return [*rest, Path(row, other.closed)]
    return None


def attached(paths: list[Path], jump: float) -> list[Path] | None:
    """Return the paths after attaching one that ends on another's side, or none if none does.

    There the other is two strands of a hairpin too close to tell apart: it is run through twice.
    """
    for i, one in enumerate(paths):
        for j, other in enumerate(paths):
            if one.closed or i == j:
                continue
            for row in (one.nodes, one.nodes[::-1]):
                far = np.linalg.norm(other.nodes - row[-1], axis=1)
                k = int(far.argmin())
                if far[k] <= jump:
                    return [p for m, p in enumerate(paths) if m not in (i, j)] + [
                        _with_hairpin(row, other, k)
                    ]
    return None


def _with_hairpin(row: Floats, other: Path, k: int) -> Path:
    """Return a row that ends at node `k` of another path joined with it."""
    if other.closed:
        ring = np.roll(other.nodes, -k, 0)
        return Path(np.concatenate([ring, ring[:1], row[::-1], row[1:]]), closed=True)
    before, after = other.nodes[: k + 1], other.nodes[k:]
    if Path(before, closed=False).length < Path(after, closed=False).length:
        return Path(np.concatenate([row, before[::-1], other.nodes[1:]]), closed=False)
    return Path(np.concatenate([row, after, other.nodes[-2::-1]]), closed=False)


def _opened(path: Path) -> Path:
    """Return a closed path cut at its longest step."""
    if not path.closed:
        return path
    steps = np.linalg.norm(np.roll(path.nodes, -1, 0) - path.nodes, axis=1)
    return Path(np.roll(path.nodes, -(int(steps.argmax()) + 1), 0), closed=False)


def _turn(first: Floats, other: Floats) -> float:
    """Return by how much a curve turns over the gap from the end of one row to another's start."""
    bridge = _unit(other[0] - first[-1])
    out = _unit(first[-1] - first[-min(3, len(first))])
    into = _unit(other[min(2, len(other) - 1)] - other[0])
    return float(np.arccos(np.clip(out @ bridge, -1, 1)) + np.arccos(np.clip(into @ bridge, -1, 1)))


def _unit(vector: Floats) -> Floats:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length) if length > 0 else vector
