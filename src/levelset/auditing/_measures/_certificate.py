"""How far the nearest point of another class is at least: the lower bound beside the distance."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from levelset._tools.medians import median
from levelset._typing import Summary
from levelset.auditing._measure import Column, Measure, Measured, Part, Settings
from levelset.boundary import certified_radius

__all__ = ["CERTIFICATE"]

_COLUMNS = (
    Column(
        "certified_inf",
        "L-infinity radius within which the model has no other class, for certain; 0 where "
        "misclassified or nothing is certain, infinity where no input within the bounds has "
        "another",
        "unit of the inputs",
        norm=math.inf,
    ),
)


def _measure(part: Part) -> Measured:
    radius = certified_radius(
        part.model,
        part.points,
        part.labels,
        norm=math.inf,
        bounds=part.settings.bounds,
        batch_size=part.settings.batch_size,
        progress=part.progress(),
    )
    return Measured({"certified_inf": radius})


def _summary(columns: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Summary:
    """Return numbers over the inputs classified right, the median over the finite ones."""
    del settings
    right = columns["certified_inf"][columns["correct"].bool()].double()
    numbers: Summary = {"certified_found": int((right > 0).sum())}
    finite = right[right.isfinite()]
    if len(finite):
        numbers["certified_inf_median"] = median(finite)
    return numbers


def _evaluations(settings: Settings, size: int) -> float:
    del settings, size
    return 300.0


CERTIFICATE = Measure("certificate", _COLUMNS, _measure, _evaluations, _summary)
