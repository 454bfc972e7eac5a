"""From a fitted field to its mesh in the unit frame: closed, or cut where the points end."""

import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset.networks import SplineGrid
from levelset.reconstruction._meshes._extract import extract_mesh
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._open import Footprint, cut_along
from levelset.reconstruction._orientation import OrientedPoints
from levelset.reconstruction._topology import Handle, Witnesses, borne_out, settle_topology

__all__ = [
    "SKETCH", "as_network", "closed_mesh", "covered", "opened", "settled", "value_and_slope",
]  # fmt: skip

SKETCH = 96
"""Cells along the longest side of the coarse mesh that pages show."""
# Margin around the points, in the unit frame, and how many times it may double.
_MARGIN, _WIDER = 0.1, 4
# Cells between the walls of that box and those of the mesh's lattice.
_OUTER = 1.5


def closed_mesh(network: nn.Module, points: Tensor, resolution: int) -> Mesh:
    """Return the zero set in the unit frame, closed at the walls of a box if it reaches them."""
    low, high = _room(network, points)
    room = _OUTER * float((high - low).max()) / resolution
    bounds = torch.stack([low - room, high + room])
    return extract_mesh(_Walled(network, low, high), bounds=bounds, resolution=resolution)


def settled(
    network: nn.Module, points: Tensor, resolution: int, witnesses: Witnesses
) -> tuple[Mesh, tuple[Handle, ...], int]:
    """Return the closed mesh in the unit frame, unclear handles, and how many were removed."""

    def remesh() -> Mesh:
        return closed_mesh(network, points, resolution)

    def sketch() -> Mesh:
        return closed_mesh(network, points, min(SKETCH, resolution))

    if isinstance(network, SplineGrid):
        return settle_topology(network, witnesses, remesh, sketch)
    return borne_out(remesh(), witnesses), (), 0


def covered(network: nn.Module, oriented: OrientedPoints) -> Footprint:
    """Return the part of the surface that the points cover."""
    points = oriented.without_outliers()
    slope = _value_and_gradient(network, torch.from_numpy(points.points))[1]
    directions = torch.nn.functional.normalize(slope, dim=1).numpy()
    return Footprint(points.points, directions, points.spacing, points.spread)


def opened(mesh: Mesh, footprint: Footprint) -> Mesh:
    """Return the part of a mesh that the points cover, cut where they end."""
    return cut_along(mesh, footprint.of(mesh))


def value_and_slope(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field and the size of its gradient at points of the unit frame, `(n,)` each."""
    value, gradient = _value_and_gradient(network, points)
    return value, gradient.norm(dim=1)


def as_network(network: nn.Module, points: Tensor) -> Tensor:
    """Return points in the dtype and on the device of the network."""
    return points.to(next(network.parameters()))


class _Walled(nn.Module):
    """A field that is positive outside a box, so that its zero set is closed whatever it is."""

    centre: Tensor
    reach: Tensor

    def __init__(self, field: nn.Module, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.field = field
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)

    def forward(self, points: Tensor) -> Tensor:
        """Return the larger of the field and the signed distance from the box, `(n,)`."""
        beyond = ((points - self.centre.to(points)).abs() - self.reach.to(points)).amax(1)
        return torch.maximum(self.field(points).view(-1), beyond)


def _room(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of a box that the surface does not leave, if there is one."""
    margin = _MARGIN
    for _ in range(_WIDER):
        low, high = points.amin(0) - margin, points.amax(0) + margin
        walls = low + _walls() * (high - low)
        with frozen(network):
            values = Evaluator("surface", network, None).values(as_network(network, walls))
        if bool((values > 0).all()):
            break
        margin *= 2.0
    return low, high


def _walls() -> Tensor:
    """Return points on the walls of the unit cube, `(m, 3)`."""
    line = torch.linspace(0.0, 1.0, 33, dtype=torch.float64)
    cube = torch.cartesian_prod(line, line, line)
    return cube[((cube == 0.0) | (cube == 1.0)).any(1)]


def _value_and_gradient(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field `(n,)` and its gradient `(n, 3)` at points of the unit frame."""
    with frozen(network):
        evaluator = Evaluator("surface", network, None)
        value, gradient = evaluator.value_and_jacobian(as_network(network, points))
    return value[:, 0].double(), gradient[:, 0].double()
