"""Progress records of a fit."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

__all__ = ["Step", "Watch"]


class Step(NamedTuple):
    """The state of a fit at one moment.

    Attributes:
        stage: What is being done, in words.
        done: Units of work done so far.
        total: Units in all; 0 where it is not known.
        seconds: Since the start.
        loss: What is minimised.
        residual: Median distance of a scan point to the surface so far, in units of the scan.
        quality: Share of the scan points within twice the noise of the surface, 0 to 1; it rises
            as the fit goes on.
    """

    stage: str
    done: int
    total: int
    seconds: float
    loss: float
    residual: float
    quality: float


Watch: TypeAlias = Callable[[Step], None]
"""A hook that is called with each step; what it raises ends the fit."""
