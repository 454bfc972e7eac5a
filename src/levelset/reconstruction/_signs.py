"""The signs of normals, settled together: those that make dipoles fit best."""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers, Singles
from levelset.reconstruction._dipoles import SOFTENING, couplings

__all__ = ["best_signs", "contract", "parts", "polish", "settle_signs"]

CLUSTERS = 48  # left by the contraction, for the search
STARTS = 256  # of the search
NEIGHBOURS = 12
JOINED = 3.0  # times the coupling side by side, for dipoles known to have the same sign
WEAK = 1e-2  # of what a part agrees with itself: agreement across, below which it says nothing


def settle_signs(
    places: Floats, normals: Floats, spacing: Floats, alike: Booleans | None = None
) -> tuple[Floats, Floats, Integers]:
    r"""Return the signs that make dipoles fit best, how sure each is, and what hangs together.

    $\sum_{ij} s_i s_j K_{ij}$ is to be made as large as can be, over all $2^n$ signs (see
    `_dipoles`). What is coupled most is joined first, in about ten rounds that leave 48 clusters
    with exact couplings between them; these are settled by a search from 256 starts; last, single
    signs turn that their surroundings outvote. So a decision is taken when as much is known as can
    be: a spanning tree over the same points decides each link by itself, and one wrong link turns
    all beyond it.

    The signs of the whole are arbitrary, as are those of parts without coupling. Hardly less so are
    those of parts that are coupled by next to nothing, such as two bodies that touch.

    Cost: `n` squared; 0.8 s and 250 MB for 5,000 dipoles.

    Args:
        places: Where the dipoles are, `(n, 3)`.
        normals: Their unit normals, of either sign, `(n, 3)`.
        spacing: The side of the square that each stands for, `(n,)`.
        alike: Dipoles whose signs are known to be those of the others of these near them, `(n,)`.

    Returns:
        Signs, 1 or -1, `(n,)`; the share of its couplings that agree with each, from 0 to 1: the
        sum over the sum of absolute values, `(n,)`; and the number of the part that each belongs
        to, `(n,)`, see `parts`.
    """
    matrix = couplings(places, normals, spacing)
    if alike is not None:
        _join(matrix, places, spacing, np.flatnonzero(alike))
    joined, signs, labels = contract(matrix)
    small = joined.astype(np.float64)
    best = best_signs(small)
    signs = polish(matrix, signs * best[labels].astype(np.float32))
    gain = signs * (matrix @ signs)
    sizes = np.array([np.abs(row).sum() for row in matrix])
    sure = np.clip(gain / np.maximum(sizes, 1e-30), 0.0, 1.0)
    whole = np.bincount(labels, gain, len(small)).astype(np.float64)
    part = parts(best[:, None] * small * best, whole)[labels]
    return signs.astype(np.float64), sure.astype(np.float64), part


def _join(matrix: Singles, places: Floats, spacing: Floats, rows: Integers) -> None:
    """Couple some dipoles, in place, to those of them near each as if they stood side by side."""
    count = min(NEIGHBOURS, len(rows))
    if count > 1:
        distance, near = cKDTree(places[rows]).query(places[rows], count)
        for apart, column in zip(distance[:, 1:].T, rows[near[:, 1:]].T, strict=True):
            square = apart**2 + 0.5 * SOFTENING**2 * (spacing[rows] ** 2 + spacing[column] ** 2)
            coupling = (spacing[rows] * spacing[column]) ** 2 * square**-1.5
            matrix[rows, column] = matrix[column, rows] = JOINED * coupling


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
    sides = np.vstack([_sides(matrix)[0], np.eye(len(matrix))])
    while True:
        agreement = best[:, None] * matrix * best
        gain = ((sides @ agreement) * (1.0 - sides)).sum(1)
        if gain.min(initial=0.0) >= -least:
            return best
        best = best * (1.0 - 2.0 * sides[gain.argmin()])


def _sides(matrix: Floats) -> tuple[Floats, coo_matrix]:
    """Return 1 on one side of each link of the tree of strongest couplings, else 0, and the tree.

    Returns:
        Sides, `(k, m)`, and the tree with its `k` links.
    """
    size = np.abs(matrix)
    linked = size > 0.0
    # the strongest is the shortest, and no length is 0, which would be no link
    length = csr_matrix(np.where(linked, 2.0 * size.max(initial=1.0) - size, 0.0))
    tree = minimum_spanning_tree(length).tocoo()
    sides = np.zeros((tree.nnz, len(matrix)))
    for link in range(tree.nnz):
        part = _pieces(tree, np.arange(tree.nnz) != link)
        sides[link] = part == part[tree.row[link]]
    return sides, tree


def _pieces(tree: coo_matrix, links: Booleans) -> Integers:
    """Return the number of the connected piece of each node, with some of the links."""
    rest = csr_matrix((tree.data[links], (tree.row[links], tree.col[links])), shape=tree.shape)
    return connected_components(rest, directed=False)[1].astype(np.int64)


def parts(agreement: Floats, gain: Floats) -> Integers:
    """Return the number of the part of each cluster, `(m,)`.

    Parts are coupled by so little that it says nothing about their signs. They are what is left of
    the tree of strongest couplings without the links whose two sides agree by less than a share of
    what the smaller side agrees with itself.

    Args:
        agreement: Couplings of clusters with their signs, `(m, m)`, zero on the diagonal.
        gain: How much the members of each agree with all others, its own among them, `(m,)`.
    """
    sides, tree = _sides(agreement)
    across = ((sides @ agreement) * (1.0 - sides)).sum(1)
    inside, total = sides @ gain, gain.sum()
    weak = across < WEAK * np.minimum(inside, total - inside)
    return _pieces(tree, ~weak)


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
