"""The order of scattered points along their curves: a short tour, cut and joined to paths."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._curves._clutter import clutter
from levelset.reconstruction._curves._tour import short_tour

__all__ = ["Path", "attached", "branches", "joined", "order_points", "pieces", "touching"]

# A neighbourhood counts as a piece of a curve when it is so many times longer than it is thick.
_LONG = 2.5
# Where neighbourhoods twice as wide are less long than this the points lie on no curve.
_LINE = 1.8
# The radius of a neighbourhood in standard deviations of the noise, and in distances between
# points along the curve.
_WIDE, _FEW = 4.0, 2.5
_ASKED = 600  # points whose neighbourhoods are looked at
_AROUND = 24  # neighbours among whom noise and spacing are taken for alike
_NEXT = 6  # neighbours on a curve from whose distance the spacing follows
# What it costs the tour to turn at right angles, in distances of nodes.
_BEARING = 4.0
_SPACING = 0.4  # of nodes, in radii
# Steps of the tour longer than this many distances of nodes are no part of a curve, and what the
# tour pays for one.
_JUMP, _LEAP = 6.5, 8.0
_MOST_POINTS = 2_000  # that take part in finding the order
# The most by which the two ends of a gap may turn together, in radians: a hairpin's and some for
# gaps of a few nodes, else a bend's.
_TURN, _BEND, _NARROW = 3.5, 1.9, 4.0
# Rows of nodes cut corners and end early, so gaps look wider than they are.
_SLACK = 1.1
# Points within so many radii, with itself, up to which a point is alone.
_ALONE, _CLOSE = 2, 1.3
# A node by which a row becomes this many times as long between its neighbours is none.
_DETOUR = 2.0
# Rows of fewer nodes than this are no curves.
_FEWEST = 4
# Distances of nodes within which the end of a row lies on another, and how far, in nodes, from
# its ends.
_ON, _MIDDLE = 2.5, 3
# A hairpin goes on within this angle, in radians, with so many times as many points.
_KEEN, _DENSER = 0.9, 1.4
_TOUCH = 1.0  # distances of nodes within which two rows touch


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


def order_points(
    points: Floats, *, gap: float, closed: bool | None, random: np.random.Generator
) -> list[Path]:
    """Return rows of nodes along the curves of a cloud, longest first.

    Points strewn over the box are left out. The others are thinned onto the lines of their own
    neighbourhoods, whose size is the least at which those around are longer than thick. Of nodes
    some way apart a short tour is found, in the space of places and directions together, so that
    strands that cross stay apart. A dummy node lies a few steps from every node: the tour leaves
    a curve at its end rather than run back along it, and there it is cut. The pieces are joined
    where the gap between two ends is short. There are none where neighbourhoods are no longer
    than thick.

    Args:
        points: The cloud, `(n, d)`.
        gap: The longest gap that is closed, as a share of the whole curve.
        closed: Whether curves run back into themselves; `None` to decide by the gaps.
        random: Draws the points that take part, if there are very many.
    """
    if len(points) > _MOST_POINTS:
        points = points[random.choice(len(points), _MOST_POINTS, replace=False)]
    points = points[~clutter(points)]
    reach = _reach(points)
    if _elongation(points, 2.0 * reach) < _LINE:
        return []
    alone = _alone(points, reach)
    points, reach = points[~alone], reach[~alone]
    places, directions = _thinned(points, reach)
    chosen = _apart(places, _SPACING * reach)
    places, directions, step = places[chosen], directions[chosen], _SPACING * reach[chosen]
    steps = 0.5 * (step[:, None] + step)
    apart = cdist(places, places) / steps
    bend = 1.0 - np.minimum((directions @ directions.T) ** 2, 1.0)
    tour = short_tour(np.minimum(np.sqrt(apart**2 + _BEARING**2 * bend), _LEAP))
    ring, after = places[tour], np.roll(tour, -1)
    paths = [_smoothed(path) for path in pieces(ring, _JUMP * steps[tour, after])]
    loops = closed is not False
    paths = [path for path in joined(paths, 0.0, loops=loops) if len(path.nodes) >= _FEWEST]
    paths = joined(paths, gap, loops=loops)
    while (merged := touching(paths) or attached(paths, points)) is not None:
        paths = joined(merged, gap, loops=loops)
    if closed:
        paths = [Path(path.nodes, closed=len(path.nodes) > 2) for path in paths]
    return sorted(paths, key=lambda path: -path.length)


def _thinned(points: Floats, reach: Floats) -> tuple[Floats, Floats]:
    """Return points moved onto the lines of their neighbourhoods, and directions."""
    moved, axis = points, points
    for _ in range(3):
        tree = cKDTree(moved)
        most = int(tree.query_ball_point(moved, reach, return_length=True).max())
        far, near = tree.query(moved, min(max(most, 3), len(points)))
        inside = far <= np.maximum(reach[:, None], far[:, 2:3])
        middle, axis = _principal(moved[near], inside)
        moved = middle + np.einsum("ni,ni->n", moved - middle, axis)[:, None] * axis
    return moved, axis


def _reach(points: Floats) -> Floats:
    """Return the radii of neighbourhoods: a few times the noise around, or some neighbours."""
    n = len(points)
    most = max(n // 2, 3)
    sizes = np.unique(np.clip(np.round(6 * 1.4 ** np.arange(20)).astype(int), 3, most))
    tree = cKDTree(points)
    some = points[:: n // _ASKED + 1]
    near = tree.query(some, min(most, n))[1]
    following = min(_NEXT, n - 1)
    spacing = tree.query(some, following + 1)[0][:, following] * 2.0 / following
    around = cKDTree(some).query(points, min(_AROUND, len(some)))[1]
    noise = np.median(_thickness(points, near, sizes)[around], axis=1)
    spacing = np.median(spacing[around], axis=1)
    return np.asarray(np.maximum(_WIDE * noise, _FEW * spacing))


def _thickness(points: Floats, near: Integers, sizes: Integers) -> Floats:
    """Return the standard deviation across the least neighbourhood longer than it is thick."""
    best, longest = np.zeros(len(near)), np.zeros(len(near))
    searching = np.arange(len(near))
    for size in sizes:
        part = points[near[searching, :size]]
        part = part - part.mean(1, keepdims=True)
        values = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", part, part))
        across = np.maximum(values[:, :-1].mean(1), 1e-300)
        ratio = np.sqrt(values[:, -1] / across)
        better = ratio > longest[searching]
        rows = searching[better]
        # Two parameters of a line are fitted to each coordinate across.
        best[rows] = np.sqrt(across[better] / (size - 2))
        longest[rows] = ratio[better]
        searching = searching[ratio < _LONG]
    return best


def _alone(points: Floats, reach: Floats) -> Booleans:
    """Return which points have next to none beside them, and are off the line of the nearest."""
    tree = cKDTree(points)
    alone = tree.query_ball_point(points, _CLOSE * reach, return_length=True) <= _ALONE
    near = tree.query(points, min(_NEXT + 1, len(points)))[1][:, 1:]
    middle, axis = _principal(points[near], np.ones(near.shape, bool))
    off = points - middle
    off = off - np.einsum("ni,ni->n", off, axis)[:, None] * axis
    return np.asarray(alone & (np.linalg.norm(off, axis=1) > reach))


def _elongation(points: Floats, reach: Floats) -> float:
    """Return how many times neighbourhoods within `reach`, `(n,)`, are longer than thick."""
    step = len(points) // _ASKED + 1
    some, within = points[::step], reach[::step]
    tree = cKDTree(points)
    most = int(tree.query_ball_point(some, within, return_length=True).max())
    far, near = tree.query(some, min(max(most, _NEXT), len(points)))
    inside = far <= np.maximum(within, far[:, min(_NEXT, far.shape[1]) - 1])[:, None]
    weight = inside / inside.sum(1, keepdims=True)
    part = points[near] - np.einsum("nk,nki->ni", weight, points[near])[:, None]
    values = np.linalg.eigvalsh(np.einsum("nk,nki,nkj->nij", weight, part, part))
    return float(np.median(np.sqrt(values[:, -1] / np.maximum(values[:, :-1].mean(1), 1e-300))))


def _principal(some: Floats, inside: Booleans) -> tuple[Floats, Floats]:
    """Return the middles and the directions of neighbourhoods."""
    weight = inside / inside.sum(1, keepdims=True)
    middle = np.einsum("nk,nki->ni", weight, some)
    part = some - middle[:, None]
    return middle, np.linalg.eigh(np.einsum("nk,nki,nkj->nij", weight, part, part))[1][:, :, -1]


def _apart(points: Floats, least: Floats) -> Integers:
    """Return points at least `least`, `(n,)`, apart, with one near every point."""
    tree = cKDTree(points)
    covered = np.zeros(len(points), bool)
    chosen = []
    for k in range(len(points)):
        if not covered[k]:
            chosen.append(k)
            covered[tree.query_ball_point(points[k], least[k])] = True
    return np.array(chosen)


def pieces(ring: Floats, jump: float | Floats) -> list[Path]:
    """Return the rows of nodes between the jumps of a tour; single nodes are left out.

    Args:
        ring: The nodes in the order of the tour, `(m, d)`.
        jump: The longest step from each to the next that is none, `(m,)` or one number.
    """
    steps = np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1)
    jumps = np.flatnonzero(steps > jump)
    if len(jumps) == 0:
        return [Path(ring, closed=True)]
    ring = np.roll(ring, -(jumps[-1] + 1), 0)
    cuts = np.sort((jumps - jumps[-1] - 1) % len(ring)) + 1
    rows = [row for row in np.split(ring, cuts) if len(row) > 1]
    return [Path(row, closed=False) for row in rows]


def _smoothed(path: Path) -> Path:
    """Return a path without nodes to which it goes aside only to come back."""
    nodes = path.nodes
    while len(nodes) > _FEWEST:
        before, after = np.roll(nodes, 1, 0), np.roll(nodes, -1, 0)
        way = np.linalg.norm(nodes - before, axis=1) + np.linalg.norm(after - nodes, axis=1)
        detour = way / np.maximum(np.linalg.norm(after - before, axis=1), 1e-300)
        if not path.closed:
            detour[[0, -1]] = 1.0
        if detour.max() < _DETOUR:
            break
        nodes = np.delete(nodes, int(detour.argmax()), axis=0)
    return Path(nodes, path.closed)


def joined(paths: list[Path], gap: float, *, loops: bool) -> list[Path]:
    """Return the paths with gaps between their ends closed, those first that bend least."""
    paths = paths if loops else [_opened(path) for path in paths]
    while True:
        bridges = [
            bridge
            for i in range(len(paths))
            for j in range(i, len(paths))
            if not paths[i].closed and not paths[j].closed
            for bridge in _bridges(paths, i, j, gap, loops)
        ]
        if not bridges:
            return paths
        _, i, j, row, closed = min(bridges, key=lambda bridge: bridge[0])
        paths = [path for k, path in enumerate(paths) if k not in (i, j)] + [Path(row, closed)]


def _bridges(
    paths: list[Path], i: int, j: int, gap: float, loops: bool
) -> list[tuple[float, int, int, Floats, bool]]:
    """Return the ways to join two paths, or one with itself: cost, both rows, nodes, closed."""
    one, other = paths[i].nodes, paths[j].nodes
    if i == j:
        ways = [(one, one)] if loops and len(one) > 3 else []
    else:
        ways = [(a, b) for a in (one, one[::-1]) for b in (other, other[::-1])]
    visible = paths[i].length + (paths[j].length if i != j else 0.0)
    bridges = []
    for first, second in ways:
        step = max(_step_at(first, len(first) - 1), _step_at(second, 0))
        allowed = _SLACK * gap / (1.0 - gap) * visible + 2.0 * step
        wide, turn = float(np.linalg.norm(second[0] - first[-1])), _turn(first, second)
        if wide <= allowed and turn <= (_TURN if wide <= _NARROW * step else _BEND):
            row = first if i == j else np.concatenate([first, second])
            bridges.append((wide * (1.0 + turn**2), i, j, row, i == j))
    return bridges


def touching(paths: list[Path]) -> list[Path] | None:
    """Return the paths with one loop merged into a path it touches; `None` if none does."""
    for i, loop in enumerate(paths):
        for j, other in enumerate(paths):
            if i == j or not loop.closed:
                continue
            far = cdist(loop.nodes, other.nodes)
            k, m = divmod(int(far.argmin()), len(other.nodes))
            if far[k, m] <= _TOUCH * max(_step_at(loop.nodes, k), _step_at(other.nodes, m)):
                ring = np.roll(loop.nodes, -k, 0)
                straight = _turn(other.nodes[: m + 1], ring) <= _turn(
                    other.nodes[: m + 1], ring[::-1]
                )
                ring = ring if straight else np.roll(ring[::-1], 1, 0)
                row = np.concatenate([other.nodes[: m + 1], ring, other.nodes[m + 1 :]])
                rest = [path for n, path in enumerate(paths) if n not in (i, j)]
                return [*rest, Path(row, other.closed)]
    return None


def attached(paths: list[Path], points: Floats) -> list[Path] | None:
    """Return the paths with one attached whose end lies on another; `None` if none is.

    There the other is two strands of a hairpin too close to separate, and is run through twice:
    it goes on in the direction of the end, with twice as many points. Else it is a branch.

    Args:
        paths: The paths.
        points: The cloud, `(n, d)`.
    """
    tree = cKDTree(points)
    for i, j, row, k in _ends_on_rows(paths):
        merged = _run_back(row, k) if i == j else _with_hairpin(row, paths[j], k)
        twice = merged.nodes[len(row) : len(row) + 4]
        if len(twice) < 3 or _angle(row[-1] - row[-min(4, len(row))], twice[-1] - twice[0]) > _KEEN:
            continue
        once = row[-14:-6] if len(row) > 14 else row
        if _crowd(tree, merged.nodes[len(row) + 2 :][:5]) >= _DENSER * _crowd(tree, once):
            return [p for m, p in enumerate(paths) if m not in (i, j)] + [merged]
    return None


def branches(paths: list[Path]) -> Floats:
    """Return the places where the end of a path lies on the middle of one, `(b, d)`."""
    places = [row[k] if i == j else paths[j].nodes[k] for i, j, row, k in _ends_on_rows(paths)]
    dim = paths[0].nodes.shape[1] if paths else 0
    return np.array(places).reshape(len(places), dim)


def _ends_on_rows(paths: list[Path]) -> Iterator[tuple[int, int, Floats, int]]:
    """Yield which path ends on which row, its nodes up to there, and the node of that row."""
    for i, one in enumerate(paths):
        for j, other in enumerate(paths):
            if one.closed:
                continue
            for row in (one.nodes, one.nodes[::-1]):
                nodes = row if i == j else other.nodes
                first = 0 if other.closed else _MIDDLE
                last = len(nodes) - (2 * _MIDDLE if i == j else first)
                if last <= first:
                    continue
                far = np.linalg.norm(nodes[first:last] - row[-1], axis=1)
                k = first + int(far.argmin())
                step = max(_step_at(row, len(row) - 1), _step_at(nodes, k))
                if far[k - first] <= _ON * step:
                    yield i, j, row, k


def _run_back(row: Floats, k: int) -> Path:
    """Return a row that ends at its own node `k` closed by the way back, from there or its start.

    From the start, unless that lies on the row too.
    """
    first = 2 * _MIDDLE
    far = np.linalg.norm(row[first:k] - row[0], axis=1)
    back = row[: k + 1][::-1]
    if len(far) and far.min() <= _ON * _step_at(row, 0):
        back = row[first + int(far.argmin()) : k + 1][::-1]
    return Path(np.concatenate([row, back[:-1]]), closed=True)


def _crowd(tree: cKDTree, nodes: Floats) -> float:
    """Return how many points lie near a row, for its length."""
    step = _step_at(nodes, len(nodes) // 2)
    near = tree.query_ball_point(nodes, 1.5 * step, return_length=True)
    return float(np.mean(near)) / step


def _angle(one: Floats, other: Floats) -> float:
    return float(np.arccos(np.clip(_unit(one) @ _unit(other), -1.0, 1.0)))


def _with_hairpin(row: Floats, other: Path, k: int) -> Path:
    """Return a row that ends at node `k` of another path joined with it."""
    if other.closed:
        ring = np.roll(other.nodes, -k, 0)
        return Path(np.concatenate([ring, ring[:1], row[::-1], row[1:]]), closed=True)
    before, after = other.nodes[: k + 1], other.nodes[k:]
    if Path(before, closed=False).length < Path(after, closed=False).length:
        return Path(np.concatenate([row, before[::-1], other.nodes[1:]]), closed=False)
    return Path(np.concatenate([row, after, other.nodes[-2::-1]]), closed=False)


def _step_at(nodes: Floats, k: int) -> float:
    """Return the usual step of a row around one of its nodes."""
    near = nodes[max(0, k - 3) : k + 4]
    return float(np.median(np.linalg.norm(np.diff(near, axis=0), axis=1)))


def _opened(path: Path) -> Path:
    """Return a closed path cut at its longest step."""
    if not path.closed:
        return path
    steps = np.linalg.norm(np.roll(path.nodes, -1, 0) - path.nodes, axis=1)
    return Path(np.roll(path.nodes, -(int(steps.argmax()) + 1), 0), closed=False)


def _turn(first: Floats, other: Floats) -> float:
    """Return the angle that a curve turns over the gap between two rows."""
    bridge = _unit(other[0] - first[-1])
    out = _unit(first[-1] - first[-min(5, len(first))])
    into = _unit(other[min(4, len(other) - 1)] - other[0])
    return float(np.arccos(np.clip(out @ bridge, -1, 1)) + np.arccos(np.clip(into @ bridge, -1, 1)))


def _unit(vector: Floats) -> Floats:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length) if length > 0 else vector
