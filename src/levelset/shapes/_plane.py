"""Planes, in any number of dimensions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns
from levelset._typing import Mask, PerPoint, Points
from levelset.errors import ParameterError

__all__ = ["Plane"]


@checked
@dataclass(frozen=True)
class Plane:
    r"""The plane $\{x : n \cdot x = h\}$ as the field $F(x) = (n \cdot x - h)/|n|$.

    F is the signed distance, positive on the side that the normal points to.

    Attributes:
        normal: The normal n, of any length above 0, `d` numbers.
        offset: The number h.
    """

    normal: tuple[float, ...]
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Check that there is a direction."""
        if not any(self.normal):
            message = f"Plane: `normal` must not vanish, got {self.normal}."
            raise ParameterError(message)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the signed distances of `(n, d)`."""
        normal = self._normal(points)
        return (points @ normal - self.offset) / normal.norm()

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points of the plane."""
        normal = self._normal(points)
        return points - self(points).unsqueeze(1) * (normal / normal.norm())

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the plane."""
        return self(points).abs()

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie on the plane or behind it."""
        return self(points) <= 0

    def _normal(self, points: Tensor) -> Tensor:
        check_columns("Plane", points, len(self.normal))
        return torch.tensor(self.normal, dtype=points.dtype, device=points.device)
