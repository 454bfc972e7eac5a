"""The closed form of the distance from points to triangles, for many pairs at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from levelset._typing import Floats, Integers

__all__ = ["Triangles"]


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
        """Prepare triangles given by their corners, `(f, 3, 3)`."""
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
        """Return a lower bound of the distance, with little work: how far along one line.

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


def _dot(a: Floats, b: Floats) -> Any:
    return np.einsum("ij,ij->i", a, b)
