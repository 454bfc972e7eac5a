"""Which faces of a mesh cut through one another."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["crossing_faces"]

# Pairs of faces that are compared at once.
PAIRS = 2**18
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def crossing_faces(corners: Floats, normals: Floats, offsets: Floats, tolerance: float) -> Integers:
    """Return the pairs of faces of which one has an edge that passes through the other, `(p, 2)`.

    Faces that touch in a corner, along an edge or flat on one another do not cut. Pairs come from
    a sweep along the longest axis; each is compared by the ends of the edges, on which sides of
    the other's plane they lie, and where between them the edge meets it: inside the other face,
    or on its rim, unless both have a corner in common.

    Args:
        corners: Of segments (d = 2) or triangles (d = 3), `(f, d, d)`.
        normals: Their unit normals, `(f, d)`.
        offsets: Of their planes, `(f,)`.
        tolerance: An edge passes a plane if its ends are further than this from it.
    """
    low, high = corners.min(axis=1), corners.max(axis=1)
    axis = int(np.ptp(low, axis=0).argmax())
    order = np.argsort(low[:, axis], kind="stable")
    low, high = low[order], high[order]
    # those after a face in the order, up to the last one that begins before it ends
    last = np.searchsorted(low[:, axis], high[:, axis], side="right")
    counts = last - np.arange(len(order)) - 1
    ends = np.cumsum(counts)
    crossing, start = [], 0
    while start < len(order):
        before = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS)))
        a = np.repeat(np.arange(start, stop), counts[start:stop])
        firsts = (ends - counts)[start:stop] - before
        b = a + 1 + np.arange(len(a)) - np.repeat(firsts, counts[start:stop])
        boxes = ((low[a] <= high[b]) & (low[b] <= high[a])).all(axis=1)
        a, b = order[a[boxes]], order[b[boxes]]
        joined = (corners[a, :, None] == corners[b, None]).all(axis=3).any(axis=(1, 2))
        margin = np.where(joined, tolerance, -tolerance)
        cut = np.zeros(len(a), dtype=bool)
        for of, other in ((a, b), (b, a)):
            planes = normals[other], offsets[other]
            cut |= _passes(corners[of], corners[other], planes, tolerance, margin)
        crossing.append(np.sort(np.stack([a[cut], b[cut]], axis=1), axis=1))
        start = stop
    pairs = np.concatenate(crossing)
    return pairs[np.lexsort(pairs.T[::-1])]


def _passes(
    of: Floats, through: Floats, planes: tuple[Floats, Floats], tolerance: float, margin: Floats
) -> NDArray[np.bool_]:
    """Return where an edge of the one face of a pair passes through the other."""
    normals, offsets = planes
    d = normals.shape[1]
    heights = np.einsum("pcd,pd->pc", of, normals) - offsets[:, None]
    passes = np.zeros(len(of), dtype=bool)
    for c in range(d if d == 3 else 1):
        a, b = heights[:, c], heights[:, (c + 1) % d]
        apart = (np.minimum(a, b) < -tolerance) & (np.maximum(a, b) > tolerance)
        rows = np.nonzero(apart)[0]
        share = (a[rows] / (a[rows] - b[rows]))[:, None]
        point = of[rows, c] + share * (of[rows, (c + 1) % d] - of[rows, c])
        passes[rows] |= _inside(point, through[rows], normals[rows], margin[rows])
    return passes


def _inside(points: Floats, faces: Floats, normals: Floats, margin: Floats) -> NDArray[np.bool_]:
    """Return which points of the planes of faces lie inside them, by more than a margin."""
    d = points.shape[1]
    if d == 2:
        along = faces[:, 1] - faces[:, 0]
        length = np.linalg.norm(along, axis=1)
        share = np.einsum("pd,pd->p", points - faces[:, 0], along) / length
        return (share > margin) & (share < length - margin)
    inside = np.ones(len(points), dtype=bool)
    for c in range(3):
        side = faces[:, (c + 1) % 3] - faces[:, c]
        inward = np.cross(normals, side)
        height = np.einsum("pd,pd->p", points - faces[:, c], inward)
        inside &= height > margin * np.linalg.norm(inward, axis=1)
    return inside
