"""Classifiers by barycentric coordinates in the Delaunay triangulation of labelled points."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial import ConvexHull, Delaunay, QhullError
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, check_finite, first_rows
from levelset._typing import Points
from levelset.errors import DataError, ParameterError
from levelset.shapes._leads import ClassChanges, check_segments, leads

__all__ = ["DelaunayClassifier"]

Floats = NDArray[np.float64]


class DelaunayClassifier:
    r"""The classifier by epsilon-Delaunay weights.

    The weight of a class at a point is the sum of the barycentric coordinates that belong to it, in
    the simplex of the Delaunay triangulation that holds the point: piecewise linear, continuous, 1
    in all. The class is the heaviest; the boundary lies where the two heaviest are equal. Outside
    the convex hull the weights are those of the hull's nearest point.

    Attributes:
        points: The points, `(m, d)`.
        labels: Their labels, `(m,)`.
        epsilon: The longest edge of the triangulation, in the units of the points.

    Example:
        >>> import torch
        >>> from levelset.shapes import DelaunayClassifier
        >>> corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> DelaunayClassifier(corners, [0, 1, 1])(torch.tensor([[0.25, 0.5]]))
        tensor([[0.2500, 0.7500]])

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 30.3, definition 30.5.
    """

    @checked
    def __init__(self, points: Points, labels: Int[Tensor, " m"]) -> None:
        """Triangulate the points; for more than about eight dimensions that takes too long."""
        check_columns("DelaunayClassifier", points)
        check_finite("DelaunayClassifier", points)
        if bool((labels < 0).any()):
            raise ParameterError("DelaunayClassifier: `labels` must count from 0.")
        self.points, self.labels = points.detach(), labels
        own = self.points.cpu().double().numpy()
        try:
            self._mesh = Delaunay(own)
            self._hull_planes = ConvexHull(own).equations
        except (QhullError, ValueError) as error:
            message = (
                "DelaunayClassifier: `points` must span their space, with more points than "
                f"dimensions and at least two of these, got {tuple(points.shape)}."
            )
            raise DataError(message) from error
        corners = own[self._mesh.simplices]
        sides = corners[:, :, None] - corners[:, None]
        self.epsilon = float(np.linalg.norm(sides, axis=3).max())
        d = own.shape[1]
        # rows of ones below the corners: their inverse takes a point to its coordinates
        square = np.concatenate([corners, np.ones((len(corners), d + 1, 1))], axis=2)
        self._inverse = np.linalg.inv(square.transpose(0, 2, 1))

    @checked
    def __call__(self, points: Points) -> Float[Tensor, "n k"]:
        """Return the weights of `(n, d)`, one a class, which add up to 1.

        Cost: points outside the hull are projected one by one.
        """
        check_columns("DelaunayClassifier", points, self.points.shape[1])
        check_finite("DelaunayClassifier", points)
        places = points.detach().cpu().double().numpy()
        simplex = self._mesh.find_simplex(places)
        outside = simplex < 0
        if outside.any():
            places = places.copy()
            places[outside] = [self._project(place) for place in places[outside]]
            simplex[outside] = self._mesh.find_simplex(places[outside], tol=1e-9)
        shares = self._shares(places, simplex)
        labels = self.labels.cpu()[torch.from_numpy(self._mesh.simplices[simplex].astype(np.int64))]
        weights = torch.zeros(len(places), int(self.labels.max()) + 1, dtype=torch.float64)
        return weights.scatter_add(1, labels, torch.from_numpy(shares)).to(points)

    @checked
    def crossings(self, start: Points, end: Points) -> ClassChanges:
        """Return where segments inside the convex hull change class, exactly.

        From simplex to simplex: in each the weights are linear along the segment.

        Args:
            start: Where the segments begin, `(n, d)`.
            end: Where they end, `(n, d)`.

        Raises:
            DataError: If a segment leaves the hull.
        """
        check_segments("DelaunayClassifier.crossings", start, end, self.points.shape[1])
        sides = [part.detach().cpu().double().numpy() for part in (start, end)]
        simplex, last = (self._mesh.find_simplex(part) for part in sides)
        outside = torch.from_numpy((simplex < 0) | (last < 0))
        if outside.any():
            message = (
                "DelaunayClassifier.crossings: segments must begin and end inside the convex hull "
                f"of the points, {int(outside.sum())} do not (first: {first_rows(outside)})."
            )
            raise DataError(message)
        rows, simplices, cuts = self._pieces(sides[0], sides[1] - sides[0], simplex)
        labels = self.labels.cpu().numpy()[self._mesh.simplices[simplices]]
        belongs = labels[:, :, None] == np.arange(labels.max(initial=0) + 1)
        slopes = np.einsum("pvd,pvk->pkd", self._inverse[simplices], belongs)
        places = sides[0][rows, None] + cuts[..., None] * (sides[1] - sides[0])[rows, None]
        weights = np.einsum("pkd,pcd->pck", slopes, np.insert(places, places.shape[2], 1.0, axis=2))
        along = leads(*torch.from_numpy(weights).unbind(1))
        # where one piece ends and the next begins the lead may change too
        joint = torch.from_numpy(rows[1:] == rows[:-1]) & (along.last[:-1] != along.first[1:])
        joint = joint.nonzero().flatten()
        pieces = torch.cat([along.rows, joint])
        share = torch.cat([along.shares, torch.ones(len(joint), dtype=torch.float64)])
        before = torch.cat([along.before, along.last[joint]])
        after = torch.cat([along.after, along.first[joint + 1]])
        order = torch.argsort(pieces + share, stable=True)
        pieces, share, before, after = (part[order] for part in (pieces, share, before, after))
        low, high = torch.from_numpy(cuts)[pieces].unbind(1)
        share = (low + share * (high - low)).to(start)
        gradients = torch.from_numpy(slopes)[pieces, :, :-1]
        each = torch.arange(len(pieces))
        normals = torch.nn.functional.normalize(gradients[each, after] - gradients[each, before])
        segment = torch.from_numpy(rows)[pieces]
        where = torch.lerp(start[segment], end[segment], share.unsqueeze(1))
        return ClassChanges(segment, share, where, before, after, normals.to(start))

    def _pieces(
        self, start: Floats, way: Floats, simplex: NDArray[np.integer]
    ) -> tuple[NDArray[np.integer], NDArray[np.integer], Floats]:
        """Return the pieces of segments in simplices: segment, simplex, and both ends as shares."""
        rows, share, simplex = np.arange(len(start)), np.zeros(len(start)), simplex.astype(np.int64)
        parts = [(rows[:0], simplex[:0], np.zeros((0, 2)))]
        for _ in range(2 * len(self._inverse)):
            if not len(rows):
                break
            inverse = self._inverse[simplex]
            at = np.einsum("pvd,pd->pv", inverse[:, :, :-1], start[rows]) + inverse[:, :, -1]
            by = np.einsum("pvd,pd->pv", inverse[:, :, :-1], way[rows])
            out = np.where(by < 0, -at / np.where(by < 0, by, 1.0), np.inf)
            leaves = np.clip(out.min(axis=1), share, 1.0)
            parts.append((rows, simplex, np.stack([share, leaves], axis=1)))
            beyond = np.take_along_axis(self._mesh.neighbors[simplex], out.argmin(1)[:, None], 1)
            going = (leaves < 1) & (beyond[:, 0] >= 0)
            rows, share, simplex = rows[going], leaves[going], beyond[going, 0].astype(np.int64)
        rows, simplex, cuts = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(rows, kind="stable")
        return rows[order], simplex[order], cuts[order]

    def _shares(self, places: Floats, simplex: NDArray[np.integer]) -> Floats:
        """Return barycentric coordinates in simplices, `(n, d + 1)`, none negative, 1 in all."""
        inverse = self._inverse[simplex]
        shares = np.einsum("pvd,pd->pv", inverse[:, :, :-1], places) + inverse[:, :, -1]
        shares = np.clip(shares, 0.0, None)
        return shares / shares.sum(axis=1, keepdims=True)

    def _project(self, place: Floats) -> Floats:
        """Return the nearest point of the convex hull, by non-negative least squares.

        The least |y - x| with N y <= h is x - N^T m, with m >= 0 in proportion to the weights that
        bring the columns (N, h - N x) nearest to (0, 1).
        """
        planes = self._hull_planes
        table = np.concatenate([-planes[:, :-1].T, [planes @ np.append(place, 1.0)]])
        target = np.append(np.zeros(len(place)), 1.0)
        weights, _ = nnls(table, target)
        residual = table @ weights - target
        return place - residual[:-1] / residual[-1]
