"""From raw points to points with outward normals, with their noise and outliers."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers
from levelset.errors import DataError
from levelset.reconstruction._cloud import Cloud
from levelset.reconstruction._dipoles import fit_into
from levelset.reconstruction._known_sides import agreed, seen
from levelset.reconstruction._local_noise import local_noise
from levelset.reconstruction._local_planes import fit_adaptive
from levelset.reconstruction._noise import FEWEST, NoiseLevel, alike, neighbours_at, noise_level
from levelset.reconstruction._objects import turn_outward
from levelset.reconstruction._one_sided import is_one_sided
from levelset.reconstruction._outliers import find_outliers
from levelset.reconstruction._signs import settle_signs
from levelset.reconstruction._thinning import thin
from levelset.reconstruction._two_sheets import paired
from levelset.reconstruction._walls import nodes_of

__all__ = [
    "UNSURE",
    "OrientedPoints",
    "orient",
]

HEAVIER = 4.0  # weight of a mean of many points, at most
UNSURE = 0.6  # confidence below which an orientation counts as unsure
NODES = 5000  # places whose signs are settled together; the others follow their neighbours
BATCH = 4096
SHARP = 0.5  # of the spacing, for dipoles on two sheets: the whole would soften them into one
NEIGHBOURS = 12


@dataclass(frozen=True, eq=False)
class OrientedPoints:
    """Points of the unit frame with outward normals, with a weight and a confidence each.

    Attributes:
        points: `(n, 3)`.
        normals: Unit normals, outward, `(n, 3)`; outliers have some too.
        weights: How much each point counts, `(n,)`: 0 for outliers, else 1, or for means of points
            up to 4 as their number says.
        confidence: How sure each orientation is, `(n,)`, from 0 to 1. Not a probability: on
            thirteen difficult clouds, 10 to 45 % of the points below 0.6 were wrong, and less than
            0.8 % of those above.
        spacing: The side of the square that each point stands for, `(n,)`.
        spread: Standard deviation of the points about the surface around each, a coordinate,
            `(n,)`.
        notes: What is wrong with normals or sensors of the caller, in words.
    """

    points: Floats
    normals: Floats
    weights: Floats
    confidence: Floats
    spacing: Floats
    spread: Floats
    notes: tuple[str, ...] = ()

    @property
    def outlier(self) -> Booleans:
        """Which points belong to no surface, `(n,)`."""
        return np.asarray(self.weights == 0.0)

    @property
    def noise(self) -> float:
        """The usual spread."""
        return float(np.median(self.spread))

    @property
    def unsure(self) -> float:
        """Share of the points, outliers aside, whose confidence is below 0.6."""
        return float((self.confidence[~self.outlier] < UNSURE).mean())

    def without_outliers(self) -> "OrientedPoints":
        """Return the points of positive weight."""
        return self._rows(~self.outlier)

    def thinned(self, most: int) -> "OrientedPoints":
        """Return at most `most` of the points, evenly spread."""
        return self if len(self.points) <= most else self._rows(thin(self.points, most))

    def _rows(self, rows: Booleans | Integers) -> "OrientedPoints":
        arrays: dict[str, Any] = {
            k: v[rows] for k, v in vars(self).items() if isinstance(v, np.ndarray)
        }
        return replace(self, **arrays)


def orient(cloud: Cloud) -> OrientedPoints:
    """Estimate outward normals of a cloud, with its noise and its outliers.

    The noise follows from local paraboloids of growing size, place by place where it differs, and
    decides how many neighbours a normal needs. Points that fit no paraboloid are outliers. Of the
    others, 5,000 evenly spread ones settle their signs together (`settle_signs`), each object is
    turned outward by its volume (`turn_outward`), and every point follows those around it.

    Where two sheets are nearer to each other than the points of one, or both are one thick sheet
    for their noise, they are fitted together (`paired`). Other walls and gaps thinner than eight
    times the noise may look like one sheet; there confidence is low and normals may be wrong.

    Nothing is drawn at random. Cost on one core: 1 to 2.5 s for 30,000 points and 2 to 5 s for
    60,000, more with more noise; 28 s for 300,000. Memory: 250 to 450 MB.

    Args:
        cloud: The points in their unit frame. Its normals are used, if it has some, but for wrong
            ones (`agreed`); or its sensors decide the sides (`seen`).

    Returns:
        Normals and the rest, in the order of the points.

    Example:
        >>> import torch
        >>> from levelset.reconstruction._cloud import prepare
        >>> from levelset.reconstruction._orientation import orient
        >>> ball = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
        >>> cloud = prepare(ball / ball.norm(dim=1, keepdim=True))
        >>> bool(((orient(cloud).normals * cloud.points).sum(1) > 0.99).all())
        True
    """
    points = cloud.points
    tree = cKDTree(points)
    level = noise_level(points, tree)
    pairs = paired(points, level)
    spread = local_noise(points, tree, level, pairs.double | pairs.unclear)
    # means are no noisier than the points, and these no noisier about two sheets than about one
    least = min(level.noise, pairs.noise, cloud.raw_noise or np.inf)
    spread *= least / level.noise
    level = replace(level, noise=least)
    outlier = find_outliers(points, level, spread) & ~pairs.double
    estimated, feet, spacing = _surface_near(points, outlier, pairs.double, level, spread)
    estimated[pairs.double], feet[pairs.double] = pairs.normals, pairs.feet
    normals, confidence = _oriented(estimated, feet, outlier | pairs.unclear, pairs.double, spread)
    confidence[pairs.double] *= pairs.sides
    notes: tuple[str, ...] = ()
    if cloud.normals is not None:
        sure = ~outlier & (confidence >= UNSURE)
        normals, notes = agreed(cloud, normals, sure, spacing)
        confidence = np.ones(len(points))
    elif cloud.sensors is not None:
        clear, notes = seen(cloud, normals, ~outlier, confidence >= UNSURE)
        normals, confidence = _following(
            feet, normals * clear[:, None], clear != 0.0, normals, spacing
        )
    weights = ~outlier * _relative(cloud.counts)
    return OrientedPoints(points, normals, weights, confidence, spacing, spread, notes)


def _following(
    places: Floats, known: Floats, clear: Booleans, normals: Floats, spacing: Floats
) -> tuple[Floats, Floats]:
    """Return normals, those that are not known turned as the known ones around them, and trust."""
    rows, confidence = np.flatnonzero(~clear), np.ones(len(places))
    if len(rows) in (0, len(places)):
        return (normals if len(rows) else known), clear.astype(np.float64)
    near = cKDTree(places[clear]).query(places[rows], min(NEIGHBOURS, int(clear.sum())))[1]
    near = np.flatnonzero(clear)[near.reshape(len(rows), -1)]
    fit, size = fit_into(places[rows], normals[rows], places[near], known[near], spacing[near])
    result = known.copy()
    result[rows] = normals[rows] * np.where(fit < 0.0, -1.0, 1.0)[:, None]
    confidence[rows] = np.abs(fit) / np.maximum(size, 1e-300)
    return result, confidence


def _relative(counts: Integers) -> Floats:
    """Return the weights of means of so many points: their variance goes with one over that."""
    return np.clip(counts / counts.mean(), 1.0 / HEAVIER, HEAVIER)


def _surface_near(
    cloud: Floats, outlier: Booleans, known: Booleans, level: NoiseLevel, noise: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return normals of either sign, feet on the local surface, but where known, and spacing."""
    inliers = np.flatnonzero(~outlier)
    tree = cKDTree(cloud[inliers])
    normals, feet, spacing = np.empty_like(cloud), np.empty_like(cloud), np.empty(len(cloud))
    # where the normals are known, as many as the spacing needs
    for count, group in alike(np.where(known, FEWEST, neighbours_at(level, noise))):
        size = min(count, len(inliers))
        for start in range(0, len(group), BATCH):
            rows = group[start : start + BATCH]
            distances, near = tree.query(cloud[rows], size)
            patches = fit_adaptive(cloud, cloud[rows], inliers[near], noise[rows])
            normals[rows], feet[rows] = patches.normals, patches.feet
            spacing[rows] = distances[:, min(8, size - 1)] * np.sqrt(np.pi / 8.0)
    return normals, feet, spacing


def _oriented(
    normals: Floats, feet: Floats, followers: Booleans, double: Booleans, spread: Floats
) -> tuple[Floats, Floats]:
    """Return outward normals and confidences.

    Followers have no say in them. Of points on two sheets it is known that all look away from the
    other sheet or all towards it; so these settle together which it is.
    """
    normals = normals.copy()
    nodes, own = nodes_of(normals, feet, np.flatnonzero(~followers), double, spread, NODES)
    places, directions = feet[nodes], normals[nodes]
    if is_one_sided(places, directions):
        message = (
            "surface: `points` must lie on a surface with two sides; this one has one side only, "
            "as a Möbius strip, so no field is negative on one side of it. Cut the scan into "
            "parts, and reconstruct each with `closed=False` (--open)."
        )
        raise DataError(message)
    tree = cKDTree(places)
    spacing = tree.query(places, 5)[0][:, 4]
    signs, sure, part = settle_signs(places, directions, spacing * np.where(own, SHARP, 1.0), own)
    directions = directions * signs[:, None]
    directions *= turn_outward(places, directions, spacing, part)[:, None]
    result, confidence = np.empty_like(normals), np.empty(len(normals))
    for start in range(0, len(normals), BATCH):
        rows = slice(start, start + BATCH)
        _, near = tree.query(feet[rows], 12)
        fit, size = fit_into(
            feet[rows], normals[rows], places[near], directions[near], spacing[near]
        )
        result[rows] = normals[rows] * np.where(fit < 0.0, -1.0, 1.0)[:, None]
        confidence[rows] = np.abs(fit) / np.maximum(size, 1e-300) * sure[near[:, 0]]
    result[nodes[own]], confidence[nodes[own]] = directions[own], sure[own]
    pairs = np.flatnonzero(own & double[nodes])
    if len(pairs):
        nearest = pairs[cKDTree(places[pairs]).query(feet[double])[1]]
        turned = (directions[nearest] * normals[nodes[nearest]]).sum(1)
        result[double] = normals[double] * np.sign(turned)[:, None]
        confidence[double] = sure[nearest]
    return result, confidence
