"""Which inputs withstand every attack within a radius, for each radius asked for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from levelset._tools.proportions import clopper_pearson
from levelset._typing import Summary
from levelset.auditing._measure import Column, Measure, Measured, Part, Settings
from levelset.boundary import robust_accuracy

__all__ = ["ROBUST_ACCURACY"]

_BROKEN_BY = Column(
    "broken_by",
    "the attack that broke it; null where none did or none was needed",
    kind="word",
    words=("fgsm", "pgd", "direct_boundary", "square"),
)
_COLUMNS = (
    Column(
        "robust",
        "whether it is classified right and no attack within the radius moved it into another "
        "class; an input that withstood is not certified",
        kind="bool",
    ),
    _BROKEN_BY,
)

# Forward passes of an input that stands to the end, a gradient being three.
_EVALUATIONS = {"quick": 190.0, "standard": 400.0, "thorough": 900.0}


def _measure(part: Part) -> Measured:
    settings, measured = part.settings, Measured({})
    radii = settings.own["radii"]
    for place, radius in enumerate(radii):
        result = robust_accuracy(
            part.model,
            part.points,
            part.labels,
            radius=radius.size,
            norm=radius.norm,
            bounds=settings.bounds,
            effort=settings.effort,
            batch_size=settings.batch_size,
            # The seed as it is, so that the command `attack` with the same one answers the same.
            generator=torch.Generator().manual_seed(settings.seed),
            progress=part.progress(place, len(radii)),
        )
        names = [result.attacks[k] if k >= 0 else None for k in result.attack.tolist()]
        measured.columns[f"robust_{radius}"] = result.robust
        measured.columns[f"broken_by_{radius}"] = _BROKEN_BY.numbers(names).to(part.points.device)
    return measured


def _summary(columns: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Summary:
    """Return the share of all inputs that stand at each radius, and its exact 95 % interval."""
    numbers: Summary = {}
    for radius in settings["radii"]:
        robust = columns[f"robust_{radius}"].bool()
        low, high = clopper_pearson(robust.sum(), len(robust))
        name = f"robust_accuracy_{radius}"
        numbers[name] = float(robust.double().mean())
        numbers[f"{name}_low"], numbers[f"{name}_high"] = float(low), float(high)
    return numbers


def _evaluations(settings: Settings, size: int) -> float:
    del size
    return _EVALUATIONS[settings.effort] * len(settings.own["radii"])


ROBUST_ACCURACY = Measure(
    "robust_accuracy", _COLUMNS, _measure, _evaluations, _summary, each_radius=True
)
