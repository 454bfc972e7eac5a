"""The circle in space: a curve, so two equations."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, check_positive
from levelset._typing import Mask, PerPoint, Points

__all__ = ["Circle"]


@checked
@dataclass(frozen=True)
class Circle:
    r"""The circle in the plane z = 0 of R^3 as two equations, $F(x) = (|(x, y)| - r,\; z)$.

    Attributes:
        radius: The radius r.
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        """Check the radius."""
        check_positive("Circle", "radius", self.radius)

    @checked
    def __call__(self, points: Points) -> Float[Tensor, "n 2"]:
        """Return the two values of each of `(n, 3)`, `(n, 2)`."""
        check_columns("Circle", points, 3)
        return torch.stack([points[:, :2].norm(dim=1) - self.radius, points[:, 2]], dim=1)

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points; on the axis, one of them."""
        check_columns("Circle", points, 3)
        flat = points[:, :2]
        length = flat.norm(dim=1, keepdim=True)
        pole = torch.zeros_like(flat)
        pole[:, 0] = 1.0
        unit = torch.where(length > 0, flat / torch.where(length > 0, length, 1.0), pole)
        return torch.cat([self.radius * unit, torch.zeros_like(points[:, 2:])], dim=1)

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the circle."""
        return self(points).norm(dim=1)

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie on the circle, to the last bit; it encloses nothing."""
        return self.distance(points) == 0
