"""A simulated scan: raw points on a tube around a knot, seen by a few cameras."""

import math

import torch
from torch import Tensor

__all__ = ["scan_of_a_knot"]

_NOISE = 0.004
_THICKNESS = 0.32
_CAMERAS = 6


def scan_of_a_knot(count: int, *, generator: torch.Generator) -> Tensor:
    """Return raw points near a trefoil tube, `(count, 3)`, float64: no normals, no order.

    The knot is 6 units wide, the tube 0.64 thick, the noise 0.004 a coordinate. A point is the
    likelier in the scan the more squarely one of six cameras around the knot sees it, so the
    points lie unevenly; what no camera faces has none.

    Args:
        count: Points.
        generator: Draws all of it.
    """
    kept: list[Tensor] = []
    while sum(map(len, kept)) < count:
        points, normals = _tube(4 * count, generator)
        turn = torch.arange(_CAMERAS) * (2 * math.pi / _CAMERAS)
        up = torch.tensor([0.9, -0.9]).repeat(_CAMERAS // 2)
        cameras = torch.stack([turn.cos(), turn.sin(), up], 1).double()
        cameras = cameras / cameras.norm(dim=1, keepdim=True)
        squarely = (normals @ cameras.T).clamp(min=0.0).amax(1)
        chosen = torch.rand(len(points), generator=generator, dtype=torch.float64) < squarely
        kept.append(points[chosen])
    points = torch.cat(kept)[:count]
    return points + _NOISE * torch.randn(points.shape, generator=generator, dtype=torch.float64)


def _tube(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points about even on the tube, and their outward normals, `(m, 3)` each."""
    t, around, accept = (
        torch.rand(count, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    t, around = 2 * math.pi * t, 2 * math.pi * around
    centre = torch.stack([t.sin() + 2 * (2 * t).sin(), t.cos() - 2 * (2 * t).cos(), -(3 * t).sin()])
    along = torch.stack(
        [t.cos() + 4 * (2 * t).cos(), -t.sin() + 4 * (2 * t).sin(), -3 * (3 * t).cos()]
    )
    speed = along.norm(dim=0)
    along = along / speed
    out = torch.linalg.cross(
        along, torch.tensor([[0.0], [0.0], [1.0]]).expand_as(along).double(), dim=0
    )
    out = out / out.norm(dim=0)
    over = torch.linalg.cross(along, out, dim=0)
    normal = around.cos() * out + around.sin() * over
    even = accept * speed.max() < speed
    return (centre + _THICKNESS * normal).T[even], normal.T[even]
