"""The planes that bound a convex solid, without those that do not touch it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

from levelset.errors import DataError, ShapeError
from levelset.shapes._polytopes._faces import TITLE, numbers

__all__ = ["read_half_spaces"]

Floats = NDArray[np.float64]
# Up to so many dimensions the convex hull of the polar points tells which planes touch the solid;
# beyond, where its size explodes, a linear program a plane does.
HULL = 5


def read_half_spaces(normals: Any, offsets: Any) -> tuple[Floats, Floats]:
    r"""Return unit normals and offsets of the planes that bound $\{x : N x \le h\}$.

    Raises:
        ShapeError: If the rows do not fit together.
        DataError: If a row is not finite or zero, or the solid is unbounded or has no inside.
    """
    normals, offsets = (numbers(part) for part in (normals, offsets))
    if normals.ndim != 2 or normals.shape[1] == 0 or offsets.shape != normals.shape[:1]:
        message = (
            f"{TITLE}: `solid` must be normals (k, d) and offsets (k,), got {normals.shape} and "
            f"{offsets.shape}."
        )
        raise ShapeError(message)
    lengths = np.linalg.norm(normals, axis=1)
    bad = ~(np.isfinite(lengths) & np.isfinite(offsets) & (lengths > 0))
    if bad.any():
        message = (
            f"{TITLE}: the normals and offsets of `solid` must be finite, and no normal zero, but "
            f"{int(bad.sum())} rows are not (first: {np.nonzero(bad)[0][0]})."
        )
        raise DataError(message)
    normals, offsets = normals / lengths[:, None], offsets / lengths
    _check_bounded(normals)
    center, radius = _widest_ball(normals, offsets)
    if not radius > 1e-12 * max(1.0, float(np.abs(offsets).max())):
        raise DataError(f"{TITLE}: the half-spaces of `solid` have no inside in common.")
    return _irredundant(normals, offsets, center)


def _check_bounded(normals: Floats) -> None:
    """Refuse normals that leave a direction in which one can go on for ever."""
    d = normals.shape[1]
    _, spread, axes = np.linalg.svd(normals, full_matrices=True)
    rank = int((spread > 1e-12 * spread[0]).sum())
    ray = axes[-1] if rank < d else None
    if ray is None:
        found = linprog(normals.sum(axis=0), A_ub=normals, b_ub=np.zeros(len(normals)),
                        bounds=[(-1.0, 1.0)] * d)  # fmt: skip
        ray = found.x if found.fun < -1e-9 else None
    if ray is not None:
        ray = ray / np.abs(ray).max() + 0.0
        listed = ", ".join(f"{entry:.3g}" for entry in ray[:4]) + (", ..." if d > 4 else "")
        message = (
            f"{TITLE}: `solid` must be bounded, but its half-spaces leave it open in the "
            f"direction ({listed}). Add planes that close it."
        )
        raise DataError(message)


def _widest_ball(normals: Floats, offsets: Floats) -> tuple[Floats, float]:
    """Return the centre and radius of the largest ball inside; the radius may be negative."""
    d = normals.shape[1]
    table = np.concatenate([normals, np.ones((len(normals), 1))], axis=1)
    found = linprog([*np.zeros(d), -1.0], A_ub=table, b_ub=offsets, bounds=[(None, None)] * (d + 1))
    return (found.x[:-1], float(found.x[-1])) if found.success else (np.zeros(d), -1.0)


def _irredundant(normals: Floats, offsets: Floats, center: Floats) -> tuple[Floats, Floats]:
    """Return the planes without which the solid would be another, each once."""
    heights = offsets - normals @ center
    _, once = np.unique(np.round(np.c_[normals, offsets], 12), axis=0, return_index=True)
    polar = normals[once] / heights[once, None]
    if normals.shape[1] == 1:
        rows = once[[polar[:, 0].argmin(), polar[:, 0].argmax()]]
    elif normals.shape[1] <= HULL:
        try:
            rows = once[ConvexHull(polar).vertices]
        except QhullError:
            rows = _needed(normals, offsets, once)
    else:
        rows = _needed(normals, offsets, once)
    rows = np.sort(rows)
    return normals[rows], offsets[rows]


def _needed(normals: Floats, offsets: Floats, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of `rows` that cut something off the solid that the others bound."""
    left = list(rows)
    for row in rows:
        others = [other for other in left if other != row]
        found = linprog(
            -normals[row],
            A_ub=np.concatenate([normals[others], normals[[row]]]),
            b_ub=np.append(offsets[others], offsets[row] + 1.0),
            bounds=[(None, None)] * normals.shape[1],
        )
        if found.success and -found.fun <= offsets[row] + 1e-9:
            left = others
    return np.array(left)
