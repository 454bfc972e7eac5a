"""How much noise each input's own prediction survives, right or wrong; of adversarial ones too."""

from collections.abc import Mapping
from typing import Any

import torch
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
from levelset.boundary import persistence

__all__ = ["ADVERSARIAL", "BEYOND", "FIRST", "PERSISTENCE"]

FIRST, BEYOND = 100, 1.5
"""For how many of the first inputs an adversarial one is measured too, and how far that lies, in
lengths of the least perturbation: on the boundary itself the 0.7-persistence is 0."""

_UNIT = "unit of the inputs"
_COLUMNS = (
    Column(
        "sigma_star",
        "the noise at which 0.7 of the noisy copies keep the class; infinity where more always "
        "do, 0 where fewer always do",
        _UNIT,
    ),
    Column("sigma_low", "lower end of its 95 % interval", _UNIT, minor=True),
    Column("sigma_high", "upper end of its 95 % interval", _UNIT, minor=True),
    Column(
        "certified_radius",
        "lower bound, with 95 % confidence, of the L2 radius within which the smoothed "
        "classifier keeps the class; NaN where none was made",
        _UNIT,
    ),
    Column(
        "certified_sigma",
        "standard deviation of the Gaussian noise of that smoothed classifier: about "
        "sigma_star, the largest noise tried where that is infinite; NaN where none was made",
        _UNIT,
        minor=True,
    ),
    Column(
        "noise_rival",
        "the class that most noisy copies go over to; -1 if none did",
        kind="class",
        minor=True,
    ),
)
_ADVERSARIAL_COLUMN = Column(
    "sigma_star_adversarial",
    "where distance is measured too: the same as sigma_star at the point 1.5 times as far as "
    "the witness (L2 if measured, else the first norm), within the bounds. For the first 100 "
    "inputs; NaN for others, where misclassified or without a witness, and where that point is "
    "classified as the input",
    _UNIT,
)


def _measure(part: Part) -> Measured:
    """The noise around an input follows from the seed and the input, whatever the part."""
    result = persistence(
        part.model,
        part.points,
        batch_size=part.settings.batch_size,
        generator=part.generator("persistence"),
        progress=part.progress(),
    )
    return Measured(
        {
            "sigma_star": result.sigma,
            "sigma_low": result.low,
            "sigma_high": result.high,
            "certified_radius": result.certified_radius,
            "certified_sigma": result.certified_sigma,
            "noise_rival": result.rival,
        }
    )


def _measure_adversarial(part: Part) -> Measured:
    """Measure the point on the line from each input classified right through its witness.

    It is 1.5 times as far as the witness, clamped to the bounds. NaN where there is no witness, or
    where the point is classified as its input is.
    """
    columns, witnesses = part.before.columns, part.before.witnesses
    norm = 2.0 if 2.0 in witnesses else next(iter(witnesses))
    wanted = columns["correct"] & (columns["index"] < part.settings.own["adversarial"])
    rows = (wanted & columns[of_norm("distance", norm)].isfinite()).nonzero().flatten()
    sigma = part.points.new_full((len(part.points),), torch.nan)
    if len(rows):
        low, high = (torch.as_tensor(end).to(part.points) for end in part.settings.bounds)
        far = part.points[rows].lerp(witnesses[norm][rows], BEYOND).clamp(low, high)
        result = persistence(
            part.model,
            far,
            batch_size=part.settings.batch_size,
            generator=part.generator("adversarial"),
            progress=part.progress(),
        )
        own = result.classes == columns["prediction"][rows]
        sigma[rows] = result.sigma.masked_fill(own, torch.nan)
    return Measured({_ADVERSARIAL_COLUMN.name: sigma})


def _summary(columns: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Summary:
    """Return medians over the inputs where persistence is finite, and over those certified."""
    del settings
    sigma, certified = columns["sigma_star"].double(), columns["certified_radius"]
    finite, made = sigma[sigma.isfinite()], certified[certified.isfinite()]
    numbers: Summary = {"sigma_star_found": int((finite > 0).sum())}
    if len(finite):
        numbers["sigma_star_median"] = median(finite)
    if len(made):
        numbers["certified_radius_median"] = median(made)
    return numbers


def _evaluations(settings: Settings, size: int) -> float:
    del settings, size
    return 2_500.0


ADVERSARIAL = Measure(
    "adversarial",
    (_ADVERSARIAL_COLUMN,),
    _measure_adversarial,
    _evaluations,
    needs=("distance", "persistence"),
    limit=FIRST,
)
PERSISTENCE = Measure(
    "persistence", _COLUMNS, _measure, _evaluations, _summary, further=(ADVERSARIAL,)
)
