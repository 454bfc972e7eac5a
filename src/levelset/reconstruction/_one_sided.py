"""Whether points lie on a surface with one side only, as a Möbius strip."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers

__all__ = ["is_one_sided"]

NEIGHBOURS = 12
PARALLEL = 0.85  # least cosine, of either sign, between normals of neighbours on one sheet
COPLANAR = 0.3  # most height above the plane of the other, over their distance
REACH = 2.5  # distances to the fourth neighbour
LINKS = 5.5  # links a place, below which the sheet is not seen clearly
SEAM = 0.6  # contradicted links of one line, over the root of the number of places


def is_one_sided(places: Floats, normals: Floats) -> bool:
    """Return whether the surface through places has no two sides.

    Neighbours that lie on one sheet for certain say which of their normals agree. The surest of
    these links make a tree, which gives all normals their signs. If the surface has two sides the
    other links bear them out. On a Möbius strip, a whole seam of links contradicts them, one line
    with about as many as the root of the number of places: 0.82 to 7 times that on strips of one,
    three and five half turns, 0 on those of two. Noise makes some on closed solids too, here and
    there: at most 0.37 times that in one line, where there were 5.1 links a place; strips have 6.

    Args:
        places: Evenly spread places on the surface, `(n, 3)`.
        normals: Unit normals of either sign, `(n, 3)`.
    """
    count = min(NEIGHBOURS + 1, len(places))
    if count < 5:
        return False
    first, second = _links(places, normals, count)
    if len(first) < LINKS * len(places):
        return False
    cosine = (normals[first] * normals[second]).sum(1)
    cost = 1.0001 - np.abs(cosine)
    tree = minimum_spanning_tree(csr_matrix((cost, (first, second)), (len(places),) * 2))
    tree = (tree + tree.T).tocsr()
    signs: Floats = np.ones(len(places))
    labels = connected_components(tree, directed=False)[1]
    for root in np.unique(labels, return_index=True)[1].tolist():
        order, before = breadth_first_order(tree, root, directed=False)
        for row in order[1:].tolist():
            agree = normals[row] @ normals[before[row]] > 0.0
            signs[row] = signs[before[row]] if agree else -signs[before[row]]
    contradicted = signs[first] * signs[second] * cosine < 0.0
    longest = _longest(first, second, contradicted, len(places))
    return bool(longest > SEAM * np.sqrt(len(places)))


def _longest(first: Integers, second: Integers, chosen: Booleans, count: int) -> int:
    """Return how many chosen links there are in the longest line of them."""
    met: Booleans = np.zeros(count, dtype=bool)
    met[first[chosen]] = met[second[chosen]] = True
    beside = met[first] & met[second]
    graph = csr_matrix((np.ones(beside.sum()), (first[beside], second[beside])), (count, count))
    line = connected_components(graph, directed=False)[1]
    return int(np.bincount(line[first[chosen]]).max(initial=0))


def _links(places: Floats, normals: Floats, count: int) -> tuple[Integers, Integers]:
    """Return pairs of places that lie on one sheet, each once."""
    away, near = cKDTree(places).query(places, count)
    offset = places[near] - places[:, None]
    height = np.abs(np.einsum("nkj,nj->nk", offset, normals))
    height = np.maximum(height, np.abs(np.einsum("nkj,nkj->nk", offset, normals[near])))
    cosine = np.abs(np.einsum("nkj,nj->nk", normals[near], normals))
    sheet = (cosine > PARALLEL) & (height < COPLANAR * away) & (away < REACH * away[:, 4:5])
    row, column = np.nonzero(sheet)
    pairs = np.sort(np.stack([row, near[row, column]], 1), axis=1)
    first, second = np.unique(pairs, axis=0).T
    return first, second
