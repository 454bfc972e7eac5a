"""Shared by figures of curvature: places, gaps, words."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from torch import Tensor

from levelset.boundary import Curvature
from levelset.errors import ParameterError

__all__ = ["UNIT", "Shown", "broken", "end_places", "mean_profile", "places"]

Shown: TypeAlias = Literal["all", "top", "bottom", "both"]

UNIT = "1 / unit of the inputs"


def places(function: str, result: Curvature, ends: Shown) -> list[int | None]:
    """Return the place of each principal curvature of a result, from 1; `None` where a gap is.

    Raises:
        ParameterError: If some are left out and `ends` does not say which.
    """
    q, most = result.principal.shape[1], math.prod(result.directions.shape[2:]) - 1
    if q == most:
        return list(range(1, most + 1))
    if ends not in ("top", "bottom", "both"):
        message = (
            f"{function}: `results` must hold all {most:,} principal curvatures, got {q:,}. "
            'Measure with `count=None`, or say which they are: `ends="top"`, "bottom" or "both".'
        )
        raise ParameterError(message)
    return end_places(q, most, ends)


def end_places(q: int, most: int, ends: Shown = "both") -> list[int | None]:
    """Return the places of `q` out of `most`, with a gap between the two ends."""
    top = {"top": q, "bottom": 0}.get(ends, q // 2)
    below: list[int | None] = list(range(most - q + top + 1, most + 1))
    above: list[int | None] = list(range(1, top + 1))
    gap: list[int | None] = [None] if above and below and q < most else []
    return [*above, *gap, *below]


def broken(profiles: Sequence[Sequence[int | None]]) -> tuple[list[int], list[str]] | None:
    """Return ticks of an axis that leaves out the gap, where all profiles have the same one."""
    first = profiles[0]
    if None not in first or any(other != first for other in profiles):
        return None
    return [i for i, p in enumerate(first) if p], [f"{p:,}" for p in first if p]


def mean_profile(principal: Tensor, at: Sequence[int | None]) -> list[float]:
    """Return the mean over the rows that are known at each place, NaN at a gap."""
    known = principal[principal.isfinite().all(1)].double().mean(0).tolist()
    values = iter(known)
    return [np.nan if place is None else next(values) for place in at]
