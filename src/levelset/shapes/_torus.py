"""The torus of revolution about the third axis."""

import math
from dataclasses import dataclass

import torch

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, check_positive
from levelset._typing import Mask, PerPoint, Points
from levelset.errors import ParameterError
from levelset.shapes._circle import Circle

__all__ = ["Torus"]


@checked
@dataclass(frozen=True)
class Torus:
    r"""The torus in R^3 as its signed distance, $F(x) = |(\rho - R, z)| - r$, negative inside.

    Here $\rho = |(x, y)|$. Its genus is 1.

    Attributes:
        major: The radius R of the circle that runs within the tube.
        minor: The radius r of the tube, below R.
    """

    major: float = 1.0
    minor: float = 0.25

    def __post_init__(self) -> None:
        """Check the radii."""
        check_positive("Torus", "minor", self.minor)
        if not self.minor < self.major:
            message = f"Torus: `major` must exceed `minor`, got {self.major} and {self.minor}."
            raise ParameterError(message)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the signed distances of `(n, 3)`."""
        check_columns("Torus", points, 3)
        ring = points[:, :2].norm(dim=1) - self.major
        return torch.stack([ring, points[:, 2]], dim=1).norm(dim=1) - self.minor

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points; on the axis or the inner circle, one of them."""
        check_columns("Torus", points, 3)
        inner = Circle(self.major).project(points)
        arm = points - inner
        length = arm.norm(dim=1, keepdim=True)
        outward = inner / self.major
        unit = torch.where(length > 0, arm / torch.where(length > 0, length, 1.0), outward)
        return inner + self.minor * unit

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the torus."""
        return self(points).abs()

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie in the tube."""
        return self(points) <= 0

    def area(self) -> float:
        """Return the area of the surface."""
        return 4.0 * math.pi**2 * self.major * self.minor
