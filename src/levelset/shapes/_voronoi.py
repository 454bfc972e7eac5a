"""Classifiers that give each point the label of the nearest of some points."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import Delaunay
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, check_finite
from levelset._typing import Points
from levelset.errors import ShapeError
from levelset.shapes._leads import ClassChanges, check_segments, leads

__all__ = ["VoronoiClassifier"]


class VoronoiClassifier:
    r"""The classifier whose regions are the Voronoi cells of points, joined by label.

    The logit of a class is minus the squared distance from its nearest point, less $|x|^2$, which
    all share: $\max_{i : y_i = c} (2 p_i \cdot x - |p_i|^2)$, a piecewise linear function.

    Attributes:
        points: The points p, `(m, d)`.
        labels: Their labels y, `(m,)`.

    Example:
        >>> import torch
        >>> from levelset.shapes import VoronoiClassifier
        >>> classifier = VoronoiClassifier(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), [0, 1])
        >>> changes = classifier.crossings(torch.tensor([[0.0, 0.5]]), torch.tensor([[4.0, 0.5]]))
        >>> changes.points, changes.after
        (tensor([[1.0000, 0.5000]]), tensor([1]))

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 30.1.
    """

    @checked
    def __init__(self, points: Points, labels: Int[Tensor, " m"]) -> None:
        """Take the points and their labels, one class at least."""
        check_columns("VoronoiClassifier", points)
        check_finite("VoronoiClassifier", points)
        if not len(points) or bool((labels < 0).any()):
            message = (
                "VoronoiClassifier: `points` must have a row, and `labels` count from 0, got "
                f"{len(points)} rows."
            )
            raise ShapeError(message)
        self.points, self.labels = points.detach(), labels

    @checked
    def __call__(self, points: Points) -> Float[Tensor, "n k"]:
        """Return the logits of `(n, d)`, one a class; minus infinity for a label without points."""
        scores = self._scores(points)
        labels = self.labels.expand(len(points), -1)
        empty = scores.new_full((len(points), int(self.labels.max()) + 1), -torch.inf)
        return empty.scatter_reduce(1, labels, scores, "amax")

    @checked
    def crossings(self, start: Points, end: Points) -> ClassChanges:
        """Return where segments change class, exactly, however many cells they pass.

        The scores of the points are linear along a segment: from cell to cell it goes on to the
        next of them that takes the lead.

        Args:
            start: Where the segments begin, `(n, d)`.
            end: Where they end, `(n, d)`.
        """
        check_segments("VoronoiClassifier.crossings", start, end, self.points.shape[1])
        along = leads(self._scores(start), self._scores(end))
        changed = self.labels[along.before] != self.labels[along.after]
        rows, shares, before, after = (part[changed] for part in along[2:])
        own = self.points.to(start)
        normals = torch.nn.functional.normalize(own[after] - own[before], dim=1)
        places = torch.lerp(start[rows], end[rows], shares.unsqueeze(1))
        return ClassChanges(rows, shares, places, self.labels[before], self.labels[after], normals)

    def neighbours(self) -> Tensor:
        """Return the pairs of points of different labels that share a Delaunay edge, `(p, 2)`.

        The boundary is orthogonal to the edge of each such pair and meets its middle plane. The
        edge itself crosses it there only if no third point is nearer to its middle: else it
        passes through other cells, at other angles, which section 30.1 overlooks.
        """
        simplices = Delaunay(self.points.cpu().double().numpy()).simplices
        d = simplices.shape[1]
        pairs = [simplices[:, [i, j]] for i in range(d) for j in range(i)]
        edges = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
        pairs_of = torch.from_numpy(edges.astype(np.int64)).to(self.labels.device)
        return pairs_of[self.labels[pairs_of[:, 0]] != self.labels[pairs_of[:, 1]]]

    def _scores(self, points: Tensor) -> Tensor:
        check_columns("VoronoiClassifier", points, self.points.shape[1])
        own = self.points.to(points)
        # about the points' middle, so that a set far from the origin loses no digits
        middle = own.mean(0)
        own = own - middle
        return 2 * (points - middle) @ own.T - own.square().sum(1)
