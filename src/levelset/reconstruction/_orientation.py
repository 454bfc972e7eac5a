"""From raw points to points with outward normals, with their noise and outliers."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from levelset._tools.cells import distinct
from levelset._typing import Booleans, Floats, Integers, Singles
from levelset.errors import DataError
from levelset.reconstruction._cloud import Cloud
from levelset.reconstruction._dipoles import couplings, fit_into
from levelset.reconstruction._known_sides import agreed, seen
from levelset.reconstruction._local_noise import local_noise
from levelset.reconstruction._local_planes import fit_adaptive
from levelset.reconstruction._noise import NoiseLevel, alike, neighbours_at, noise_level
from levelset.reconstruction._one_sided import is_one_sided
from levelset.reconstruction._outliers import find_outliers
from levelset.reconstruction._two_sheets import paired

__all__ = [
    "UNSURE",
    "OrientedPoints",
    "best_signs",
    "contract",
    "objects",
    "orient",
    "polish",
    "settle_signs",
    "thin",
    "turn_outward",
]

HEAVIER = 4.0  # weight of a mean of many points, at most
UNSURE = 0.6  # confidence below which an orientation counts as unsure
NODES = 5000  # places whose signs are settled together; the others follow their neighbours
BATCH = 4096
CLUSTERS = 48  # left by the contraction, for the search
STARTS = 256  # of the search
SHARP = 0.5  # of the spacing, for dipoles on two sheets: the whole would soften them into one
REACH = 2.5  # spacings over which two places belong to one object
NEIGHBOURS = 12
OPEN = 0.3  # sum of the area vectors over the area above which an object is not closed
ACROSS = 64  # neighbours in other objects that decide for one that is not closed
PROBES = 50  # places of an object that are looked at from another


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

    Where two sheets are nearer to each other than the points of one, both are fitted together
    (`paired`). Walls and gaps thinner than that spacing, or eight times the noise, may look like
    one sheet; there the confidence is low and normals may be wrong.

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
    estimated, feet, spacing = _surface_near(points, np.flatnonzero(~outlier), level, spread)
    estimated[pairs.double], feet[pairs.double] = pairs.normals, pairs.feet
    normals, confidence = _oriented(estimated, feet, outlier | pairs.unclear, pairs.double)
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
    cloud: Floats, inliers: Integers, level: NoiseLevel, noise: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return normals of either sign, feet on the local surface, and spacing."""
    tree = cKDTree(cloud[inliers])
    normals, feet, spacing = np.empty_like(cloud), np.empty_like(cloud), np.empty(len(cloud))
    for count, group in alike(neighbours_at(level, noise)):
        size = min(count, len(inliers))
        for start in range(0, len(group), BATCH):
            rows = group[start : start + BATCH]
            distances, near = tree.query(cloud[rows], size)
            patches = fit_adaptive(cloud, cloud[rows], inliers[near], noise[rows])
            normals[rows], feet[rows] = patches.normals, patches.feet
            spacing[rows] = distances[:, min(8, size - 1)] * np.sqrt(np.pi / 8.0)
    return normals, feet, spacing


def _oriented(
    normals: Floats, feet: Floats, followers: Booleans, double: Booleans
) -> tuple[Floats, Floats]:
    """Return outward normals and confidences.

    Followers have no say in them. Of the points on two sheets the signs settled together count:
    their neighbours lie on both, and a vote of a few goes wrong.
    """
    inliers = np.flatnonzero(~followers)
    nodes = inliers[thin(feet[inliers], NODES)]
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
    own = double[nodes]
    signs, sure = settle_signs(places, directions, spacing * np.where(own, SHARP, 1.0))
    directions = directions * signs[:, None]
    directions *= turn_outward(places, directions, spacing)[:, None]
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
    return result, confidence


def thin(points: Floats, most: int) -> Integers:
    """Return at most `most` rows of points: of each cell of a lattice the one nearest its mean.

    Bisection settles the size of the cells, so that 95 to 100 % of `most` come back, or all.

    Args:
        points: The cloud, `(n, 3)`, without duplicates.
        most: Largest number of rows.
    """
    if len(points) <= most:
        return np.arange(len(points))
    points = points - points.min(0)
    low, high = 0.0, float(points.max()) * 1.001
    for _ in range(40):
        size = 0.5 * (low + high)
        count = distinct(_cells(points, size))
        low, high = (size, high) if count > most else (low, size)
        if 0.95 * most < count <= most:
            break
    _, cell, counts = np.unique(_cells(points, high), return_inverse=True, return_counts=True)
    sums = [np.bincount(cell, points[:, axis]) for axis in range(3)]
    means = np.stack(sums, axis=1) / counts[:, None]
    order = np.lexsort((((points - means[cell]) ** 2).sum(1), cell))
    first = np.r_[0, np.cumsum(counts)[:-1]]
    return order[first]


def _cells(points: Floats, size: float) -> Integers:
    index = (points / size).astype(np.int64)
    return (index[:, 0] << 42) + (index[:, 1] << 21) + index[:, 2]


def settle_signs(places: Floats, normals: Floats, spacing: Floats) -> tuple[Floats, Floats]:
    r"""Return the signs that make dipoles fit best, `(n,)`, and how sure each is, `(n,)`.

    $\sum_{ij} s_i s_j K_{ij}$ is to be made as large as can be, over all $2^n$ signs (see
    `_dipoles`). What is coupled most is joined first, in about ten rounds that leave 48 clusters
    with exact couplings between them; these are settled by a search from 256 starts; last, single
    signs turn that their surroundings outvote. So a decision is taken when as much is known as can
    be: a spanning tree over the same points decides each link by itself, and one wrong link turns
    all beyond it.

    The signs of the whole are arbitrary, as are those of parts without coupling.

    Cost: `n` squared; 0.8 s and 250 MB for 5,000 dipoles.

    Args:
        places: Where the dipoles are, `(n, 3)`.
        normals: Their unit normals, of either sign, `(n, 3)`.
        spacing: The side of the square that each stands for, `(n,)`.

    Returns:
        Signs, 1 or -1, and the share of its couplings that agree with each, from 0 to 1: the sum
        over the sum of absolute values.
    """
    matrix = couplings(places, normals, spacing)
    small, signs, labels = contract(matrix)
    signs = polish(matrix, signs * best_signs(small.astype(np.float64))[labels].astype(np.float32))
    sizes = np.array([np.abs(row).sum() for row in matrix])
    sure = signs * (matrix @ signs) / np.maximum(sizes, 1e-30)
    return signs.astype(np.float64), np.clip(sure, 0.0, 1.0).astype(np.float64)


def contract(matrix: Singles) -> tuple[Singles, Singles, Integers]:
    """Join the most coupled clusters, round by round, until 48 are left.

    A round joins, along its strongest coupling, that half of the clusters whose strongest coupling
    is largest for their size (Boruvka's rounds, on couplings that add up).

    Args:
        matrix: Couplings, `(n, n)`, symmetric, zero on the diagonal.

    Returns:
        The couplings of the clusters `(m, m)`; the sign of each row within its cluster, `(n,)`;
        and the cluster of each row, `(n,)`.
    """
    signs = np.ones(len(matrix), dtype=np.float32)
    labels = np.arange(len(matrix))
    sizes: Floats = np.ones(len(matrix))
    while len(matrix) > CLUSTERS:
        flips, new = _round(matrix, sizes)
        count = int(new.max()) + 1
        if count == len(matrix):
            break  # nothing is coupled to anything
        matrix = _joined(matrix, flips, new, count)
        sizes = np.bincount(new, sizes).astype(np.float64)
        signs *= flips[labels]
        labels = new[labels]
    return matrix, signs, labels


def _round(matrix: Singles, sizes: Floats) -> tuple[Singles, Integers]:
    """Return signs and new numbers of the clusters."""
    # row by row: no second matrix in memory
    best = np.array([np.abs(row).argmax() for row in matrix])
    score = np.abs(matrix[np.arange(len(matrix)), best]) / sizes
    first = np.flatnonzero((score > 0.0) & (score >= np.median(score)))
    first = first[np.argsort(-score[first], kind="stable")][: len(matrix) - CLUSTERS]
    second = best[first]
    relation = np.sign(matrix[first, second])
    graph = csr_matrix((np.ones(len(first)), (first, second)), shape=matrix.shape)
    new = connected_components(graph, directed=False)[1].astype(np.int64)
    return _spread(first, second, relation, new), new


def _spread(first: Integers, second: Integers, relation: Singles, new: Integers) -> Singles:
    """Give each member of a tree its sign relative to one of the members."""
    flips = np.ones(len(new), dtype=np.float32)
    done = np.zeros(len(new), dtype=bool)
    done[np.unique(new, return_index=True)[1]] = True
    source, target = np.r_[first, second], np.r_[second, first]
    relation = np.r_[relation, relation]
    while not done.all():
        go = done[source] & ~done[target]
        flips[target[go]] = flips[source[go]] * relation[go]
        done[target[go]] = True
    return flips


def _joined(matrix: Singles, flips: Singles, new: Integers, count: int) -> Singles:
    gather = csr_matrix((flips, (new, np.arange(len(new)))), shape=(count, len(new)))
    half = np.ascontiguousarray((gather @ matrix).T)
    joined: Singles = gather @ half
    np.fill_diagonal(joined, 0.0)
    return joined


def best_signs(matrix: Floats) -> Floats:
    """Return signs `(m,)` with as large a sum of couplings as a search finds.

    From all signs equal and from 255 random ones (always the same) the worst is turned until none
    is outvoted; the best end counts. Then whole sides of a tree of the strongest couplings are
    turned, as long as it helps: along a wire, half of which is the wrong way round, no single one
    does.

    Args:
        matrix: Couplings, `(m, m)`, symmetric, zero on the diagonal.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (STARTS, len(matrix)))
    signs[0] = 1.0
    force = signs @ matrix
    rows = np.arange(STARTS)
    least = 1e-9 * np.abs(matrix).max()
    while True:
        gain = signs * force
        worst = gain.argmin(1)
        moving = rows[gain[rows, worst] < -least]
        if len(moving) == 0:
            break
        column = worst[moving]
        force[moving] -= 2.0 * signs[moving, column][:, None] * matrix[column]
        signs[moving, column] *= -1.0
    best: Floats = signs[(signs * force).sum(1).argmax()]
    sides = np.vstack([_sides(matrix), np.eye(len(matrix))])
    while True:
        agreement = best[:, None] * matrix * best
        gain = ((sides @ agreement) * (1.0 - sides)).sum(1)
        if gain.min(initial=0.0) >= -least:
            return best
        best = best * (1.0 - 2.0 * sides[gain.argmin()])


def _sides(matrix: Floats) -> Floats:
    """Return 1 on one side of each link of the tree of strongest couplings, else 0, `(k, m)`."""
    size = np.abs(matrix)
    linked = size > 0.0
    # the strongest is the shortest, and no length is 0, which would be no link
    length = csr_matrix(np.where(linked, 2.0 * size.max(initial=1.0) - size, 0.0))
    tree = minimum_spanning_tree(length).tocoo()
    sides = np.zeros((tree.nnz, len(matrix)))
    for link in range(tree.nnz):
        others = np.arange(tree.nnz) != link
        rest = csr_matrix(
            (tree.data[others], (tree.row[others], tree.col[others])), shape=tree.shape
        )
        part = connected_components(rest, directed=False)[1]
        sides[link] = part == part[tree.row[link]]
    return sides


def polish(matrix: Singles, signs: Singles) -> Singles:
    """Return the signs, turned where their surroundings outvote them, `(n,)`.

    The worse half of them a round: two that pull each other would go on turning.

    Args:
        matrix: Couplings, `(n, n)`, symmetric, zero on the diagonal.
        signs: The signs to start from, `(n,)`.
    """
    signs = signs.copy()
    for _ in range(100):
        gain = signs * (matrix @ signs)
        bad = np.flatnonzero(gain < 0.0)
        if len(bad) == 0:
            break
        bad = bad[np.argsort(gain[bad], kind="stable")]
        signs[bad[: max(1, len(bad) // 2)]] *= -1.0
    return signs


def objects(places: Floats, spacing: Floats) -> Integers:
    """Return the number of the object of each place, `(n,)`: of each connected part.

    Args:
        places: Places on surfaces, `(n, 3)`.
        spacing: Distance of each to its neighbours, `(n,)`.
    """
    count = min(NEIGHBOURS, len(places))
    distance, near = cKDTree(places).query(places, count)
    linked = distance < REACH * np.maximum(spacing[:, None], spacing[near])
    own = np.repeat(np.arange(len(places)), count).reshape(near.shape)
    graph = csr_matrix(
        (np.ones(linked.sum()), (own[linked], near[linked])), shape=(len(places),) * 2
    )
    return connected_components(graph, directed=False)[1].astype(np.int64)


def turn_outward(places: Floats, normals: Floats, spacing: Floats) -> Floats:
    """Return the sign by which to turn each normal, `(n,)`, one sign an object.

    The largest object first: the volume that its normals enclose must be positive. A smaller one
    that is closed is judged in the same way, and turned once more if it lies inside those before
    it, as the wall of a cavity. One that is not closed, a torn-off piece of a scan, is turned so
    that it fits into those before it.

    Args:
        places: Places on surfaces, `(n, 3)`.
        normals: Unit normals that agree with one another within an object, `(n, 3)`.
        spacing: The side of the square that each place stands for, `(n,)`.
    """
    number = objects(places, spacing)
    vectors = normals * (spacing**2)[:, None]
    signs, before = np.ones(len(places)), np.zeros(len(places), dtype=bool)
    for which in np.argsort(-np.bincount(number, spacing**2), kind="stable"):
        rows = np.flatnonzero(number == which)
        x, v = places[rows], vectors[rows]
        closed = np.linalg.norm(v.sum(0)) < OPEN * (spacing[rows] ** 2).sum()
        if closed or not before.any():
            outward = ((x - x.mean(0)) * v).sum() >= 0.0
            if before.any():
                outward ^= _inside(x, places[before], vectors[before] * signs[before, None])
        else:
            old = np.flatnonzero(before)
            _, near = cKDTree(places[old]).query(x, min(ACROSS, len(old)))
            near = old[near].reshape(len(x), -1)
            theirs = normals[near] * signs[near][..., None]
            outward = fit_into(x, v, places[near], theirs, spacing[near])[0].sum() >= 0.0
        signs[rows] = 1.0 if outward else -1.0
        before[rows] = True
    return signs


def _inside(x: Floats, places: Floats, vectors: Floats) -> bool:
    """Return whether most of an object lies inside others, by their winding number."""
    apart = places - x[:: max(1, len(x) // PROBES), None]
    cube = np.maximum((apart**2).sum(2), 1e-12) ** 1.5
    winding = ((apart * vectors).sum(2) / cube).sum(1) / (4.0 * np.pi)
    return bool(np.median(winding) > 0.5)
