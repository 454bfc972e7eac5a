"""The distance of each input to the nearest point of another class, in each norm."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from levelset._tools.medians import median
from levelset._typing import Summary
from levelset.auditing._measure import (
    Column,
    Measure,
    Measured,
    Part,
    Settings,
    of_norm,
)
from levelset.boundary import ATTACKS, distance

__all__ = ["DISTANCE"]

_ATTACK = Column(
    "attack", "the attack that found the witness; null where none did", kind="word", words=ATTACKS
)
_COLUMNS = (
    Column(
        "distance",
        "norm of witness minus input; 0 where misclassified, infinity where none was found",
        "unit of the inputs",
    ),
    Column("nearest_class", "class of the witness; -1 where none was found", kind="class"),
    Column("gradients", "how many the search took", "gradients", "integer", minor=True),
    Column(
        "converged",
        "whether the witness lies on the boundary: its margin is within 1e-4 of the size of its "
        "logits, or about as small as their rounding allows",
        kind="bool",
        minor=True,
    ),
    _ATTACK,
)

_GRADIENTS = {"quick": 36, "standard": 95, "thorough": 700}


def _measure(part: Part) -> Measured:
    settings, measured = part.settings, Measured({})
    for place, norm in enumerate(settings.norms):
        result = distance(
            part.model,
            part.points,
            part.labels,
            norm=norm,
            bounds=settings.bounds,
            effort=settings.effort,
            batch_size=settings.batch_size,
            generator=part.generator("distance", of_part=True),
            progress=part.progress(place, len(settings.norms)),
        )
        names = [result.attacks[k] if k >= 0 else None for k in result.attack.tolist()]
        columns = {
            "distance": result.distance,
            "nearest_class": result.classes,
            "gradients": result.gradients,
            "converged": result.converged,
            "attack": _ATTACK.numbers(names).to(part.points.device),
        }
        measured.columns.update({of_norm(name, norm): c for name, c in columns.items()})
        measured.witnesses[norm] = result.points
    return measured


def _summary(columns: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Summary:
    """Return numbers over the inputs classified right; those without a witness are `missed`."""
    numbers: Summary = {}
    for norm in settings["norms"]:
        right = columns[of_norm("distance", norm)][columns["correct"].bool()].double()
        finite = right[right.isfinite()]
        numbers[of_norm("missed", norm)] = len(right) - len(finite)
        if len(finite):
            name = of_norm("distance", norm)
            numbers[f"{name}_median"] = median(finite)
            numbers[f"{name}_mean"] = float(finite.mean())
            numbers[f"{name}_min"] = float(finite.min())
    return numbers


def _evaluations(settings: Settings, size: int) -> float:
    del size
    return 3.0 * _GRADIENTS[settings.effort] * len(settings.norms)


DISTANCE = Measure("distance", _COLUMNS, _measure, _evaluations, _summary, each_norm=True)
