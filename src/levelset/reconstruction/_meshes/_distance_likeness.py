"""How like a distance function the levels of a field are."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.calling import like_parameters
from levelset._tools.checks import (
    check_at_least_one,
    check_batch_size,
    check_points,
    check_positive,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.point_tree import PointTree
from levelset._tools.results import Result
from levelset._typing import Field, Points
from levelset.errors import DataError
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._meshes._point_to_mesh import distance_to_mesh
from levelset.reconstruction._meshes._sampling import sample_surface

__all__ = ["DistanceLikeness", "distance_likeness"]


@dataclass(frozen=True, repr=False)
class DistanceLikeness(Result):
    r"""How far the levels of a field are from those of a distance, in a band about the surface.

    All numbers of a signed distance are 0, but where two parts of the surface are equally near.

    Attributes:
        slope: Mean of $\bigl| |\nabla F| - 1 \bigr|$.
        slope_spread: Its standard deviation.
        error: Mean of $|F| - d$, with d the distance from the surface; above 0 where the levels
            are too close together.
        error_spread: Its standard deviation.
        error_size: Mean of $\bigl| |F| - d \bigr|$.
        band: Width of the band to either side.
        points: Points of the band that were looked at.
    """

    slope: float
    slope_spread: float
    error: float
    error_spread: float
    error_size: float
    band: float
    points: int


@checked
def distance_likeness(
    field: Field,
    truth: Points | Mesh,
    *,
    band: float = 0.1,
    draws: int = 10_000,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> DistanceLikeness:
    r"""Measure how like a distance function the levels of a field are, near a surface.

    Points are drawn on the surface, or from its cloud, and moved in random directions by up to
    `band`; at each the distance d is the exact one to the mesh, or to the nearest point of the
    cloud. Of a cloud, d is too large near the surface, by up to half the points' spacing.

    Cost: one forward and one backward pass of the field a point, and its distance.

    Args:
        field: The field; maps `(n, e)` to `(n,)` or `(n, 1)`. A module in float32 is evaluated in
            float32, anything else in float64.
        truth: The surface as a mesh, or points of it, `(m, e)`.
        band: Width of the band to either side, in the units of `truth`.
        draws: Points to look at.
        batch_size: Most points per evaluation of the field; `None` for the fastest.
        generator: The source of randomness; `None` for a new one of seed 0.

    Raises:
        ParameterError: If `band` or `draws` is not positive.
        DataError: If the field is nowhere finite in the band.

    Example:
        >>> import torch
        >>> from levelset.reconstruction import distance_likeness
        >>> from levelset.shapes import Sphere
        >>> points = torch.nn.functional.normalize(torch.randn(20_000, 3), dim=1)
        >>> numbers = distance_likeness(Sphere(1.0), points, draws=1000)
        >>> numbers.slope < 1e-9, numbers.error_size < 0.01
        (True, True)

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, supplement 1.2 and
          figure A2, which shows equidistant levels; these are its numbers.
    """
    check_positive("distance_likeness", "band", band)
    check_batch_size("distance_likeness", batch_size)
    check_at_least_one("distance_likeness", "draws", draws)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    points, distance = _in_band(truth, band, draws, generator)
    queries = points.to(like_parameters(field).dtype)
    evaluator = Evaluator("distance_likeness", field, batch_size)
    with frozen(field):
        values, jacobian = evaluator.value_and_jacobian(queries)
    size = values[:, 0].double().abs()
    slope = (torch.linalg.vector_norm(jacobian[:, 0].double(), dim=1) - 1.0).abs()
    sound = size.isfinite() & slope.isfinite()
    if not bool(sound.any()):
        message = "distance_likeness: `field` must be finite near the surface; it is not anywhere."
        raise DataError(message)
    slope, error = slope[sound], (size - distance)[sound]
    return DistanceLikeness(
        float(slope.mean()), _spread(slope), float(error.mean()), _spread(error),
        float(error.abs().mean()), band, len(error),
    )  # fmt: skip


def _in_band(
    truth: Tensor | Mesh, band: float, draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return points of the band and their distances from the surface, in float64 on the CPU."""
    far: Callable[[Tensor], Tensor]
    if isinstance(truth, Mesh):
        mesh = truth
        on = sample_surface(mesh, draws, generator=generator)[0]
        far = lambda x: distance_to_mesh(x, mesh)[0]  # noqa: E731
    else:
        check_points("distance_likeness", truth, "truth")
        tree = PointTree(truth.double().cpu())
        rows = torch.randint(len(tree), (draws,), generator=generator, device=generator.device)
        on = tree.points[rows.cpu()]
        far = lambda x: tree.distances(x).distance  # noqa: E731
    shape, device = on.shape, generator.device
    way = torch.randn(shape, generator=generator, device=device, dtype=torch.float64).cpu()
    step = torch.rand(draws, 1, generator=generator, device=device, dtype=torch.float64).cpu()
    points = on + band * step * way / torch.linalg.vector_norm(way, dim=1, keepdim=True)
    return points, far(points)


def _spread(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else math.nan
