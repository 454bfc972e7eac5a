"""The order of scattered points along the curves they lie on."""

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._curves._paths import Path, attached, joined, pieces, touching
from levelset.reconstruction._curves._tour import short_tour

__all__ = ["order_points"]


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
    """Return points no two of which are closer than `least`, such that all are near one."""
    tree = cKDTree(points)
    covered = np.zeros(len(points), bool)
    chosen = []
    for k in range(len(points)):
        if not covered[k]:
            chosen.append(k)
            covered[tree.query_ball_point(points[k], least)] = True
    return np.array(chosen)
