"""The objects of a cloud, and which way each is turned outward."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from levelset._typing import Floats, Integers
from levelset.reconstruction._dipoles import fit_into

__all__ = ["is_closed", "objects", "turn_outward"]

REACH = 2.5  # spacings over which two places belong to one object
ABOVE = 0.75  # sine of the angle to both tangent planes beyond which places face each other
NEIGHBOURS = 12
OPEN = 0.3  # sum of the area vectors over the area above which an object is not closed
ACROSS = 64  # neighbours in other objects that decide for one that is not closed
FEWEST = 20  # places of which a part may be an object of its own
PROBES = 50  # places of an object that are looked at from another


def objects(places: Floats, normals: Floats, spacing: Floats) -> Integers:
    """Return the number of the object of each place, `(n,)`: of each connected part.

    Two places are not connected if each lies above the other, as those on both sides of a wall or a
    gap do; around an edge at least one lies beside the other.

    Args:
        places: Places on surfaces, `(n, 3)`.
        normals: Unit normals of either sign, `(n, 3)`.
        spacing: Distance of each to its neighbours, `(n,)`.
    """
    count = min(NEIGHBOURS, len(places))
    distance, near = cKDTree(places).query(places, count)
    linked = distance < REACH * np.maximum(spacing[:, None], spacing[near])
    way = places[near] - places[:, None]
    heights = [np.abs((way * n).sum(2)) for n in (normals[:, None], normals[near])]
    linked &= np.minimum(*heights) <= ABOVE * distance
    own = np.repeat(np.arange(len(places)), count).reshape(near.shape)
    graph = csr_matrix(
        (np.ones(linked.sum()), (own[linked], near[linked])), shape=(len(places),) * 2
    )
    return connected_components(graph, directed=False)[1].astype(np.int64)


def turn_outward(places: Floats, normals: Floats, spacing: Floats, part: Integers) -> Floats:
    """Return the sign by which to turn each normal, `(n,)`, one sign an object, or part of one.

    The largest object first: the volume that its normals enclose must be positive. A smaller one
    that is closed is judged in the same way, and turned once more if it lies inside those before
    it, as the wall of a cavity. One that is not closed, a torn-off piece of a scan, is turned so
    that it fits into those before it.

    Args:
        places: Places on surfaces, `(n, 3)`.
        normals: Unit normals, `(n, 3)`.
        spacing: The side of the square that each place stands for, `(n,)`.
        part: The number of the part of each place, within which normals agree with one another,
            `(n,)`: a closed part is an object of its own.
    """
    vectors = normals * (spacing**2)[:, None]
    number = _closed_parts(objects(places, normals, spacing), part, vectors, spacing)
    signs, before = np.ones(len(places)), np.zeros(len(places), dtype=bool)
    for which in np.argsort(-np.bincount(number, spacing**2), kind="stable"):
        rows = np.flatnonzero(number == which)
        x, v = places[rows], vectors[rows]
        if is_closed(v, spacing[rows]) or not before.any():
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


def is_closed(vectors: Floats, spacing: Floats) -> bool:
    """Return whether area vectors cancel, as they do on a surface that bounds a volume.

    Args:
        vectors: Normals by the areas that they stand for, `(n, 3)`.
        spacing: The sides of these squares, `(n,)`.
    """
    return bool(np.linalg.norm(vectors.sum(0)) < OPEN * (spacing**2).sum())


def _closed_parts(number: Integers, part: Integers, vectors: Floats, spacing: Floats) -> Integers:
    """Return the numbers of objects, where each closed part of one is another."""
    joint = number * (int(part.max(initial=0)) + 1) + part
    for which in np.unique(joint):
        rows = joint == which
        if rows.sum() < FEWEST or not is_closed(vectors[rows], spacing[rows]):
            joint[rows] = -1 - number[rows]
    return np.unique(joint, return_inverse=True)[1].astype(np.int64)


def _inside(x: Floats, places: Floats, vectors: Floats) -> bool:
    """Return whether most of an object lies inside others, by their winding number."""
    apart = places - x[:: max(1, len(x) // PROBES), None]
    cube = np.maximum((apart**2).sum(2), 1e-12) ** 1.5
    winding = ((apart * vectors).sum(2) / cube).sum(1) / (4.0 * np.pi)
    return bool(np.median(winding) > 0.5)
