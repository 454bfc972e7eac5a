"""Points that belong to no surface."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import stdtrit

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._local_planes import TERMS, fit_patches, heights
from levelset.reconstruction._noise import NoiseLevel

__all__ = ["find_outliers"]

SPARSE = 2.0  # medians of the spacing above which a point is looked at for standing alone
BULKY = 0.2  # depth of a neighbourhood, in its radii, above which it is no surface
ALONE = 2.5  # medians of its neighbours' spacing above which a point is not one of them
LIMIT = 3.2  # standard deviations from the surface beyond which a point is an outlier
TAIL = 0.002  # chance of a good point to go beyond, where the spread is estimated
NEAR = 0.1  # of the distance to the eighth neighbour, within which a point does no harm
SUSPECT = 1.7  # standard deviations from its own patch below which a point is not looked at


def find_outliers(points: Floats, level: NoiseLevel) -> Booleans:
    """Return the mask of points that belong to no surface, `(n,)`.

    Twice. First, points far from others whose neighbourhood is a cloud rather than a sheet.
    Then, among those left, points beyond 3.2 standard deviations from a robust paraboloid through
    their neighbours, or much farther from these than they are from one another. The standard
    deviation is that of the noise, or that of the neighbours where it is larger: at an edge, or
    where the points are too few to follow the shape.

    A point that far from the surface by its noise alone is taken for an outlier too: 0.1 to 0.5 %
    of a cloud of 30,000. Outliers that lie between close sheets are not found.

    Args:
        points: The cloud, `(n, 3)`, at least 12 of them.
        level: Its noise and spacing.
    """
    count = min(int(np.clip(0.6 * level.neighbours, 20, 64)) + 1, len(points))
    distances, near = cKDTree(points).query(points, count)
    gap = distances[:, 8]
    sparse = gap > SPARSE * np.median(gap)
    outlier = _bulky(points, near, sparse, level.noise)
    inliers = np.flatnonzero(~outlier)
    own = fit_patches(points, points[inliers], near[inliers])
    off = np.linalg.norm(points[inliers] - own.feet, axis=1)
    doubtful = (off > SUSPECT * level.noise) | (own.residuals > 2.0 * level.noise) | sparse[inliers]
    suspects = inliers[doubtful]
    count = min(count, len(inliers))
    if len(suspects) and count > TERMS + 2:
        _, around = cKDTree(points[inliers]).query(points[suspects], count)
        around = inliers[around[:, 1:]]
        height, spread = heights(points, points[suspects], around, level.noise)
        # Student's law: few neighbours know their own spread badly
        limit = np.maximum(stdtrit(count - 1 - TERMS, 1.0 - TAIL) * spread, LIMIT * level.noise)
        theirs = np.median(gap[around], axis=1)
        limit = np.maximum(limit, NEAR * theirs)
        outlier[suspects] = (height > limit) | (gap[suspects] > ALONE * theirs)
    return outlier


def _bulky(points: Floats, near: Integers, sparse: Booleans, noise: float) -> Booleans:
    outlier = np.zeros(len(points), dtype=bool)
    rows = np.flatnonzero(sparse)
    patches = fit_patches(points, points[rows], near[rows])
    outlier[rows] = patches.residuals > np.maximum(BULKY * patches.radii, 3.0 * noise)
    return outlier
