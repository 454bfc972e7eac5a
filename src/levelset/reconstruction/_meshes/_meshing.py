"""From a field in the unit frame to a mesh in the units of the cloud; how near the points are."""

import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset.reconstruction._cloud import Cloud
from levelset.reconstruction._meshes._extract import extract_mesh
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._orientation._orientation import Oriented

__all__ = ["as_network", "meshed", "residuals_of", "slopes_at"]

# Around the points, in the unit frame, and how often it may double where the surface leaves it.
_MARGIN, _WIDER = 0.1, 4
# How many times the usual spacing of the points a face may be away from all of them.
_OPEN = 3.0


def meshed(network: nn.Module, cloud: Cloud, resolution: int, sides: Oriented | None) -> Mesh:
    """Return the zero set in the units of the cloud, cut open where `sides` are given."""
    low, high = _room(network, cloud.points)
    limit = None if sides is None else _OPEN * float(sides.spacing[~sides.outlier].quantile(0.9))
    mesh = extract_mesh(
        network,
        bounds=torch.stack([low, high]),
        resolution=resolution,
        points=cloud.points,
        max_distance=limit,
    )
    return Mesh(cloud.to_world(mesh.vertices), mesh.faces, mesh.normals)


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


def residuals_of(network: nn.Module, points: Tensor) -> Tensor:
    """Return F over the size of its gradient, `(n,)`: to first order the signed distance."""
    value, slope = _value_and_slope(network, points)
    return value / slope.clamp(min=1e-3)


def slopes_at(network: nn.Module, points: Tensor) -> Tensor:
    """Return the size of the gradient at points, `(n,)`."""
    return _value_and_slope(network, points)[1]


def _value_and_slope(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    with frozen(network):
        evaluator = Evaluator("surface", network, None)
        value, slope = evaluator.value_and_jacobian(as_network(network, points))
    return value[:, 0].double(), slope[:, 0].norm(dim=1).double()


def as_network(network: nn.Module, points: Tensor) -> Tensor:
    return points.to(next(network.parameters()))
