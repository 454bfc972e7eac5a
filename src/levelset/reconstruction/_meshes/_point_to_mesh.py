"""Exact distances from points to a mesh."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._tools.checks import check_finite, check_points
from levelset._typing import Floats, Integers
from levelset.errors import DataError, ShapeError
from levelset.reconstruction._meshes._mesh import Mesh

__all__ = ["Triangles", "distance_to_mesh"]

BATCH = 2_048  # queries at once, so that the arrays of their candidates stay in cache
MOST_PAIRS = 4_000_000  # of queries and boxes; beyond, half the queries at a time
SLACK = 1.0 + 1e-9  # so that rounding of a bound never drops the nearest face


@dataclass(frozen=True)
class Triangles:
    """Triangles, prepared for the closed form.

    Attributes:
        origin: One corner of each, `(f, 3)`.
        sides: The edges, `(3, f, 3)`: from that corner to the others, and between these.
        squares: Their squared lengths, 1 where it is 0, `(3, f)`.
        normal: Unit normals, `(f, 3)`; zero where there is no area.
        dual: Vectors whose products with a point give its barycentric coordinates, `(2, f, 3)`.
    """

    origin: Floats
    sides: Floats
    squares: Floats
    normal: Floats
    dual: Floats

    @classmethod
    def of(cls, corners: Floats) -> "Triangles":
        """Prepare triangles by their corners, `(f, 3, 3)`."""
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        sides = np.stack([b - a, c - a, c - b])
        squares = (sides**2).sum(2)
        cross = np.cross(sides[0], sides[1])
        size = (cross**2).sum(1, keepdims=True)
        # without area, both coordinates are 0 everywhere, so that no point counts as inside
        safe = np.where(size > 0, size, 1.0)
        dual = np.stack([np.cross(sides[1], cross), np.cross(cross, sides[0])]) / safe
        return cls(a, sides, np.where(squares > 0, squares, 1.0), cross / np.sqrt(safe), dual)

    def distance(self, points: Floats, faces: Integers) -> Floats:
        """Return the distance from each point `(m, 3)` to the triangle `faces[m]` beside it.

        That to the plane where the foot of the perpendicular lies inside, else the least of those
        to the three sides.
        """
        arm = points - self.origin[faces]
        u, v = (_dot(self.dual[k][faces], arm) for k in range(2))
        distance = np.abs(_dot(self.normal[faces], arm))
        outside = np.flatnonzero(~((u > 0) & (v > 0) & (u + v < 1)))
        faces, arm = faces[outside], arm[outside]
        nearest = np.full(len(outside), np.inf)
        for k in range(3):
            side = self.sides[k][faces]
            start = arm if k < 2 else arm - self.sides[0][faces]
            share = np.clip(_dot(start, side) / self.squares[k][faces], 0.0, 1.0)
            gap = start - share[:, None] * side
            nearest = np.minimum(nearest, _dot(gap, gap))
        distance[outside] = np.sqrt(nearest)
        return distance

    def at_least(self, points: Floats, faces: Integers, middles: Floats) -> Floats:
        """Return a cheap lower bound of the distance, along one line.

        No point of a triangle reaches further towards a query than its furthest corner does;
        along the line from the middle of the triangle that costs three products, and is sharp
        where the triangle faces the query.
        """
        way = points - middles[faces]
        length = np.sqrt(_dot(way, way))
        way /= np.where(length > 0, length, 1.0)[:, None]
        start = self.origin[faces] - middles[faces]
        first = _dot(way, start)
        reach = np.maximum(_dot(way, self.sides[0][faces]), _dot(way, self.sides[1][faces]))
        return np.asarray(length - (first + np.maximum(reach, 0.0)))


def distance_to_mesh(points: Tensor, mesh: Mesh) -> tuple[Tensor, Tensor]:
    r"""Return the exact distance from each point to the surface of a mesh, and the nearest face.

    The face whose middle is nearest, from a kd-tree, gives an upper bound u. The order of the tree
    makes a hierarchy of boxes, four to a box; those within u of the point are opened, down to the
    faces, and these are measured by the closed form. No face is dropped but by a proof that it
    is farther, so there is no sampling and no tolerance.

    trimesh's `proximity.closest_point` looks boxes up in an R-tree, one point after the other in
    Python; this takes the points by thousands.

    Cost: 1 CPU second for 200,000 points close to a mesh of 70,000 faces; 7 for points about 0.2 of
    its radius away, whose nearest face is harder to tell.

    Args:
        points: Where from, `(n, 3)`, floating point, finite.
        mesh: The surface; at least one face.

    Returns:
        The distances `(n,)`, float64, and the rows `(n,)`, int64, of the nearest faces.

    Raises:
        ShapeError: If the points are not `(n, 3)`.
        DataError: If the mesh has no face, or a point is not finite.
    """
    check_points("distance_to_mesh", points)
    if points.dim() != 2 or points.shape[1] != 3:
        message = (
            f"distance_to_mesh: `points` must have the shape (n, 3), got {tuple(points.shape)}."
        )
        raise ShapeError(message)
    check_finite("distance_to_mesh", points)
    if not len(mesh.faces):
        message = "distance_to_mesh: `mesh` must have at least one face, got none."
        raise DataError(message)
    queries = points.detach().cpu().double().numpy()
    search = _BoxTree.over(mesh.vertices[mesh.faces].numpy())
    # neighbours in space one after the other open the same boxes, which then are in cache
    order = cKDTree(queries, leafsize=64).indices if len(queries) else np.zeros(0, dtype=np.int64)
    distance, face = np.zeros(len(queries)), np.zeros(len(queries), dtype=np.int64)
    for start in range(0, len(queries), BATCH):
        rows = order[start : start + BATCH]
        distance[rows], face[rows] = search.nearest(queries[rows])
    return torch.from_numpy(distance), torch.from_numpy(face)


@dataclass(frozen=True)
class _BoxTree:
    """Faces in the order of a kd-tree, under boxes.

    Attributes:
        triangles: What the closed form needs of each face.
        middles: The middles of the faces, `(f, 3)`.
        tree: The kd-tree over them.
        levels: The lowest and highest corners of the boxes, `(b, 3)` each, four times as many a
            level; the boxes of the last hold four faces or fewer.
        starts: Where in the order of the tree each box of the last level begins, and the end.
    """

    triangles: Triangles
    middles: Floats
    tree: cKDTree
    levels: list[tuple[Floats, Floats]]
    starts: Integers

    @classmethod
    def over(cls, corners: Floats) -> "_BoxTree":
        middles = corners.mean(1)
        tree = cKDTree(middles)
        low, high = corners.min(1)[tree.indices], corners.max(1)[tree.indices]
        starts = np.array([0, len(corners)])
        levels = []
        while True:
            levels.append((
                np.minimum.reduceat(low, starts[:-1]), np.maximum.reduceat(high, starts[:-1])
            ))  # fmt: skip
            if np.diff(starts).max() <= 4:
                return cls(Triangles.of(corners), middles, tree, levels, starts)
            starts = _halved(_halved(starts))

    def nearest(self, points: Floats) -> tuple[Floats, Integers]:
        """Return the distances and the faces."""
        guess = self.tree.query(points)[1]
        bound = self.triangles.distance(points, guess) * SLACK
        row, box = np.arange(len(points)), np.zeros(len(points), dtype=np.int64)
        for depth, (low, high) in enumerate(self.levels):
            if depth:
                row, box = np.repeat(row, 4), (4 * box[:, None] + np.arange(4)).reshape(-1)
            queries = points[row]
            gap = np.maximum(low[box] - queries, queries - high[box])
            np.maximum(gap, 0.0, out=gap)
            near = np.einsum("ij,ij->i", gap, gap) <= (bound * bound)[row]
            row, box = row[near], box[near]
            if len(row) > MOST_PAIRS and len(points) > 1:
                halves = [self.nearest(part) for part in np.array_split(points, 2)]
                return np.concatenate([h[0] for h in halves]), np.concatenate(
                    [h[1] for h in halves]
                )
        place = self.starts[box][:, None] + np.arange(4)
        inside = place < self.starts[box + 1][:, None]
        row = np.repeat(row, inside.sum(1))
        face = self.tree.indices[place[inside]]
        near = self.triangles.at_least(points[row], face, self.middles) <= bound[row]
        return self._least(points, row[near], face[near], guess)

    def _least(
        self, points: Floats, row: Integers, face: Integers, guess: Integers
    ) -> tuple[Floats, Integers]:
        """Return the smallest distance from each point to its candidate faces."""
        distance = self.triangles.distance(points[row], face)
        best = self.triangles.distance(points, guess)
        np.minimum.at(best, row, distance)
        winner = guess.copy()
        won = distance == best[row]
        winner[row[won]] = face[won]
        return best, winner


def _halved(starts: Integers) -> Integers:
    """Cut every run in two, as a balanced kd-tree cuts its nodes."""
    both = np.empty(2 * len(starts) - 1, dtype=starts.dtype)
    both[::2] = starts
    both[1::2] = starts[:-1] + np.diff(starts) // 2
    return both


def _dot(a: Floats, b: Floats) -> Any:
    return np.einsum("ij,ij->i", a, b)
