"""The surface near a place as a paraboloid, and what it says of noise and of outliers."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import chdtri, stdtrit

from levelset._typing import Booleans, Floats, Integers

__all__ = [
    "NoiseLevel",
    "Patches",
    "find_outliers",
    "fit_adaptive",
    "fit_patches",
    "heights",
    "noise_level",
]

BATCH = 4096
TERMS = 6  # coefficients of a quadratic polynomial of two variables
LEAST = 9  # fewest neighbours of an adaptive fit
REJECTION = 3.5  # standard deviations at which a robust fit forgets a neighbour
LADDER = (9, 12, 17, 24, 34, 48, 68, 96, 136, 192, 272, 384)
QUERIES = 1000
QUANTILE = 0.3  # of the patches by their residual: the calmer part of the surface
FAR_ENOUGH = 2.7  # radius of a patch, in its residuals, from which the residual is the noise
BLOB = 2.3  # the same where points look alike in all directions, at most
FEWEST, MOST = 9, 150  # neighbours for a normal
FLOOR = 0.01  # of the spacing: less noise than this is not told from the shape
SPARSE = 2.0  # medians of the spacing above which a point is looked at for standing alone
BULKY = 0.2  # depth of a neighbourhood, in its radii, above which it is no surface
ALONE = 2.5  # medians of its neighbours' spacing above which a point is not one of them
LIMIT = 3.2  # standard deviations from the surface beyond which a point is an outlier
TAIL = 0.002  # chance of a good point to go beyond, where the spread is estimated
NEAR = 0.1  # of the distance to the eighth neighbour, within which a point does no harm
SUSPECT = 1.7  # standard deviations from its own patch below which a point is not looked at


@dataclass(frozen=True, eq=False)
class Patches:
    """One paraboloid a query.

    Attributes:
        normals: Unit normals at the feet, `(n, 3)`, of either sign.
        feet: The queries moved onto their paraboloids along the normals of the planes, `(n, 3)`.
        residuals: Standard deviation of the neighbours about the paraboloid, `(n,)`, six degrees
            of freedom taken off.
        radii: Root-mean-square distance of the neighbours from their mean within the plane, `(n,)`.
    """

    normals: Floats
    feet: Floats
    residuals: Floats
    radii: Floats


@dataclass(frozen=True, eq=False)
class _Fit:
    centres: Floats
    frames: Floats
    radii: Floats
    coefficients: Floats
    errors: Floats


def fit_patches(points: Floats, queries: Floats, neighbours: Integers) -> Patches:
    """Fit a paraboloid to the neighbours of each query.

    The plane of least squares gives the frame; the height above it is a quadratic polynomial of
    the two other coordinates. Its slope at the query is free of the first-order error that
    curvature puts into a plane where the neighbours lie to one side.

    Cost: about 20 microseconds a query with 24 neighbours. Memory does not grow with `n`.

    Args:
        points: The cloud, `(m, 3)`.
        queries: Where to fit, `(n, 3)`.
        neighbours: Rows of `points` for each query, `(n, k)`, k at least 7.
    """
    parts = []
    for start in range(0, max(len(queries), 1), BATCH):
        rows = slice(start, start + BATCH)
        fit = _paraboloids(points[neighbours[rows]], None)
        free = neighbours.shape[1] - TERMS
        residuals = np.sqrt((fit.errors**2).sum(1) / free)
        parts.append((*_feet(queries[rows], fit), residuals, fit.radii))
    return Patches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit_adaptive(points: Floats, queries: Floats, neighbours: Integers, noise: float) -> Patches:
    """Fit to fewer neighbours where a paraboloid misses them by more than the noise explains.

    So an edge or the far side of a thin part does not spoil the normals near it. A smaller
    neighbourhood is taken only if it lowers the residual by a tenth, and the number falls by the
    square root of 2 a step down to 9.

    Args:
        points: The cloud, `(m, 3)`.
        queries: Where to fit, `(n, 3)`.
        neighbours: Rows of `points` for each query, nearest first, `(n, k)`, k at least 7.
        noise: Standard deviation of the points about the surface.
    """
    patches = fit_patches(points, queries, neighbours)
    size = neighbours.shape[1]
    while True:
        limit = noise * (1.0 + 3.0 / np.sqrt(2.0 * (size - TERMS)))
        bad = np.flatnonzero(patches.residuals > limit)
        size = int(size / np.sqrt(2.0))
        if len(bad) == 0 or size < LEAST:
            return patches
        finer = fit_patches(points, queries[bad], neighbours[bad, :size])
        better = finer.residuals < 0.9 * patches.residuals[bad]
        for old, new in zip(vars(patches).values(), vars(finer).values(), strict=True):
            old[bad[better]] = new[better]


def heights(
    points: Floats, queries: Floats, neighbours: Integers, noise: float
) -> tuple[Floats, Floats]:
    """Return how far each query is from a robust paraboloid, and the neighbours' own spread.

    Three rounds of reweighting (Tukey's biweight) let the paraboloid forget neighbours that are
    far from it, so one outlier does not hide another.

    Args:
        points: The cloud, `(m, 3)`.
        queries: The points to be judged, `(n, 3)`.
        neighbours: Rows of `points` around each query, itself left out, `(n, k)`, k at least 7.
        noise: The least spread to be believed.

    Returns:
        The distances and the spreads, both `(n,)`.
    """
    parts = []
    for start in range(0, max(len(queries), 1), BATCH):
        rows = slice(start, start + BATCH)
        fit, spread = _robust(points[neighbours[rows]], noise)
        _, feet = _feet(queries[rows], fit)
        parts.append((np.linalg.norm(queries[rows] - feet, axis=1), spread))
    distances, spreads = zip(*parts, strict=True)
    return np.concatenate(distances), np.concatenate(spreads)


def _robust(near: Floats, noise: float) -> tuple[_Fit, Floats]:
    count = near.shape[1]
    # the median of absolute errors as a standard deviation, six degrees of freedom taken off
    factor = 1.4826 * np.sqrt(count / (count - TERMS))
    fit = _paraboloids(near, None)
    for _ in range(3):
        spread = np.maximum(factor * np.median(np.abs(fit.errors), axis=1), noise)
        weights = np.maximum(1.0 - (fit.errors / (REJECTION * spread[:, None])) ** 2, 1e-3) ** 2
        fit = _paraboloids(near, weights)
    return fit, np.maximum(factor * np.median(np.abs(fit.errors), axis=1), noise)


def _paraboloids(near: Floats, weights: Floats | None) -> _Fit:
    """Fit `(b, k, 3)` neighbours; the errors `(b, k)` are heights above the paraboloids."""
    w = np.ones((1, near.shape[1])) if weights is None else weights
    total = w.sum(1)[:, None]
    centres = (near * w[..., None]).sum(1) / total
    local = near - centres[:, None]
    covariance = local.transpose(0, 2, 1) @ (local * w[..., None]) / total[..., None]
    variances, frames = np.linalg.eigh(covariance)
    radii = np.sqrt(np.maximum(variances[:, 1] + variances[:, 2], 1e-300))
    height, u, v = np.moveaxis(local @ frames, 2, 0)
    u, v = u / radii[:, None], v / radii[:, None]
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=2)
    weighted = basis if weights is None else basis * w[..., None]
    # The ridge keeps neighbours on a line, or few with weight, from a singular system.
    ridge = (1e-6 if weights is None else 1e-3) * near.shape[1] * np.eye(TERMS)
    gram = weighted.transpose(0, 2, 1) @ basis + ridge
    solution = np.linalg.solve(gram, weighted.transpose(0, 2, 1) @ height[..., None])
    errors = height - (basis @ solution)[..., 0]
    return _Fit(centres, frames, radii, solution[..., 0], errors)


def _feet(queries: Floats, fit: _Fit) -> tuple[Floats, Floats]:
    """Return normals and feet of the queries, `(b, 3)` each."""
    local = np.einsum("ni,nij->nj", queries - fit.centres, fit.frames)
    u, v = local[:, 1] / fit.radii, local[:, 2] / fit.radii
    one, along_u, along_v, uu, uv, vv = fit.coefficients.T
    local[:, 0] = one + along_u * u + along_v * v + uu * u * u + uv * u * v + vv * v * v
    slope_u = (along_u + 2.0 * uu * u + uv * v) / fit.radii
    slope_v = (along_v + uv * u + 2.0 * vv * v) / fit.radii
    normals = np.stack([np.ones_like(u), -slope_u, -slope_v], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    turned = np.einsum("nij,nj->ni", fit.frames, normals)
    return turned, fit.centres + np.einsum("nij,nj->ni", fit.frames, local)


@dataclass(frozen=True)
class NoiseLevel:
    """The noise and the spacing of a cloud, from about a thousand places.

    Attributes:
        noise: Standard deviation of the points about the surface, in the units of the points.
        spacing: Median spacing, as if the points lay on a square lattice of the same density.
        neighbours: How many neighbours give the best normal.
    """

    noise: float
    spacing: float
    neighbours: int


def noise_level(points: Floats, tree: cKDTree) -> NoiseLevel:
    r"""Estimate the noise from how the misfit of local paraboloids depends on their size.

    Patches not much wider than the noise is deep see only a part of it; patches too wide see the
    shape. The ratio of radius to residual grows with the number of neighbours as long as noise
    rules, and falls where the shape does: the first patches with a ratio of 2.7 are taken, or those
    before the ratio falls. Of their residuals the 0.3-quantile counts, divided by that of its
    $\chi^2$ law, so that edges, thin parts and outliers have no say.

    The number of neighbours for a normal balances the noise, $\sigma h / r^2$ for a disc of
    radius $r$ with spacing $h$, against the bend of the surface, $r$ over a radius of curvature
    near 1: $r = (\sigma h)^{1/3}$, which is the reason why the points must be in the unit frame.

    With a spacing wide against the details of the shape (2,000 points of a scanned animal) the two
    look alike, and the estimate is too high by up to a half.

    Cost: 0.1 to 0.4 s whatever the number of points.

    Args:
        points: The cloud in the unit frame, `(n, 3)`, at least 12 of them.
        tree: Their tree.
    """
    queries = points[:: max(1, len(points) // QUERIES)]
    distances, near = tree.query(queries, min(LADDER[-1], len(points)))
    misfit: list[float] = []
    clear: list[float] = []
    for size in (k for k in LADDER if k <= len(points)):
        residual, radius = _typical(points, queries, near[:, :size])
        misfit.append(residual)
        clear.append(radius / max(residual, 1e-300))
        fallen = max(clear) > BLOB and clear[-1] < 0.95 * max(clear)
        if clear[-1] >= FAR_ENOUGH or fallen:
            break
    spacing = float(np.median(distances[:, 8]) * np.sqrt(np.pi / 8.0))
    noise = max(misfit[int(np.argmax(clear))], FLOOR * spacing)
    return NoiseLevel(noise, spacing, _neighbours(distances, noise, spacing))


def _typical(points: Floats, queries: Floats, near: Integers) -> tuple[float, float]:
    patches = fit_patches(points, queries, near)
    free = near.shape[1] - TERMS
    # chdtri inverts the upper tail of the chi-squared distribution
    law = chdtri(free, 1.0 - QUANTILE) / free
    residual = np.sqrt(np.quantile(patches.residuals**2, QUANTILE) / law)
    return float(residual), float(np.median(patches.radii))


def _neighbours(distances: Floats, noise: float, spacing: float) -> int:
    counts = np.arange(1, distances.shape[1] + 1)
    square = np.median(np.cumsum(distances**2, axis=1) / counts, axis=0)
    best = (noise * spacing) ** (2.0 / 3.0)
    count = int(np.searchsorted(square, best)) + 1
    return min(max(count, FEWEST), MOST, len(counts))


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
