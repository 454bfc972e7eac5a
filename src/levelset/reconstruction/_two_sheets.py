"""Places where points lie on two sheets, nearer to each other than spacing or noise let one see."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import chdtri

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._local_planes import fit_patches
from levelset.reconstruction._noise import FLOOR, NoiseLevel
from levelset.reconstruction._thinning import thin
from levelset.reconstruction._walls import are_walls, away

__all__ = ["Pairs", "paired"]

NEIGHBOURS = 24
TERMS = 7  # of a paraboloid and of the step between two sheets
ROUNDS = 4  # of splitting and fitting
RATIO = 0.4  # misfit of two sheets over that of one, below which there are two; noise gives 0.6
LEAST = 5  # points of each sheet
BESIDE = 0.7  # radii between their middles, above which they lie side by side, as at a step
QUERIES = 1000  # places that are looked at first
SOME = 0.01  # share of them, among others, below which there are none
MOST = 0.5  # share above which the noise is that about two sheets
QUANTILE = 0.3  # of the patches by their misfit, as for the noise about one
FEW = 9  # neighbours that may lie on the nearer sheet alone
CLEARLY = 0.32  # the ratio below which these few decide no more; thick noise makes 0.36
WORSE = 2.5  # misfit of two sheets over theirs, up to which there are two all the same
STEP = 0.25  # of the spacing: sheets nearer to each other than this are one
AMONG = 0.25  # of them, from which a point's own normal means little
ON = 0.2  # of the step, within which a point lies on one of the sheets
AGREE = 8  # neighbours, half of which must lie on two sheets too
NOISY = (136, 192, 272, 384)  # neighbours where noise hides the sheets from 24
LOOKS = 200  # places that are looked at with each of these
APART = 0.55  # the ratio for them: 0.45 and 0.54 for sheets 4 and 2.7 standard deviations apart
ENOUGH = 0.4  # share of these that must show two; rods and bodies made 0.26 at most
PLACES = 3000  # whose sheets the points around follow
WITHIN = 3.2  # standard deviations up to which a point lies on such a sheet
BATCH = 100_000  # neighbours at once


@dataclass(frozen=True, eq=False)
class Pairs:
    """What two sheets near each point say.

    Attributes:
        double: Which points lie on one of two sheets, `(n,)`.
        normals: Unit normals of those, away from the other sheet, `(m, 3)`.
        feet: Those moved onto their own sheet, `(m, 3)`.
        unclear: Which others are among those, so that their own normals mean little, `(n,)`.
        sides: How sure it is on which of the two each of those lies, `(m,)`, from 0 to 1.
        noise: Standard deviation of the points about two sheets; infinite unless most are.
    """

    double: Booleans
    unclear: Booleans
    normals: Floats
    feet: Floats
    sides: Floats
    noise: float


@dataclass(frozen=True, eq=False)
class _Fit:
    double: Booleans
    normals: Floats
    feet: Floats
    misfit: Floats
    steps: Floats
    upper: Booleans


def paired(points: Floats, level: NoiseLevel) -> Pairs:
    """Return the points on two near sheets, as of a thin plate.

    Where a wall is thinner than the points of one face are apart, the neighbours of a point lie on
    both faces, and a plane or paraboloid through them lies anywhere. Here one paraboloid and a
    step are fitted to 24 neighbours: exactly the best split of the heights above the plane, the
    plane common to both parts, and again. Two sheets fit where the misfit is less than 0.4 of that
    of one; the best split of noise about one leaves 0.6. The nearest 9 may lie on one of two, so
    where the misfit is less than 0.32 of that of one, one through these may fit better, but not far
    better, as it does beside an edge.

    Noise may hide two sheets from so few neighbours, and make them one thick sheet: about a plate
    four standard deviations thick the points have twice that deviation. Where `noise_level` had to
    go to patches of 136 neighbours and more, as many are fitted too. If two sheets leave less than
    0.55 of the misfit of one at two fifths of the places, every point follows the nearest of these,
    and the noise is that about two sheets.

    Often only a part of the surface is so, as the end of a plate with few points: the places that
    are looked at first are even in space, and a hundredth of them, side by side, is enough.

    Cost: 1,000 places, 0.1 s; 60 microseconds a point if there are some. Up to 0.2 s more for
    large patches, and 0.7 s if these show two sheets.

    Args:
        points: The cloud in the unit frame, `(n, 3)`.
        level: Its noise and spacing.
    """
    nobody = np.zeros(len(points), dtype=bool)
    none = Pairs(nobody, nobody, np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.inf)
    if len(points) <= NEIGHBOURS:
        return none
    tree = cKDTree(points)
    looks = thin(points, QUERIES)
    some = _fits(points, tree, looks, NEIGHBOURS)
    near = cKDTree(points[looks]).query(points[looks], AGREE + 1)[1][:, 1:]
    share = float((some.double & (some.double[near].mean(1) >= 0.5)).mean())
    if share < SOME:
        return _noisy(points, tree, level) or none
    noise = np.inf
    if share > MOST:
        noise = max(_noise(some, NEIGHBOURS), FLOOR * level.spacing)
    whole = _fits(points, tree, np.arange(len(points)), NEIGHBOURS)
    near = tree.query(points, AGREE + 1)[1][:, 1:]
    double = whole.double & (whole.double[near].mean(1) >= 0.5)
    if not double.any():
        return none
    for _ in range(ROUNDS):
        rest = np.flatnonzero(~double & (double[near].mean(1) >= AMONG))
        double[_follow(points, rest, np.flatnonzero(double), whole)] = True
    unclear = ~double & (double[near].mean(1) >= AMONG)
    normals = away(points, whole.normals, double)[double]
    if not are_walls(whole.feet[double], normals, NEIGHBOURS):
        return none
    return Pairs(double, unclear, normals, whole.feet[double], np.ones(len(normals)), noise)


def _some(points: Floats, count: int) -> Integers:
    return np.arange(0, len(points), max(1, len(points) // count))


def _noise(fit: _Fit, count: int) -> float:
    """Return the standard deviation of points about two sheets."""
    free = count - TERMS
    law = chdtri(free, 1.0 - QUANTILE) / free
    return float(np.sqrt(np.quantile(fit.misfit[fit.double] ** 2, QUANTILE) / law))


def _noisy(points: Floats, tree: cKDTree, level: NoiseLevel) -> Pairs | None:
    """Return the points on two sheets that noise makes one thick one, if most are."""
    sizes = [count for count in NOISY if count <= level.patch]
    looks = [_fits(points, tree, _some(points, LOOKS), count).double.mean() for count in sizes]
    if max(looks, default=0.0) < ENOUGH:
        return None
    size = sizes[int(np.argmax(looks))]
    rows = _some(points, PLACES)
    fit = _fits(points, tree, rows, size)
    noise = _noise(fit, size)
    nearest = np.flatnonzero(fit.double)[cKDTree(points[rows[fit.double]]).query(points)[1]]
    normals, feet = fit.normals[nearest], fit.feet[nearest]
    # the height of each point above the sheet that the place lies on, and of the other sheet
    height = ((points - feet) * normals).sum(1)
    other = np.where(fit.upper[nearest], -1.0, 1.0) * fit.steps[nearest]
    middle = height - 0.5 * other
    height = np.where(middle * other > 0.0, height - other, height)
    double = np.abs(height) < WITHIN * noise
    # what a normal law about each sheet gives for one side less what it gives for the other
    sides = np.tanh(0.5 * np.abs(middle * other) / noise**2)
    feet = points - height[:, None] * normals
    normals = normals * np.where(middle < 0.0, -1.0, 1.0)[:, None]
    if not are_walls(feet[double], normals[double], size):
        return None
    return Pairs(double, ~double, normals[double], feet[double], sides[double], noise)


def _follow(points: Floats, rows: Integers, double: Integers, fit: _Fit) -> Integers:
    """Give rows that lie on a sheet of the nearest point on two its fit, and return these rows."""
    nearest = double[cKDTree(points[double]).query(points[rows])[1]]
    normals, steps = fit.normals[nearest], fit.steps[nearest]
    height = np.abs(((points[rows] - fit.feet[nearest]) * normals).sum(1))
    lies = np.minimum(height, np.abs(height - steps)) < ON * steps
    fit.normals[rows[lies]], fit.feet[rows[lies]] = normals[lies], points[rows[lies]]
    fit.steps[rows[lies]] = steps[lies]
    return rows[lies]


def _fits(points: Floats, tree: cKDTree, rows: Integers, count: int) -> _Fit:
    parts, step = [], BATCH // count
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        near = tree.query(points[some], count)[1]
        one = fit_patches(points, points[some], near).residuals
        if count == NEIGHBOURS:
            few = fit_patches(points, points[some], near[:, :FEW]).residuals
            clear = np.minimum(CLEARLY * one, WORSE * few)
            limit = np.maximum(RATIO * np.minimum(one, few), clear)
        else:
            limit = APART * one
        two = _two_sheets(points[some], points[near])
        parts.append((two.double & (two.misfit < limit), *list(vars(two).values())[1:]))
    return _Fit(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _two_sheets(queries: Floats, near: Floats) -> _Fit:
    """Fit a paraboloid with a step to neighbours `(b, k, 3)`, the first of them the query."""
    count = near.shape[1]
    local = near - near.mean(1)[:, None]
    frames = np.linalg.eigh(local.transpose(0, 2, 1) @ local)[1]
    for _ in range(ROUNDS):
        upper = _split(np.einsum("bkj,bj->bk", local, frames[..., 0]))
        apart = local - _middles(local, upper)
        frames = np.linalg.eigh(apart.transpose(0, 2, 1) @ apart)[1]
    height, u, v = np.moveaxis(local @ frames, 2, 0)
    radius = np.sqrt((u**2 + v**2).mean(1))
    u, v = u / radius[:, None], v / radius[:, None]
    for _ in range(2):  # again with the bend taken off
        basis = np.stack([np.ones_like(u), upper, u, v, u * u, u * v, v * v], axis=2)
        gram = basis.transpose(0, 2, 1) @ basis + 1e-6 * count * np.eye(TERMS)
        solution = np.linalg.solve(gram, basis.transpose(0, 2, 1) @ height[..., None])
        errors = height - (basis @ solution)[..., 0]
        bend = (basis[..., 2:] @ solution[:, 2:])[..., 0]
        last, upper = upper, _split(height - bend)
    misfit = np.sqrt((errors**2).sum(1) / (count - TERMS))
    counts = last.sum(1)
    ends = [_mean(np.stack([u, v], 2), part) for part in (last, 1.0 - last)]
    beside = np.linalg.norm(ends[0] - ends[1], axis=1)
    least = STEP * radius * np.sqrt(2.0 * np.pi / count)
    double = (np.minimum(counts, count - counts) >= LEAST) & (beside < BESIDE)
    steps = np.abs(solution[:, 1, 0])
    double &= steps > least
    slopes = [
        solution[:, 2, 0] + 2.0 * solution[:, 4, 0] * u[:, 0] + solution[:, 5, 0] * v[:, 0],
        solution[:, 3, 0] + solution[:, 5, 0] * u[:, 0] + 2.0 * solution[:, 6, 0] * v[:, 0],
    ]
    normals = np.stack([np.ones_like(radius), -slopes[0] / radius, -slopes[1] / radius], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    feet = queries - errors[:, :1] * frames[..., 0]
    normals = np.einsum("bij,bj->bi", frames, normals)
    return _Fit(double, normals, feet, misfit, steps, last[:, 0] > 0.0)


def _split(heights: Floats) -> Floats:
    """Return 1 for the upper part of each row, 0 for the lower: the best split, `(b, k)`."""
    ordered = np.sort(heights, axis=1)
    count = np.arange(1, ordered.shape[1])
    low = np.cumsum(ordered, axis=1)[:, :-1]
    high = ordered.sum(1)[:, None] - low
    between = low**2 / count + high**2 / (ordered.shape[1] - count)
    place = between.argmax(1)
    border = np.take_along_axis(ordered, place[:, None], 1)
    return (heights > border).astype(np.float64)


def _middles(local: Floats, upper: Floats) -> Floats:
    """Return for each neighbour the mean of its own part, `(b, k, 3)`."""
    one, other = _mean(local, upper), _mean(local, 1.0 - upper)
    return np.where(upper[..., None] > 0.0, one[:, None], other[:, None])


def _mean(values: Floats, weights: Floats) -> Floats:
    total = np.maximum(weights.sum(1), 1.0)[:, None]
    return np.einsum("bkj,bk->bj", values, weights) / total
