"""Rings around the handles of a mesh, within a part of it: where bridges and tunnels may be."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from levelset._typing import Booleans, Integers
from levelset.reconstruction._meshes._loops import Loop, beside_edges, sides_of
from levelset.reconstruction._meshes._mesh import Mesh

__all__ = ["rings"]


def rings(mesh: Mesh, part: Booleans) -> list[Loop]:
    """Return loops within a part of a watertight mesh that cut no piece off, halfway through it.

    A region of the part with two rims or more goes around something: around a handle, if a way
    outside the region leads from one rim to another, else around an island of what is not the part.
    The loop is what is as far from that rim as from the others.

    Cost: that of sorting the edges, and of a walk over all faces for each region with two rims.

    Args:
        mesh: The mesh.
        part: Which corners are of the part, `(n,)`.

    Returns:
        The loops; their corners are in no order, and the length is that of the rim.
    """
    faces = mesh.faces.numpy()
    rows = np.flatnonzero(part[faces].all(1))
    if len(rows) == 0:
        return []
    edges, beside = beside_edges(faces, len(mesh.vertices))
    result = []
    for region in _regions(faces, rows):
        rims = _rims(faces[region])
        if len(rims) > 1:
            met = _met(rims, region, edges, beside)
            for k, rim in enumerate(rims):
                others = rims[:k] + rims[k + 1 :]
                if any(met[k] & other for other in met[:k] + met[k + 1 :]):
                    result.append(_halfway(mesh, faces[region], rim, np.concatenate(others)))
    return result


def _regions(faces: Integers, rows: Integers) -> Iterator[Integers]:
    """Yield the rows of the faces of each region."""
    sides = sides_of(faces[rows])
    count = int(sides.max()) + 1
    graph = csr_matrix((np.ones(len(sides)), sides.T), shape=(count, count))
    label = connected_components(graph, directed=False)[1][faces[rows, 0]]
    order = np.argsort(label, kind="stable")
    yield from np.split(rows[order], np.flatnonzero(np.diff(label[order])) + 1)


def _rims(region: Integers) -> list[Integers]:
    """Return the edges of each rim of a region, `(k, 2)`."""
    edges, uses = np.unique(sides_of(region), axis=0, return_counts=True)
    rim = edges[uses == 1]
    corners, local = np.unique(rim, return_inverse=True)
    local = local.reshape(rim.shape)
    graph = csr_matrix((np.ones(len(rim)), local.T), shape=(len(corners),) * 2)
    label = connected_components(graph, directed=False)[1][local[:, 0]]
    return [rim[label == k] for k in np.unique(label)]


def _met(
    rims: list[Integers], region: Integers, edges: Integers, beside: Integers
) -> list[set[int]]:
    """Return which pieces of the mesh without a region each of its rims meets."""
    count = int(edges.max()) + 1
    outside: Booleans = np.ones(int(beside.max()) + 1, dtype=bool)
    outside[region] = False
    links = beside[outside[beside].all(1)]
    graph = csr_matrix((np.ones(len(links)), links.T), shape=(len(outside),) * 2)
    piece = connected_components(graph, directed=False)[1]
    keys = edges[:, 0] * count + edges[:, 1]
    met = []
    for rim in rims:
        pairs = beside[np.searchsorted(keys, rim[:, 0] * count + rim[:, 1])]
        met.append(set(piece[pairs[outside[pairs]]].tolist()))
    return met


def _halfway(mesh: Mesh, region: Integers, rim: Integers, others: Integers) -> Loop:
    """Return the corners of a region that are as far from one rim as from the others."""
    vertices = mesh.vertices.numpy()
    corners, local = np.unique(region, return_inverse=True)
    edges = np.unique(sides_of(local.reshape(region.shape)), axis=0)
    sizes = np.linalg.norm(vertices[corners[edges[:, 0]]] - vertices[corners[edges[:, 1]]], axis=1)
    ways = csr_matrix((np.maximum(sizes, 1e-12), edges.T), shape=(len(corners),) * 2)
    starts = [np.searchsorted(corners, np.unique(line)) for line in (rim, others)]
    away = [dijkstra(ways, directed=False, indices=start, min_only=True) for start in starts]
    nearer = away[0] < away[1]
    across = nearer[edges[:, 0]] != nearer[edges[:, 1]]
    length = np.linalg.norm(vertices[rim[:, 0]] - vertices[rim[:, 1]], axis=1).sum()
    rows = corners[np.unique(edges[across])]
    return Loop(vertices[rows], float(length), mesh.corner_vectors.numpy()[rows])
