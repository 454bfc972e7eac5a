"""The noise around each point, where it differs from one part of a cloud to another."""

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._local_planes import fit_patches
from levelset.reconstruction._noise import (
    BLOB,
    FAR_ENOUGH,
    FLOOR,
    LADDER,
    QUANTILE,
    QUERIES,
    NoiseLevel,
    alike,
    misfit_of,
)

__all__ = ["local_noise"]

AROUND = 24  # places whose patches say together what the noise is at one of them
FURTHER = 2  # rungs to patches of twice the neighbours
GROWTH = 1.3  # of the misfit up to there, from which it is the shape's and not the noise's
TAILS = 2.2  # kurtosis of the misfit, below which points lie on two sides and not around one
SMOOTHED = 9  # places whose median counts
FACTOR = 2.0  # between the noise at a place and the usual one, from which they differ
DETAIL = 0.05  # of the spacing: noise up to this may be details of the shape
AGREE = 1.6  # times the noise of the whole, above which that of the calmer places is the shape's
SOME = 0.1  # share of the places that must differ; details of shapes alone made 0.06
SHOWN = 0.1  # share of the places that must show their noise
BORDER = 32  # places whose values a point may take
NEAR = 4  # places whose geometric mean a point takes


def local_noise(points: Floats, tree: cKDTree, level: NoiseLevel, unclear: Booleans) -> Floats:
    r"""Return the standard deviation of the points about the surface around each, `(n,)`.

    At a thousand places the patches of growing size by which `noise_level` finds the noise of the
    whole are looked at again, those of the 24 nearest places together. Noise and shape differ in
    growth: with twice the neighbours the misfit to noise stays, that to an edge grows by $\sqrt2$,
    to a smooth shape by 2 or more. They differ in their tails too: points on the two faces of a
    plate or around a rod have a kurtosis of 1 to 2, noise has 3. Places where the misfit grows by
    more than 1.3, or has a kurtosis below 2.2, show no noise, and take that of the nearest that do,
    but no more than their misfit.

    Where less than a tenth of the places differ from the noise of the whole by a factor of 2, all
    points get that one, so that nothing depends on chance or on details of the shape. Noise below a
    twentieth of the spacing counts as that much here: the details of a clean animal of 4,000 points
    look like 0.03.

    Cost: 0.05 to 0.2 s where the noise is alike, whatever the number of points; where it differs
    30 microseconds more for each of the points near a border.

    Args:
        points: The cloud in the unit frame, `(n, 3)`.
        tree: Their tree.
        level: Its noise as a whole.
        unclear: Points on two near sheets, which look like noise, `(n,)`.

    References:
        - S. Giraudot, D. Cohen-Steiner, P. Alliez, "Noise-Adaptive Shape Reconstruction from Raw
          Point Sets", Computer Graphics Forum 32 (2013): the scale from how it grows, place by
          place.
        - N. J. Mitra, A. Nguyen, L. Guibas, "Estimating Surface Normals in Noisy Point Cloud
          Data", Int. J. Comput. Geom. Appl. 14 (2004): the number of neighbours by the noise
          around.
    """
    usual = np.full(len(points), level.noise)
    rows = np.arange(0, len(points), max(1, len(points) // QUERIES))
    noise, growth, sizes = _climb(points, tree, points[rows], level.patch)
    shown = (growth < GROWTH) & ~unclear[rows]
    if shown.mean() < SHOWN:
        return usual
    places, logs = points[rows], np.log(np.maximum(noise, FLOOR * level.spacing))
    own = _median(places, logs, places)
    logs = np.minimum(_median(places[shown], logs[shown], places), own)
    away = logs - np.log(level.noise)
    if np.quantile(away, QUANTILE) > np.log(AGREE):
        return usual
    least = np.log(DETAIL * level.spacing)
    away = np.maximum(logs, least) - max(np.log(level.noise), least)
    if (np.abs(away) > np.log(FACTOR)).mean() < SOME:
        return usual
    return np.exp(_between(points, tree, places, logs, sizes))


def _between(
    points: Floats, tree: cKDTree, places: Floats, logs: Floats, sizes: Integers
) -> Floats:
    """Return values at points from those at places, sharply where they change fast.

    The patches of 24 places smear a border over a tenth of the shape. So where values near differ
    by a factor of 2, a point's own patch and those of its neighbours choose between them.
    """
    near = cKDTree(places).query(points, min(BORDER, len(places)))[1].reshape(len(points), -1)
    values = logs[near]
    result = values[:, :NEAR].mean(1)
    low, high = values.min(1), values.max(1)
    rows = np.flatnonzero(high - low > np.log(FACTOR))
    if not len(rows):
        return result
    largest = sizes[near[rows, values[rows].argmax(1)]]
    own = np.empty(len(rows))
    for size, some in alike(largest):
        queries = points[rows[some]]
        own[some] = fit_patches(points, queries, tree.query(queries, size)[1]).residuals
    own = _median(points[rows], np.log(np.maximum(own, 1e-300)), points[rows])
    result[rows] = np.clip(own, low[rows], high[rows])
    return result


def _median(places: Floats, values: Floats, queries: Floats) -> Floats:
    """Return the median of the values at the places nearest to each query, `(n,)`."""
    near = cKDTree(places).query(queries, min(SMOOTHED, len(places)))[1]
    return np.asarray(np.median(values[near.reshape(len(queries), -1)], axis=1))


def _climb(
    points: Floats, tree: cKDTree, places: Floats, first: int
) -> tuple[Floats, Floats, Integers]:
    """Return the noise at places, how the misfit grows beyond, and the neighbours it shows with.

    The growth is infinite where it is not clear.
    """
    sizes = [k for k in LADDER if first <= k <= len(points)]
    near = tree.query(places, sizes[-1])[1]
    around = cKDTree(places).query(places, min(AROUND, len(places)))[1].reshape(len(places), -1)
    misfit = np.full((len(sizes), len(places)), np.inf)
    best, last = np.zeros(len(places), dtype=np.int64), np.full(len(places), len(sizes))
    clear, tails = np.zeros(len(places)), np.zeros_like(misfit)
    for rung, size in enumerate(sizes):
        rows = np.flatnonzero(rung <= last)
        if not len(rows):
            break
        misfit[rung, rows], ratio, tails[rung, rows] = _typical(
            points, places, near[:, :size], around[rows]
        )
        open_ = last[rows] == len(sizes)
        better = open_ & (ratio > clear[rows])
        best[rows[better]], clear[rows[better]] = rung, ratio[better]
        fallen = (clear[rows] > BLOB) & (ratio < 0.95 * clear[rows])
        done = rows[open_ & ((ratio >= FAR_ENOUGH) | fallen)]
        last[done] = best[done] + FURTHER
    every = np.arange(len(places))
    noise = misfit[best, every]
    beyond = misfit[np.minimum(best + FURTHER, len(sizes) - 1), every]
    known = (last < len(sizes)) & np.isfinite(beyond) & (tails[best, every] > TAILS)
    growth = np.where(known, beyond / np.maximum(noise, 1e-300), np.inf)
    return noise, growth, np.array(sizes)[best]


def _typical(
    points: Floats, places: Floats, near: Integers, around: Integers
) -> tuple[Floats, Floats, Floats]:
    """Return misfit, radius in units of it, and kurtosis that patches near each other have."""
    used = np.unique(around)
    patches = fit_patches(points, places[used], near[used])
    around = np.searchsorted(used, around)
    misfit = misfit_of(patches.residuals[around], near.shape[1])
    radius = np.median(patches.radii[around], axis=1)
    kurtosis = np.median(patches.kurtosis[around], axis=1)
    return misfit, radius / np.maximum(misfit, 1e-300), kurtosis
