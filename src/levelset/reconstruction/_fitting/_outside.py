"""Which parts of the cube lie outside for certain, from the points alone."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._fitting._lattice import REACH

__all__ = ["Pins", "open_nodes"]

# Directions to the neighbours in a lattice, 26 of them.
_DIRECTIONS = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]


class Pins(NamedTuple):
    """Nodes of a grid whose values are about known.

    Attributes:
        nodes: `(k,)`.
        target: The distance to the nearest point, `(k,)`.
    """

    nodes: Integers
    target: Floats


def open_nodes(points: Floats, cells: int, clearance: float, share: float) -> Pins:
    """Return the nodes that see enough of the open.

    A node sees the open in a direction if no point lies within `clearance` of that ray, as far as
    the lattice can tell. The inside of a surface sees it through holes only, so that a few free
    directions tell nothing; the space between two ears sees it in half of the directions, whatever
    way the normals there point.

    Args:
        points: `(n, 3)`.
        cells: Cells a side of the grid.
        clearance: How far from every point a node must be.
        share: Least share of the 26 directions that must be free.
    """
    line = (np.arange(cells + 2) - 0.5) * (2 * REACH / cells) - REACH
    place = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    distance = cKDTree(points).query(place.reshape(-1, 3))[0]
    blocked = (distance < clearance).reshape(place.shape[:3])
    free = sum(_unseen(blocked, step) for step in _DIRECTIONS)
    nodes = np.flatnonzero((free >= share * len(_DIRECTIONS)) & ~blocked)
    return Pins(nodes, distance[nodes])


def _unseen(blocked: Booleans, step: tuple[int, ...]) -> Integers:
    """Return 1 where the ray in a direction meets nothing blocked, 0 elsewhere."""
    met, reach = blocked, 1
    while reach < len(blocked):
        # rays of twice the length, from two of the length before
        shift = [s * reach for s in step]
        here = tuple(slice(max(0, -s), len(blocked) - max(0, s)) for s in shift)
        there = tuple(slice(max(0, s), len(blocked) - max(0, -s)) for s in shift)
        longer = met.copy()
        longer[here] |= met[there]
        met, reach = longer, 2 * reach
    return (~met).astype(np.int64)
