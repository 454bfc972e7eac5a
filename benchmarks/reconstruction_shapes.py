"""Solids made of formulas, with exact topology, for `benchmarks/reconstruction.py`.

Each is a signed distance, or a bound of it, made of balls, boxes, rods and rings, negative inside.
The true surface is its zero level, meshed at 320 cells along the longest side with every corner put
onto it, moved so that the farthest corner is at distance 1 from the middle of the box. Edges are
cut off by less than half a cell, 4e-3.

Constants of the method were chosen on `CHOOSING` only; numbers in the documentation are those of
`REPORTING`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from levelset.reconstruction import Mesh, extract_mesh

__all__ = ["CHOOSING", "REPORTING", "SOLIDS", "Solid", "true_mesh"]

Distance = Callable[[Tensor], Tensor]
RESOLUTION = 320


def ball(radius: float, middle: tuple[float, float, float] = (0, 0, 0)) -> Distance:
    """Return the distance from a ball."""
    return lambda p: (p - p.new_tensor(middle)).norm(dim=1) - radius


def ellipsoid(axes: tuple[float, float, float], middle: tuple[float, float, float]) -> Distance:
    """Return about the distance from an ellipsoid: right to first order at its surface."""

    def field(p: Tensor) -> Tensor:
        q, a = p - p.new_tensor(middle), p.new_tensor(axes)
        one, two = (q / a).norm(dim=1), (q / a**2).norm(dim=1)
        return one * (one - 1) / two.clamp(min=1e-9)

    return field


def box(
    half: tuple[float, float, float],
    middle: tuple[float, float, float] = (0, 0, 0),
    round_: float = 0,
) -> Distance:
    """Return the distance from a box of half sides, its edges rounded off."""

    def field(p: Tensor) -> Tensor:
        q = (p - p.new_tensor(middle)).abs() - p.new_tensor(half) + round_
        return q.clamp(min=0).norm(dim=1) + q.amax(1).clamp(max=0) - round_

    return field


def rod(start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Distance:
    """Return the distance from a rod with round ends."""

    def field(p: Tensor) -> Tensor:
        a, b = p.new_tensor(start), p.new_tensor(end)
        way = b - a
        share = ((p - a) @ way / (way @ way)).clamp(0, 1)
        return (p - a - share[:, None] * way).norm(dim=1) - radius

    return field


def disc(radius: float, half: float, middle: tuple[float, float, float] = (0, 0, 0)) -> Distance:
    """Return the distance from a cylinder about the z axis."""

    def field(p: Tensor) -> Tensor:
        q = p - p.new_tensor(middle)
        d = torch.stack([q[:, :2].norm(dim=1) - radius, q[:, 2].abs() - half], dim=1)
        return d.clamp(min=0).norm(dim=1) + d.amax(1).clamp(max=0)

    return field


def ring(
    radius: float,
    tube: float,
    middle: tuple[float, float, float] = (0, 0, 0),
    axis: int = 2,
) -> Distance:
    """Return the distance from a torus about one of the axes."""

    def field(p: Tensor) -> Tensor:
        q = p - p.new_tensor(middle)
        across = [k for k in range(3) if k != axis]
        round_ = q[:, across].norm(dim=1) - radius
        return torch.hypot(round_, q[:, axis]) - tube

    return field


def wire(curve: np.ndarray, radius: float) -> Distance:
    """Return the distance from a tube about a polygonal line `(n, 3)`."""

    def field(p: Tensor) -> Tensor:
        nodes = p.new_tensor(curve)
        best = torch.full((len(p),), torch.inf, dtype=p.dtype)
        for a, b in itertools.pairwise(nodes):
            way = b - a
            share = ((p - a) @ way / (way @ way)).clamp(0, 1)
            best = torch.minimum(best, (p - a - share[:, None] * way).norm(dim=1))
        return best - radius

    return field


def union(*parts: Distance) -> Distance:
    """Return the distance from all parts together."""
    return lambda p: torch.stack([part(p) for part in parts]).amin(0)


def cut(solid: Distance, *tools: Distance) -> Distance:
    """Return the distance from a solid without its parts inside others."""
    return lambda p: torch.maximum(solid(p), -union(*tools)(p))


def helix(turns: float, radius: float, height: float) -> np.ndarray:
    """Return 24 points a turn of a helix, `(n, 3)`."""
    t = np.linspace(0, turns, int(24 * turns) + 1)
    angle = 2 * np.pi * t
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height * (t / turns - 0.5)], 1)


def spiral(turns: float, inner: float, outer: float) -> Distance:
    """Return the distance from a strip rolled up about the z axis, 0.08 thick and 1 high."""
    t = np.linspace(0, turns, int(32 * turns) + 1)
    radius = inner + (outer - inner) * t / turns
    flat = np.stack([radius * np.cos(2 * np.pi * t), radius * np.sin(2 * np.pi * t), 0 * t], 1)
    roll = wire(flat, 0.04)
    return lambda p: torch.maximum(roll(p * p.new_tensor((1, 1, 0))), p[:, 2].abs() - 0.5)


def quadruped(leg: float, horn: float) -> Distance:
    """Return the distance from a body with four legs, a head and two horns."""
    legs = [
        rod((x, y, 0), (1.1 * x, 1.1 * y, -0.75), leg) for x in (-0.45, 0.5) for y in (-0.13, 0.13)
    ]
    horns = [rod((0.8, y, 0.5), (0.65, 3 * y, 0.95), horn) for y in (-0.06, 0.06)]
    head = ellipsoid((0.22, 0.11, 0.13), (0.85, 0, 0.42))
    neck = rod((0.5, 0, 0.1), (0.78, 0, 0.38), 0.1)
    return union(ellipsoid((0.65, 0.22, 0.24), (0, 0, 0)), head, neck, *legs, *horns)


def star(rods: int, radius: float) -> Distance:
    """Return the distance from rods out of a ball, evenly spread."""
    k = np.arange(rods) + 0.5
    z, angle = 1 - 2 * k / rods, np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - z * z)
    ends = np.stack([flat * np.cos(angle), flat * np.sin(angle), z], 1)
    return union(ball(0.25), *(rod((0, 0, 0), tuple(end), radius) for end in ends.tolist()))


@dataclass(frozen=True)
class Solid:
    """A solid, and what is true of its surface.

    Attributes:
        distance: The field.
        genus: Handles of all its pieces together.
        pieces: Closed surfaces.
    """

    distance: Distance
    genus: int = 0
    pieces: int = 1


def _fingers(width: float, gap: float, count: int) -> list[Distance]:
    step = 2 * width + gap
    middles = [(k - (count - 1) / 2) * step for k in range(count)]
    return [box((width, 0.12, 0.45), (x, 0, 0.6), round_=0.03) for x in middles]


_ARC = np.stack([
    0.7 * np.cos(np.linspace(0.32, 2 * np.pi - 0.32, 80)),
    0.7 * np.sin(np.linspace(0.32, 2 * np.pi - 0.32, 80)),
    np.zeros(80),
], 1)  # fmt: skip

CHOOSING: dict[str, Solid] = {
    "board": Solid(box((0.8, 0.5, 0.025))),
    "star": Solid(star(7, 0.05)),
    "fork": Solid(union(box((0.6, 0.12, 0.25)), *_fingers(0.09, 0.07, 4))),
    "goat": Solid(quadruped(0.05, 0.035)),
    "bowl": Solid(cut(ball(0.9), ball(0.82), box((1, 1, 0.5), (0, 0, 0.8)))),
    "ring": Solid(wire(_ARC, 0.14)),
    "bead": Solid(cut(ball(0.9), rod((0, 0, -2), (0, 0, 2), 0.2)), genus=1),
}
"""Solids on which constants were chosen."""

REPORTING: dict[str, Solid] = {
    "plate 0.04": Solid(box((0.7, 0.7, 0.02))),
    "coin": Solid(disc(0.9, 0.05)),
    "spokes": Solid(star(12, 0.06)),
    "spring": Solid(wire(helix(3, 0.6, 1.3), 0.1)),
    "roll": Solid(spiral(2, 0.25, 0.8)),
    "comb": Solid(union(box((0.9, 0.08, 0.15), (0, 0, -0.2)), *(
        box((0.06, 0.08, 0.35), (x, 0, 0.2)) for x in (-0.8, -0.48, -0.16, 0.16, 0.48, 0.8)))),
    "bitten cube": Solid(cut(box((0.6, 0.6, 0.6)), ball(0.5, (0.6, 0.6, 0.6)),
                             box((0.2, 1, 0.2), (-0.6, 0, -0.6)))),
    "cup": Solid(cut(disc(0.6, 0.7), disc(0.52, 0.7, (0, 0, 0.1)))),
    "deer": Solid(quadruped(0.06, 0.04)),
    "dumbbell": Solid(union(ball(0.42, (0, 0, -0.58)), ball(0.42, (0, 0, 0.58)),
                            rod((0, 0, -0.5), (0, 0, 0.5), 0.05))),
    "plate 0.02": Solid(box((0.7, 0.7, 0.01))),
    "tunnel": Solid(cut(box((0.6, 0.6, 0.4)), rod((-2, 0, 0), (2, 0, 0), 0.15)), genus=1),
    "wheel": Solid(union(ring(0.8, 0.1), ball(0.2), *(
        rod((0, 0, 0), (0.8 * np.cos(a), 0.8 * np.sin(a), 0), 0.06)
        for a in np.linspace(0, 2 * np.pi, 6)[:-1])), genus=5),
    "linked rings": Solid(union(ring(0.5, 0.12, (-0.25, 0, 0)), ring(0.5, 0.12, (0.25, 0, 0), 1)),
                          genus=2, pieces=2),
    "nested shells": Solid(union(cut(ball(0.95), ball(0.8)), ball(0.5)), pieces=3),
}  # fmt: skip
"""Solids that numbers are reported on; the first ten are those of the share of right genus."""

SOLIDS = CHOOSING | REPORTING


@cache
def true_mesh(name: str) -> Mesh:
    """Return the true surface of a solid, its farthest corner at radius 1."""
    corners = ((-1.5,) * 3, (1.5,) * 3)
    distance = SOLIDS[name].distance
    rough = extract_mesh(distance, bounds=corners, resolution=100).vertices
    room = torch.stack([rough.amin(0) - 0.02, rough.amax(0) + 0.02])
    mesh = extract_mesh(distance, bounds=room, resolution=RESOLUTION)
    middle = (mesh.vertices.amin(0) + mesh.vertices.amax(0)) / 2
    placed = mesh.vertices - middle
    return Mesh(placed / placed.norm(dim=1).max(), mesh.faces)
