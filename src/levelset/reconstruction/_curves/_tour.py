"""Short round tours of points that are given by their distances."""

import numpy as np

from levelset._typing import Floats, Integers

__all__ = ["short_tour"]


def short_tour(distances: Floats) -> Integers:
    """Return an order of points in which the closed polygon through them is short.

    The shortest edges are taken first as long as they make a path; then pieces of the tour are
    turned round (2-opt) and moved elsewhere (Or-opt) until neither makes it shorter. It is not
    the shortest tour, but on points along a curve it is the curve.

    Cost: memory for all pairs; a second for 500 points.

    Args:
        distances: Of all pairs, `(m, m)`, symmetric. Where they are cut off at some length, longer
            steps cost no more than that, as if a dummy point stood between the two: the tour jumps
            where that is shorter than to run back.

    References:
        - J. L. Bentley, "Fast algorithms for geometric traveling salesman problems", ORSA J.
          Computing 4 (1992): greedy edges, 2-opt and Or-opt.
    """
    if len(distances) < 4:
        return np.arange(len(distances))
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
