"""Walls thinner than the places are apart whose sides are settled: both faces have a say."""

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._thinning import thin

__all__ = ["across", "are_walls", "away", "nodes_of", "sheet_of"]

AROUND = 24  # points whose mean lies between two sheets
ACROSS = 64  # neighbours among which points on another sheet are looked for
PARALLEL = 0.8  # cosine between their normals
CLEAR = 4.0  # standard deviations between the sheets
SEVERAL = 3  # points on the other sheet
POOL = 30_000  # points among which those across are looked for
LOOKS = 1000  # places at which it is seen whether there are walls
APART = 0.15  # share of them that must look the opposite way
BACK = 0.9  # share of these that must lie behind
FEW = 0.1  # share of places on such walls, above which half as many places are taken


def nodes_of(
    normals: Floats, feet: Floats, inliers: Integers, double: Booleans, spread: Floats, most: int
) -> tuple[Integers, Booleans]:
    """Return evenly spread rows whose signs settle together, and which of them are on two sheets.

    Where a wall is thinner than they are apart, each on it gets another across; the normals of both
    are turned away from one another, in place.

    Args:
        normals: Unit normals of either sign, of points on two sheets away from the other, `(n, 3)`.
        feet: Places on the surface, `(n, 3)`.
        inliers: Rows to choose from.
        double: Which lie on one of two sheets nearer than the points of one, `(n,)`.
        spread: Standard deviation around each, `(n,)`.
        most: How many rows, about.
    """
    sheet = sheet_of(normals, double)[inliers]
    pool = inliers[thin(feet[inliers], POOL)]
    for count in (most, most // 2):
        nodes = inliers[thin(feet[inliers], count, sheet)]
        reach = float(np.median(cKDTree(feet[nodes]).query(feet[nodes], 5)[0][:, 4]))
        both = np.r_[nodes, pool]
        other, turn = across(feet[both], normals[both], np.arange(len(nodes)), reach, spread[both])
        met = np.flatnonzero((other >= 0) & ~double[nodes])
        if len(met) < FEW * len(nodes):
            break
    one, two = nodes[met], both[other[met]]
    normals[one] *= turn[met, None]
    same = (normals[one] * normals[two]).sum(1) > 0.0
    normals[two[same]] *= -1.0
    nodes = np.unique(np.r_[nodes, two])
    return nodes, double[nodes] | np.isin(nodes, np.r_[one, two])


def are_walls(places: Floats, normals: Floats, count: int) -> bool:
    """Return whether places on two sheets lie as on walls: many look apart, back to back.

    On walls a third of the neighbours or more look the opposite way, and 0.98 of these lie behind;
    among points that fill a volume it is a twentieth at most.

    Args:
        places: On the sheets, `(n, 3)`.
        normals: Their unit normals, away from the other sheet, `(n, 3)`.
        count: Neighbours that are looked at, as many as show both sheets.
    """
    if len(places) == 0:
        return False
    rows = np.arange(0, len(places), max(1, len(places) // LOOKS))
    near = cKDTree(places).query(places[rows], min(count, len(places)))[1].reshape(len(rows), -1)
    height = np.einsum("nkj,nj->nk", places[near] - places[rows, None], normals[rows])
    opposite = np.einsum("nkj,nj->nk", normals[near], normals[rows]) < -PARALLEL
    if opposite.mean() < APART:
        return False
    return bool((height[opposite] < 0.0).mean() > BACK)


def away(points: Floats, normals: Floats, double: Booleans) -> Floats:
    """Return normals, those of points on two near sheets turned away from the other, `(n, 3)`.

    The mean of the points around lies between the sheets.

    Args:
        points: On the sheets, `(n, 3)`.
        normals: Unit normals of either sign, `(n, 3)`.
        double: Which lie on one of two, `(n,)`.
    """
    result, rows = normals.copy(), np.flatnonzero(double)
    if len(rows):
        near = cKDTree(points).query(points[rows], min(AROUND, len(points)))[1]
        height = ((points[rows] - points[near].mean(1)) * normals[rows]).sum(1)
        result[rows[height < 0.0]] *= -1.0
    return result


def sheet_of(normals: Floats, double: Booleans) -> Integers:
    """Return the number of the sheet of each point, 1 or 2, 0 for those on one alone, `(n,)`.

    Which is 1 follows from the largest coordinate of the normal, and so may change along a sheet,
    but hardly within a cell.

    Args:
        normals: Unit normals that look away from the other sheet, `(n, 3)`.
        double: Which lie on one of two, `(n,)`.
    """
    largest = np.abs(normals).argmax(1)
    up = normals[np.arange(len(normals)), largest] > 0.0
    return double * (1 + up.astype(np.int64))


def across(
    points: Floats, normals: Floats, rows: Integers, reach: float, noise: Floats
) -> tuple[Integers, Floats]:
    """Return the point that faces each of some on a sheet nearer than `reach`, -1 where none does.

    It faces one if it lies rather above it than beside it, farther than the noise explains, with a
    parallel normal: on a bend no point does. All that do must lie on the same side.

    Args:
        points: On the sheets, `(n, 3)`.
        normals: Unit normals of either sign, `(n, 3)`.
        rows: Those that are looked at, `(m,)`.
        reach: How near the other sheet must be.
        noise: Standard deviation around each point, `(n,)`.

    Returns:
        The rows of the points that face them, `(m,)`, and the signs that turn the normals of the
        rows away from these, `(m,)`.
    """
    count = min(ACROSS, len(points))
    distance, near = cKDTree(points).query(points[rows], count, distance_upper_bound=reach)
    close = np.isfinite(distance)
    near = np.where(close, near, 0)
    height = np.einsum("nkj,nj->nk", points[near] - points[rows, None], normals[rows])
    cosine = np.abs(np.einsum("nkj,nj->nk", normals[near], normals[rows]))
    faces = close & (cosine > PARALLEL) & (np.abs(height) > CLEAR * noise[rows, None])
    faces &= 2.0 * height**2 > distance**2
    up, down = (faces & (height > 0.0)).sum(1), (faces & (height < 0.0)).sum(1)
    clear = (np.maximum(up, down) >= SEVERAL) & (np.minimum(up, down) == 0)
    beside = np.where(faces, distance**2 - height**2, np.inf)
    nearest = near[np.arange(len(rows)), beside.argmin(1)]
    return np.where(clear, nearest, -1), np.where(up > down, -1.0, 1.0)
