"""How far points are from their surface: the noise of a cloud."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import chdtri

from levelset._typing import Floats, Integers
from levelset.reconstruction._local_planes import TERMS, fit_patches

__all__ = ["FLOOR", "NoiseLevel", "alike", "misfit_of", "neighbours_at", "noise_level"]

LADDER = (9, 12, 17, 24, 34, 48, 68, 96, 136, 192, 272, 384)
QUERIES = 1000
QUANTILE = 0.3  # of the patches by their residual: the calmer part of the surface
FAR_ENOUGH = 2.7  # radius of a patch, in its residuals, from which the residual is the noise
BLOB = 2.3  # the same where points look alike in all directions, at most
FEWEST, MOST = 9, 150  # neighbours for a normal
FLOOR = 0.01  # of the spacing: less noise than this is not told from the shape


@dataclass(frozen=True)
class NoiseLevel:
    """The noise and the spacing of a cloud, from about a thousand places.

    Attributes:
        noise: Standard deviation of the points about the surface, in the units of the points.
        spacing: Median spacing, as if the points lay on a square lattice of the same density.
        neighbours: How many neighbours give the best normal.
        patch: How many neighbours the patches have whose misfit is the noise.
    """

    noise: float
    spacing: float
    neighbours: int
    patch: int


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
    best = int(np.argmax(clear))
    noise = max(misfit[best], FLOOR * spacing)
    return NoiseLevel(noise, spacing, _neighbours(distances, noise, spacing), LADDER[best])


def _typical(points: Floats, queries: Floats, near: Integers) -> tuple[float, float]:
    patches = fit_patches(points, queries, near)
    return float(misfit_of(patches.residuals, near.shape[1])), float(np.median(patches.radii))


def misfit_of(residuals: Floats, neighbours: int) -> Floats:
    """Return the noise that the residuals of patches speak of, over their last axis."""
    free = neighbours - TERMS
    # chdtri inverts the upper tail of the chi-squared distribution
    law = chdtri(free, 1.0 - QUANTILE) / free
    return np.asarray(np.sqrt(np.quantile(residuals**2, QUANTILE, axis=-1) / law))


def _neighbours(distances: Floats, noise: float, spacing: float) -> int:
    counts = np.arange(1, distances.shape[1] + 1)
    square = np.median(np.cumsum(distances**2, axis=1) / counts, axis=0)
    best = (noise * spacing) ** (2.0 / 3.0)
    count = int(np.searchsorted(square, best)) + 1
    return min(max(count, FEWEST), MOST, len(counts))


def neighbours_at(level: NoiseLevel, noise: Floats) -> Integers:
    """Return how many neighbours give the best normal where the noise is so much, `(n,)`.

    Their number grows with the noise to the power of 2/3, here in steps of the root of 2, so that
    few numbers occur.
    """
    steps = np.round(2.0 * np.log2((noise / level.noise) ** (2.0 / 3.0)))
    best = (level.neighbours * 2.0 ** (0.5 * steps)).astype(np.int64)
    return np.where(steps == 0.0, level.neighbours, np.clip(best, FEWEST, MOST))


def alike(sizes: Integers) -> Iterator[tuple[int, Integers]]:
    """Yield each size with the rows that have it."""
    for size in np.unique(sizes).tolist():
        yield size, np.flatnonzero(sizes == size)
