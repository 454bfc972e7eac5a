r"""The wedge of Bell 2023: an orthant tipped towards its first axis, by one angle a plane."""

import math
from dataclasses import dataclass

import torch
from scipy.optimize import nnls
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite
from levelset._typing import Mask, PerPoint, Points
from levelset.errors import ParameterError, ShapeError

__all__ = ["Wedge"]


@checked
@dataclass(frozen=True)
class Wedge:
    r"""The wedge $\{x : x_1 \ge 0, \ x_i \ge x_1 \tan \theta_{i-1} \text{ for } 1 < i \le k\}$.

    With all angles 0 it is the orthant of k = 1 + `len(angles)` planes; a positive angle makes it
    more acute there, a negative one more obtuse. As a field it is the largest of the signed
    distances from the k planes, negative inside: inside that is the distance from the boundary,
    outside at most that.

    Attributes:
        angles: The angles $\theta$ in radians, between -pi/2 and pi/2, k - 1 of them.
        d: Number of dimensions, at least k.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.8. The projection
          there (equations 107 to 120) is unfinished; here it is the least-squares problem that it
          stands for.
    """

    angles: tuple[float, ...]
    d: int

    def __post_init__(self) -> None:
        """Check angles and dimensions."""
        if not all(abs(angle) < math.pi / 2 for angle in self.angles):
            message = f"Wedge: `angles` must lie between -pi/2 and pi/2, got {self.angles}."
            raise ParameterError(message)
        if self.d < len(self.angles) + 1:
            message = (
                f"Wedge: `d` must be at least {len(self.angles) + 1}, one more than the angles, "
                f"got {self.d}."
            )
            raise ParameterError(message)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the largest signed distance from a plane, `(n,)`, negative inside."""
        return -self._heights(points).amin(1)

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie in the wedge or on its boundary."""
        return (self._heights(points) >= 0).all(1)

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points of the boundary; where several are, one of them.

        Cost: outside the wedge a small least-squares problem a point, solved one by one.
        """
        check_finite("Wedge", points)
        heights = self._heights(points)
        normals = self._normals(points)
        least, plane = heights.min(1)
        moved = points - least.unsqueeze(1) * normals[plane]
        for row in (~self.contains(points)).nonzero().flatten().tolist():
            # The projection on {x : N x >= 0} is x + N^T m, with m >= 0 of least |x + N^T m|.
            row_points = points[row].detach().cpu().double()
            weights, _ = nnls(normals.cpu().double().numpy().T, -row_points.numpy())
            moved[row] = points[row] + torch.from_numpy(weights).to(points) @ normals
        return moved

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the boundary."""
        return (points - self.project(points)).norm(dim=1)

    def _normals(self, points: Tensor) -> Tensor:
        """Return the unit normals that point inwards, `(k, d)`."""
        normals = torch.zeros(len(self.angles) + 1, self.d, dtype=points.dtype)
        normals[0, 0] = 1.0
        for i, angle in enumerate(self.angles, start=1):
            normals[i, 0], normals[i, i] = -math.sin(angle), math.cos(angle)
        return normals.to(points.device)

    def _heights(self, points: Tensor) -> Tensor:
        if points.dim() != 2 or points.shape[1] != self.d:
            message = (
                f"Wedge: `points` must have the shape (n, {self.d}), got {tuple(points.shape)}."
            )
            raise ShapeError(message)
        return points @ self._normals(points).T
