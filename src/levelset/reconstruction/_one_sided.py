"""Whether points lie on a surface with one side only, as a Möbius strip."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from levelset._typing import Floats, Integers

__all__ = ["is_one_sided"]

NEIGHBOURS = 12
PARALLEL = 0.85  # least cosine, of either sign, between normals of neighbours on one sheet
COPLANAR = 0.3  # most height above the plane of the other, over their distance
REACH = 2.5  # distances to the fourth neighbour
LINKS = 5.0  # links a place, below which the sheet is not seen clearly
SEAM = 0.6  # contradicted links over the root of the number of places


def is_one_sided(places: Floats, normals: Floats) -> bool:
    """Return whether the surface through places has no two sides.

    Neighbours that lie on one sheet for certain say which of their normals agree. The surest of
    these links make a tree, which gives all normals their signs. If the surface has two sides the
    other links bear them out. On a Möbius strip, a whole seam of links contradicts them, about
    as many as the root of the number of places: 0.77 to 2.6 times that on strips of one and three
    half turns, 0 on those of two, and none on closed shapes unless noise hides the sheet.

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
    contradicted = int((signs[first] * signs[second] * cosine < 0.0).sum())
    return bool(contradicted > SEAM * np.sqrt(len(places)))


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
