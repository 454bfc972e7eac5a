"""The order of scattered points along their curves: a short tour, cut and joined to paths."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from levelset._typing import Booleans, Floats, Integers

__all__ = ["Path", "attached", "joined", "order_points", "pieces", "short_tour", "touching"]

# A neighbourhood counts as a piece of a curve when it is so many times longer than it is thick.
_LONG = 2.5
# The radius of a neighbourhood in standard deviations of the noise, and in distances to the
# nearest other point, of which it must hold some.
_WIDE, _FEW = 4.0, 2.5
# What it costs the tour to turn at right angles, in distances of nodes.
_BEARING = 4.0
_SPACING = 0.4  # of nodes, in radii
# Steps of the tour longer than this many median steps are no part of a curve.
_JUMP = 4.0
_MOST_POINTS = 2_000  # that take part in finding the order
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


def order_points(
    points: Floats, *, gap: float, closed: bool | None, random: np.random.Generator
) -> list[Path]:
    """Return rows of nodes along the curves of a cloud, longest first.

    The points are thinned onto the lines of their own neighbourhoods, whose size is the least at
    which a neighbourhood is longer than thick. Of nodes some way apart a short round tour is
    found, in the space of places and directions together, so that strands that cross stay apart.
    It is cut at its jumps, and the pieces are joined where the gap between two ends is short.

    Args:
        points: The cloud, `(n, d)`.
        gap: The longest gap that is closed, as a share of the whole curve.
        closed: Whether curves run back into themselves; `None` to decide by the gaps.
        random: Draws the points that take part, if there are very many.
    """
    if len(points) > _MOST_POINTS:
        points = points[random.choice(len(points), _MOST_POINTS, replace=False)]
    places, directions, reach = _thinned(points)
    step = _SPACING * reach
    chosen = _apart(places, step)
    places, directions = places[chosen], directions[chosen]
    outer = np.einsum("ni,nj->nij", directions, directions).reshape(len(places), -1)
    tour = short_tour(np.concatenate([places, _BEARING * step / np.sqrt(2.0) * outer], axis=1))
    ring = places[tour]
    jump = _JUMP * float(np.median(np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1)))
    paths = pieces(ring, jump)
    paths = joined(paths, gap, step, loops=closed is not False)
    while (merged := touching(paths, jump) or attached(paths, jump)) is not None:
        paths = joined(merged, gap, step, loops=closed is not False)
    if closed:
        paths = [Path(path.nodes, closed=len(path.nodes) > 2) for path in paths]
    return sorted(paths, key=lambda path: -path.length)


def _thinned(points: Floats) -> tuple[Floats, Floats, float]:
    """Return points moved onto the lines of their neighbourhoods, directions, and the radius."""
    reach = _reach(points)
    moved, axis = points, points
    for _ in range(3):
        tree = cKDTree(moved)
        most = int(tree.query_ball_point(moved, reach, return_length=True).max())
        far, near = tree.query(moved, max(most, 3))
        inside = far <= np.maximum(reach, far[:, 2:3])
        middle, axis = _principal(moved[near], inside)
        moved = middle + np.einsum("ni,ni->n", moved - middle, axis)[:, None] * axis
    return moved, axis, reach


def _reach(points: Floats) -> float:
    """Return the radius of neighbourhoods: a few times the noise, and some neighbours at least."""
    n = len(points)
    sizes = np.unique(np.clip(np.round(6 * 1.4 ** np.arange(11)).astype(int), 3, max(n // 4, 3)))
    far, near = cKDTree(points).query(points, min(int(sizes[-1]), n))
    return max(_WIDE * float(np.median(_thickness(points[near], sizes))),
               _FEW * float(np.median(far[:, 1])))  # fmt: skip


def _thickness(some: Floats, sizes: Integers) -> Floats:
    """Return the standard deviation across the least neighbourhood longer than it is thick."""
    best, longest = np.zeros(len(some)), np.zeros(len(some))
    searching = np.ones(len(some), bool)
    for size in sizes:
        part = some[:, :size] - some[:, :size].mean(1, keepdims=True)
        values = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", part, part))
        across = np.maximum(values[:, :-1].mean(1), 1e-300)
        ratio = np.sqrt(values[:, -1] / across)
        better = searching & (ratio > longest)
        # Two parameters of a line are fitted to each coordinate across.
        best[better] = np.sqrt(across[better] / (size - 2))
        longest[better] = ratio[better]
        searching &= ratio < _LONG
    return best


def _principal(some: Floats, inside: Booleans) -> tuple[Floats, Floats]:
    """Return the middles and the directions of neighbourhoods."""
    weight = inside / inside.sum(1, keepdims=True)
    middle = np.einsum("nk,nki->ni", weight, some)
    part = some - middle[:, None]
    return middle, np.linalg.eigh(np.einsum("nk,nki,nkj->nij", weight, part, part))[1][:, :, -1]


def _apart(points: Floats, least: float) -> Integers:
    """Return points at least `least` apart, with one near every point."""
    tree = cKDTree(points)
    covered = np.zeros(len(points), bool)
    chosen = []
    for k in range(len(points)):
        if not covered[k]:
            chosen.append(k)
            covered[tree.query_ball_point(points[k], least)] = True
    return np.array(chosen)


def short_tour(places: Floats) -> Integers:
    """Return an order of points in which the closed polygon through them is short.

    The shortest edges are taken first as long as they make a path; then pieces of the tour are
    turned round (2-opt) and moved elsewhere (Or-opt) until neither makes it shorter. It is not
    the shortest tour, but on points along a curve it is the curve.

    Cost: memory for all pairs; a second for 500 points.

    Args:
        places: The points, `(m, e)`.

    References:
        - J. L. Bentley, "Fast algorithms for geometric traveling salesman problems", ORSA J.
          Computing 4 (1992): greedy edges, 2-opt and Or-opt.
    """
    if len(places) < 4:
        return np.arange(len(places))
    distances = cdist(places, places)
    tour = _greedy(distances)
    for _ in range(50):
        before = _length(tour, distances)
        tour = _moved(_turned(tour, distances), distances)
        if not _length(tour, distances) < before - 1e-12 * before:
            break
    return tour


def _length(tour: Integers, distances: Floats) -> float:
    return float(distances[tour, np.roll(tour, -1)].sum())


def _greedy(distances: Floats) -> Integers:
    """Return the tour of shortest edges first."""
    count = len(distances)
    rows, columns = np.triu_indices(count, 1)
    order = distances[rows, columns].argsort(kind="stable")
    owner, degree = list(range(count)), [0] * count
    links: list[list[int]] = [[] for _ in range(count)]

    def root(k: int) -> int:
        while owner[k] != k:
            owner[k] = owner[owner[k]]
            k = owner[k]
        return k

    for a, b in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if degree[a] < 2 and degree[b] < 2 and root(a) != root(b):
            links[a].append(b)
            links[b].append(a)
            degree[a] += 1
            degree[b] += 1
            owner[root(a)] = root(b)
    start = next(k for k in range(count) if degree[k] < 2)
    tour = [start]
    while len(tour) < count:
        tour.append(next(k for k in links[tour[-1]] if len(tour) < 2 or k != tour[-2]))
    return np.array(tour)


def _turned(tour: Integers, distances: Floats) -> Integers:
    """Return the tour after turning pieces round while that shortens it."""
    count = len(tour)
    better = True
    while better:
        better = False
        for i in range(count - 2):
            a, b = tour[i], tour[i + 1]
            ends, after = tour[i + 2 :], np.roll(tour, -1)[i + 2 :]
            gain = distances[a, b] + distances[ends, after]
            gain = gain - distances[a, ends] - distances[b, after]
            best = int(gain.argmax())
            if gain[best] > 1e-12:
                tour[i + 1 : i + 3 + best] = tour[i + 1 : i + 3 + best][::-1].copy()
                better = True
    return tour


def _moved(tour: Integers, distances: Floats) -> Integers:
    """Return the tour after moving pieces of up to three points to better places."""
    count = len(tour)
    for size in (1, 2, 3):
        if count < size + 3:
            break
        for start in range(count):
            turned = np.roll(tour, -start)
            piece, rest = turned[:size], turned[size:]
            after = np.roll(rest, -1)
            saved = (
                distances[rest[-1], piece[0]]
                + distances[piece[-1], rest[0]]
                - distances[rest[-1], rest[0]]
            )
            forward = distances[rest, piece[0]] + distances[piece[-1], after]
            backward = distances[rest, piece[-1]] + distances[piece[0], after]
            cost = np.minimum(forward, backward) - distances[rest, after]
            best = int(cost.argmin())
            if cost[best] < saved - 1e-12:
                middle = piece if forward[best] <= backward[best] else piece[::-1]
                tour = np.concatenate([rest[: best + 1], middle, rest[best + 1 :]])
    return tour


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
    bridges = []
    for first, second in ways:
        wide, turn = float(np.linalg.norm(second[0] - first[-1])), _turn(first, second)
        if wide <= allowed and turn <= _TURN:
            row = first if i == j else np.concatenate([first, second])
            bridges.append((wide * (1.0 + turn**2), i, j, row, i == j))
    return bridges


def touching(paths: list[Path], jump: float) -> list[Path] | None:
    """Return the paths with one loop merged into a path it touches; `None` if none does."""
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
    """Return the paths with one attached whose end lies on another; `None` if none does.

    There the other is two strands of a hairpin too close to separate: it is run through twice.
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
    """Return the angle that a curve turns over the gap between two rows."""
    bridge = _unit(other[0] - first[-1])
    out = _unit(first[-1] - first[-min(3, len(first))])
    into = _unit(other[min(2, len(other) - 1)] - other[0])
    return float(np.arccos(np.clip(out @ bridge, -1, 1)) + np.arccos(np.clip(into @ bridge, -1, 1)))


def _unit(vector: Floats) -> Floats:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length) if length > 0 else vector
