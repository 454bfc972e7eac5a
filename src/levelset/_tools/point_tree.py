"""Distances to a fixed cloud of points, by a tree that is built once."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, check_points
from levelset._tools.results import Result
from levelset._typing import PerPoint, Points, Summary
from levelset.errors import DataError, ShapeError

__all__ = ["Nearest", "PointTree"]


class Nearest(NamedTuple):
    """What a cloud has nearest to each of some points.

    Attributes:
        distance: d(x, X), `(n,)`, differentiable in the points.
        nearest: Row of the nearest point of the cloud, `(n,)`.
    """

    distance: PerPoint
    nearest: Int[Tensor, " n"]

    def __repr__(self) -> str:
        """Return the number of points on one line."""
        return f"Nearest(points={len(self.nearest)})"


class PointTree(Result):
    r"""A cloud X of points, and the distances $d(x, X) = \min_j |x - x_j|$ from it.

    A kd-tree is built once, so that a query costs a logarithm of the cloud's size and no memory
    for all pairs: on one core 2,048 queries to 30,000 points take about 4 ms, where all pairs
    take 185. The distances are exact, to the whole cloud, and not to the batch at hand.

    The tree lives in the main memory; queries from another device are moved there and back.

    Attributes:
        points: The cloud, `(n, e)`.
    """

    @checked
    def __init__(self, points: Points) -> None:
        """Build the tree.

        Args:
            points: The cloud, `(n, e)`, finite, at least one point.

        Raises:
            ShapeError: If `points` is not floating point `(n, e)`.
            DataError: If it is empty, or holds NaN or infinity.
        """
        check_points("PointTree", points)
        if points.dim() != 2 or points.shape[1] == 0:
            shape = f"(n, e), got {tuple(points.shape)}"
            message = f"PointTree: `points` must have the shape {shape}."
            raise ShapeError(message)
        if len(points) == 0:
            message = "PointTree: `points` must hold at least one point, got none."
            raise DataError(message)
        check_finite("PointTree", points)
        self.points = points.detach()
        self._tree = cKDTree(self.points.double().cpu().numpy())

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def summary(self) -> Summary:
        """Return the number of points."""
        return {"points": len(self)}

    @checked
    def distances(self, points: Points) -> Nearest:
        r"""Return the distance of each point from the cloud, and which point of it is nearest.

        The gradient in the points is the exact one, $(x - x_j)/d$ with $x_j$ the nearest point;
        on the cloud itself, and where two points of it are equally near, one of the subgradients.

        Args:
            points: Where, `(n, e)`, finite.

        Raises:
            ShapeError: If the points have another number of coordinates than the cloud.
            DataError: If a point is not finite.
        """
        check_points("distances", points)
        if points.shape[1:] != self.points.shape[1:]:
            message = (
                f"distances: `points` must have {self.points.shape[1]} coordinates as the cloud "
                f"has, got the shape {tuple(points.shape)}."
            )
            raise ShapeError(message)
        check_finite("distances", points)
        _, rows = self._tree.query(points.detach().double().cpu().numpy())
        index = torch.as_tensor(rows, dtype=torch.int64).reshape(len(points))
        there = self.points[index.to(self.points.device)].to(points)
        distance = torch.linalg.vector_norm(points - there, dim=1)
        return Nearest(distance, index.to(points.device))
