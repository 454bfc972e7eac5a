"""Numbers behind figures: rows to draw, curves over one range, bins."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from levelset.auditing._result import Audit, RobustnessCurve
from levelset.errors import ShapeError

__all__ = [
    "bin_edges",
    "class_names",
    "closest",
    "distances",
    "drawn",
    "edges_from_zero",
    "robustness_curves",
]


def class_names(
    function: str, frequencies: Tensor, sigmas: Tensor, classes: Sequence[str] | None
) -> list[str]:
    """Return the names of the classes of `frequencies`, their numbers where there are none.

    Raises:
        ShapeError: If rows and noises, or columns and names, do not match.
    """
    s, k = frequencies.shape if frequencies.dim() == 2 else (-1, -1)
    if sigmas.shape != (s,) or (classes is not None and len(classes) != k):
        message = (
            f"{function}: `frequencies` must be (s, k) for `sigmas` (s,) and `classes` of length "
            f"k, got {tuple(frequencies.shape)}, {tuple(sigmas.shape)} and "
            f"{'none' if classes is None else len(classes)}."
        )
        raise ShapeError(message)
    return [str(i) for i in range(k)] if classes is None else list(classes)


def drawn(audit: Audit, norm: float) -> Tensor:
    """Return which inputs figures of distances show, `(n,)`: those right that have a witness."""
    return (audit.columns["correct"].bool() & audit.distance(norm).isfinite()).cpu()


def distances(audit: Audit, norm: float) -> Tensor:
    """Return the distances of the inputs to draw, in float64 on the CPU."""
    return audit.distance(norm).double().cpu()[drawn(audit, norm)]


def closest(audit: Audit, norm: float, count: int) -> list[int]:
    """Return at most `count` rows of the inputs to draw, closest first."""
    rows = drawn(audit, norm).nonzero().flatten()
    order = audit.distance(norm).double().cpu()[rows].argsort(stable=True)
    chosen: list[int] = rows[order][:count].tolist()
    return chosen


def robustness_curves(audits: Sequence[Audit], norm: float, count: int) -> list[RobustnessCurve]:
    """Return the curve of each audit at the same `count` radii, from 0 to the largest distance."""
    pooled = torch.cat([audit.distance(norm).double().cpu() for audit in audits])
    finite = pooled[pooled.isfinite()]
    top = float(finite.max()) if len(finite) else 0.0
    radius = torch.linspace(0.0, top or 1.0, count, dtype=torch.float64)
    return [audit.robustness(norm, radius) for audit in audits]


def edges_from_zero(values: Sequence[Tensor], bins: int) -> NDArray[np.float64]:
    """Return the edges of `bins` from 0 to the largest of all finite values, or to 1."""
    largest = [
        float(column[column.isfinite()].max()) for column in values if column.isfinite().any()
    ]
    return np.linspace(0.0, max(largest, default=1.0) or 1.0, bins + 1)


def bin_edges(values: Sequence[Tensor], bins: int) -> NDArray[np.float64]:
    """Return edges that all of the values share; around a single value about half its size."""
    pooled = torch.cat([column[column.isfinite()].double().cpu() for column in values])
    low, high = float(pooled.min()), float(pooled.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        middle, reach = (low + high) / 2, max(abs(low), abs(high)) / 2 or 0.5
        low, high = middle - reach, middle + reach
    return np.linspace(low, high, bins + 1)
