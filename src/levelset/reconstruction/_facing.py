"""Sheets that face each other, no farther apart than the points of one: fields bend across them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.spatial import cKDTree

from levelset._typing import Floats, Integers
from levelset.reconstruction._grid import REACH, Band, Roughness
from levelset.reconstruction._orientation import OrientedPoints

__all__ = ["Facing", "facing", "loosened"]

NEIGHBOURS = 24
OPPOSED = -0.8  # cosine between normals, below which they lie on two sheets
LEAST = 4  # neighbours on each sheet
CLEAR = 1.5  # standard deviations between two sheets: less is one sheet with some normals wrong
FLAT = 0.9  # share of the normals around along one line, below which there is an edge
BEYOND = 1.5  # spacings around such a point in which the field may bend
BATCH = 50_000  # points at once
LOOSE = 0.1  # share of its roughness across the sheets that counts there


@dataclass(frozen=True, eq=False)
class Facing:
    """Points on sheets that face each other.

    Attributes:
        points: All points of the cloud, `(n, 3)`.
        normals: Their unit normals, `(n, 3)`.
        reach: How far around each the field may bend along its normal, `(n,)`: 0 for points that
            face none.
    """

    points: Floats
    normals: Floats
    reach: Floats

    def nodes(self, band: Band) -> tuple[Integers, Integers]:
        """Return nodes of a band near such points, as rows of it, and the point nearest to each."""
        some = np.flatnonzero(self.reach > 0.0)
        places = (band.grid_index - 0.5) * band.width - REACH
        farthest = float(self.reach.max())
        tree = cKDTree(self.points[some])
        rows = np.flatnonzero(tree.query(places, distance_upper_bound=farthest)[0] < farthest)
        away, nearest = cKDTree(self.points).query(places[rows])
        near = away < self.reach[nearest]
        return rows[near], nearest[near]


def facing(points: OrientedPoints) -> Facing | None:
    """Return which points face another sheet among their 24 neighbours; `None` if none does.

    Cost: 5 microseconds a point.

    Args:
        points: The cloud.
    """
    reach = np.zeros(len(points.points))
    tree, most = cKDTree(points.points), min(NEIGHBOURS, len(points.points))
    for start in range(0, len(reach), BATCH):
        rows = np.arange(start, min(start + BATCH, len(reach)))
        near = tree.query(points.points[rows], most)[1].reshape(-1, most)
        own = points.normals[rows, :, None]
        cosines = (points.normals[near] @ own)[..., 0]
        heights = ((points.points[near] - points.points[rows, None]) @ own)[..., 0]
        sides = cosines > -OPPOSED, cosines < OPPOSED
        counts = [side.sum(1) for side in sides]
        this, that = (
            (heights * side).sum(1) / np.maximum(count, 1)
            for side, count in zip(sides, counts, strict=True)
        )
        apart = np.abs(this - that) > CLEAR * points.spread[rows]
        flat = (cosines**2).mean(1) > FLAT
        good = apart & flat & (np.minimum(*counts) >= LEAST)
        reach[rows] = BEYOND * points.spacing[rows] * good
    return Facing(points.points, points.normals, reach) if reach.any() else None


def loosened(kinds: list[Roughness], band: Band, places: Facing) -> list[Roughness]:
    """Return second differences that count less along the normal, where sheets face each other.

    The distance to two sheets has a crease halfway between them. Where the cells that resolve it
    hold few points, the energy of that crease is more than what the points are worth, and the
    sheets are pushed apart or away. Along the sheets the field is as smooth as anywhere.

    Args:
        kinds: The six second differences of a band.
        band: The band.
        places: Where sheets face each other.
    """
    rows, nearest = places.nodes(band)
    at = np.full((len(kinds), len(band.nodes)), -1)
    for line, kind in zip(at, kinds, strict=True):
        line[kind.node] = np.arange(len(kind.node))
    whole = (at[:, rows] >= 0).all(0)
    at, (x, y, z) = at[:, rows[whole]], places.normals[nearest[whole]].T
    mixed = np.sqrt(2.0) * np.stack([x * y, x * z, y * z])
    shares = np.concatenate([np.stack([x, y, z]) ** 2, mixed])
    # the second derivative along the normal
    along = sum(_diagonal(s) @ k.matrix[a] for s, k, a in zip(shares, kinds, at, strict=True))
    result = []
    for share, kind, place in zip(shares, kinds, at, strict=True):
        back = csr_matrix(
            ((np.sqrt(LOOSE) - 1.0) * share, (place, np.arange(len(place)))),
            shape=(len(kind.node), len(place)),
        )
        matrix = (kind.matrix + back.astype(np.float32) @ along).tocsr()
        result.append(Roughness(matrix, kind.node))
    return result


def _diagonal(values: Floats) -> csr_matrix:
    return diags(values.astype(np.float32), format="csr")
