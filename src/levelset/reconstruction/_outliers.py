"""Points that belong to no surface."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import stdtrit

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._local_planes import TERMS, fit_patches, heights
from levelset.reconstruction._noise import NoiseLevel, alike, neighbours_at

__all__ = ["find_outliers"]

# How many neighbours, and the rows of the points that have so many.
Groups = list[tuple[int, Integers]]

SPARSE = 2.0  # medians of the spacing above which a point is looked at for standing alone
BULKY = 0.2  # depth of a neighbourhood, in its radii, above which it is no surface
SHEET = 2.4  # dimension around a point up to which it lies on a sheet, 2, and in no cloud, 3
EVEN = 1.5  # medians of its neighbours' spacing up to which a point of a sheet is one of them
CLOSE = 9  # neighbours that lie on one of two sheets, where 20 lie on both
CLEAR = 1.5  # standard deviations from a paraboloid through these, up to which they lie on it
HALF = 0.5  # share of those around that lie off such, below which a point lies on two sheets
FEW = 0.15  # share of a cloud around a point below which it may lie on a sheet
SPREADS = 4  # how often that is looked at
ALONE = 2.5  # medians of its neighbours' spacing above which a point is not one of them
LIMIT = 3.2  # standard deviations from the surface beyond which a point is an outlier
TAIL = 0.002  # chance of a good point to go beyond, where the spread is estimated
NEAR = 0.1  # of the distance to the eighth neighbour, within which a point does no harm
SUSPECT = 1.7  # standard deviations from its own patch below which a point is not looked at


def find_outliers(points: Floats, level: NoiseLevel, noise: Floats) -> Booleans:
    """Return the mask of points that belong to no surface, `(n,)`.

    Twice. First, points far from others whose neighbourhood is a cloud rather than a sheet: deep,
    and with more and more points the farther one goes, or denser than the point has it itself. A
    corner of a part with few points is deep too, but its points grow as the square of the distance;
    so are two near sheets, but there nine points side by side lie on one surface, half of the time.
    Then, among those left, points beyond 3.2 standard deviations from a robust paraboloid through
    their neighbours, or much farther from these than they are from one another. The standard
    deviation is that of the noise, or that of the neighbours where it is larger: at an edge, or
    where the points are too few to follow the shape.

    Measured on eight shapes: of 30,000 points 20 times as dense at one end, 0.4 % are lost; of the
    points off the surface, 3 to 10 % of the cloud, none is kept, and of clouds of 3,000 points 3 of
    1,111.

    A point that far from the surface by its noise alone is taken for an outlier too: 0.1 to 0.5 %
    of a cloud of 30,000. Outliers that lie between close sheets are not found.

    Args:
        points: The cloud, `(n, 3)`, at least 12 of them.
        level: Its spacing, and how many neighbours give a normal.
        noise: The noise around each point, `(n,)`.

    References:
        - E. Levina, P. Bickel, "Maximum Likelihood Estimation of Intrinsic Dimension", NIPS 2004:
          the dimension around a point; we take the mean over its neighbours of what is inverted.
    """
    sizes = np.clip(0.6 * neighbours_at(level, noise), 20, 64).astype(np.int64) + 1
    groups = [(min(size, len(points)), rows) for size, rows in alike(sizes)]
    tree, gap, growth = cKDTree(points), np.empty(len(points)), np.empty(len(points))
    near = []
    for count, rows in groups:
        distances, neighbours = tree.query(points[rows], count)
        gap[rows] = distances[:, 8]
        ways = np.maximum(distances[:, 1:], 1e-12)
        growth[rows] = np.log(ways[:, -1:] / ways[:, :-1]).mean(1)
        near.append(neighbours)
    sparse = gap > SPARSE * np.median(gap)
    for _ in range(2):  # of all neighbours, and of theirs: one alone knows it badly
        growth = _around(growth, groups, near)
    outlier, suspect = np.zeros(len(points), dtype=bool), np.zeros(len(points), dtype=bool)
    sheet, off, even = growth >= 1.0 / SHEET, np.zeros(len(points)), ~sparse
    for (_, rows), neighbours in zip(groups, near, strict=True):
        far, around = rows[sparse[rows]], neighbours[sparse[rows]]
        even[far] = gap[far] <= EVEN * np.median(gap[around], axis=1)
        outlier[far] = _bulky(points, far, around, noise)
        deep = outlier[far]
        if deep.any():
            patches = fit_patches(points, points[far[deep]], around[deep, :CLOSE])
            off[far[deep]] = patches.residuals > CLEAR * noise[far[deep]]
    sheet = even & (sheet | (_around(off, groups, near) < HALF))
    for _ in range(SPREADS):  # on a sheet, those around are on one too
        cloud = (outlier & ~sheet).astype(np.float64)
        sheet &= _around(cloud, groups, near) < FEW
    outlier &= ~sheet
    for (_, rows), neighbours in zip(groups, near, strict=True):
        suspect[rows] = ~outlier[rows]
        some = suspect[rows]
        suspect[rows[some]] = _doubtful(points, rows[some], neighbours[some], noise)
    suspect |= sparse & ~outlier
    inliers = np.flatnonzero(~outlier)
    tree = cKDTree(points[inliers])
    for count, rows in groups:
        suspects, most = rows[suspect[rows]], min(count, len(inliers))
        if len(suspects) and most > TERMS + 2:
            around = inliers[tree.query(points[suspects], most)[1][:, 1:]]
            outlier[suspects] = _off(points, suspects, around, noise, gap)
    return outlier


def _around(values: Floats, groups: Groups, near: list[Integers]) -> Floats:
    """Return the mean over the neighbours of each point, `(n,)`."""
    result = np.empty_like(values)
    for (_, rows), neighbours in zip(groups, near, strict=True):
        result[rows] = values[neighbours].mean(1)
    return result


def _bulky(points: Floats, rows: Integers, near: Integers, noise: Floats) -> Booleans:
    """Return which of some rows have a neighbourhood too deep for a sheet."""
    patches = fit_patches(points, points[rows], near)
    return np.asarray(patches.residuals > np.maximum(BULKY * patches.radii, 3.0 * noise[rows]))


def _doubtful(points: Floats, rows: Integers, near: Integers, noise: Floats) -> Booleans:
    """Return which of some rows are off the paraboloid of their neighbours, or these are."""
    own = fit_patches(points, points[rows], near)
    off = np.linalg.norm(points[rows] - own.feet, axis=1)
    return np.asarray((off > SUSPECT * noise[rows]) | (own.residuals > 2.0 * noise[rows]))


def _off(points: Floats, rows: Integers, around: Integers, noise: Floats, gap: Floats) -> Booleans:
    """Return which of some rows are off a robust paraboloid, or far from those around them."""
    height, spread = heights(points, points[rows], around, noise[rows])
    # Student's law: few neighbours know their own spread badly
    chance = stdtrit(around.shape[1] - TERMS, 1.0 - TAIL)
    theirs = np.median(gap[around], axis=1)
    limit = np.maximum(chance * spread, np.maximum(LIMIT * noise[rows], NEAR * theirs))
    return np.asarray((height > limit) | (gap[rows] > ALONE * theirs))
