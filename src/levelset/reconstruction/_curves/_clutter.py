"""Points of a cloud that belong to no curve: as thin as if strewn over the whole box."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gamma

from levelset._typing import Booleans, Floats

__all__ = ["clutter"]

NEAR = 6  # neighbours whose distance says how dense the points are
# Points are strewn if they are no denser than so many times this share of the points would be
# when spread evenly over the box.
SHARE, TIMES = 0.15, 3.0
FLAT = 0.5  # least side of the box, in its longest
MOST = 0.3  # share of the points that may be strewn; more are the shape itself
HUGE = 1e3  # radii of the rest, beyond which points are strewn even if they lie together
ROUNDS = 20
SHRUNK = 0.9  # of the box's longest side, above which the search ends


def clutter(points: Floats) -> Booleans:
    """Return which points are as thin as if strewn over the box of all, `(n,)`.

    Along a curve points are crowded, whatever their number and their noise: the share of the box
    that they fill is small. So a point counts as strewn if the ball of its six nearest others is
    as large as if 15 % of all points filled the box evenly, or a third of that. Far ones
    make the box large: they go first, and what is left is looked at again. What lies a thousand
    times as far as the rest goes even if it lies together.

    Args:
        points: The cloud, `(n, d)`, different points.
    """
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    out = distance > HUGE * np.quantile(distance, 1.0 - SHARE)
    longest = np.inf
    for _ in range(ROUNDS):
        rows = np.flatnonzero(~out)
        sides = _sides(points[rows])
        if len(rows) <= NEAR or sides.max() > SHRUNK * longest:
            break
        longest = float(sides.max())
        strewn = _density(points[rows]) < TIMES * SHARE * len(rows) / sides.prod()
        if not strewn.any() or out.sum() + strewn.sum() > MOST * len(points):
            break
        out[rows[strewn]] = True
    return out


def _sides(points: Floats) -> Floats:
    """Return the sides of the box along the principal axes, none much below the longest."""
    centred = points - points.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1]
    sides = np.ptp(centred @ axes, axis=0)
    return np.asarray(np.maximum(sides, FLAT * sides.max()))


def _density(points: Floats) -> Floats:
    """Return points per unit of volume, by the ball that reaches the sixth nearest, `(n,)`."""
    dim = points.shape[1]
    reach = cKDTree(points).query(points, NEAR + 1)[0][:, NEAR]
    ball = np.pi ** (dim / 2) / gamma(dim / 2 + 1)
    return np.asarray(NEAR / (ball * np.maximum(reach, 1e-300) ** dim))
