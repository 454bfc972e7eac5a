"""From scattered points to smooth curves: order, assignment, fit."""

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Floats
from levelset.reconstruction._curves._ordering import order_points
from levelset.reconstruction._curves._paths import Path
from levelset.reconstruction._curves._smoothing import Smooth, smooth_curve

__all__ = ["fit_curves"]


def fit_curves(
    points: Floats, *, gap: float, closed: bool | None, random: np.random.Generator
) -> list[Smooth]:
    """Return smooth curves through a cloud, longest first.

    Args:
        points: The cloud, `(n, d)`.
        gap: The longest gap that is closed, as a share of the whole curve.
        closed: Whether curves run back into themselves; `None` to decide by the gaps.
        random: Draws the points that take part in finding the order, if there are very many.
    """
    paths = order_points(points, gap=gap, closed=closed, random=random)
    if not paths:
        return []
    far = np.stack([cKDTree(_densely(path)).query(points)[0] for path in paths])
    owner = far.argmin(0)
    found = [smooth_curve(points[owner == k], path) for k, path in enumerate(paths)]
    return [curve for curve in found if curve is not None]


def _densely(path: Path) -> Floats:
    """Return the nodes of a path with three more in each step."""
    ring = np.concatenate([path.nodes, path.nodes[:1]]) if path.closed else path.nodes
    shares = np.arange(4)[:, None, None] / 4.0
    rows = (1.0 - shares) * ring[:-1] + shares * ring[1:]
    return np.concatenate([rows.reshape(-1, ring.shape[1]), ring[-1:]])
