"""Spheres, in any number of dimensions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, check_positive
from levelset._typing import Mask, PerPoint, Points

__all__ = ["Sphere"]


@checked
@dataclass(frozen=True)
class Sphere:
    r"""The sphere as its signed distance, $F(x) = |x - m| - r$, negative inside.

    All principal curvatures are 1/r. At the centre the gradient of F vanishes.

    Attributes:
        radius: The radius r.
        center: The centre m, `d` numbers; `None` for the origin.
    """

    radius: float = 1.0
    center: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check the radius."""
        check_positive("Sphere", "radius", self.radius)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the signed distances of `(n, d)`."""
        return self._from_center(points).norm(dim=1) - self.radius

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points of the sphere; of the centre, one of them."""
        arm = self._from_center(points)
        length = arm.norm(dim=1, keepdim=True)
        pole = torch.zeros_like(arm)
        pole[:, 0] = 1.0
        unit = torch.where(length > 0, arm / torch.where(length > 0, length, 1.0), pole)
        return points - arm + self.radius * unit

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the sphere."""
        return self(points).abs()

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie in the ball."""
        return self(points) <= 0

    def _from_center(self, points: Tensor) -> Tensor:
        columns = None if self.center is None else len(self.center)
        check_columns("Sphere", points, columns)
        if self.center is None:
            return points
        return points - torch.tensor(self.center, dtype=points.dtype, device=points.device)
