"""Options and result that all methods of persistence share."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from levelset._typing import Booleans, Floats, Integers

__all__ = ["LAST_LOOK", "Estimate", "Policy"]


# How much of the error that the confidence allows goes to the last look; the rest is for having
# looked before, which decided when to stop.
LAST_LOOK = 0.7


@dataclass(frozen=True, eq=False)
class Policy:
    """What is asked of a method.

    Attributes:
        gamma: The share that keeps its class.
        tolerance: Relative standard error of sigma at which to stop.
        confidence: Of the interval and of the certified radius.
        most: Most evaluations a point; for `bracketing` the evaluations at each noise.
        start: Noise to begin with, `(n,)`.
        least: Smallest noise to try, `(n,)`.
        max_sigma: Largest noise to try, `(n,)`.
        tell: Called with the number of points that are done.
    """

    gamma: float
    tolerance: float
    confidence: float
    most: int
    start: Floats
    least: Floats
    max_sigma: Floats
    tell: Callable[[int], None]


@dataclass
class Estimate:
    """What a method found, a row a point.

    Attributes:
        sigma: The estimate, `(n,)`.
        error: Its relative standard error; NaN where nothing is found.
        low: Lower end of the interval.
        high: Upper end.
        found: Whether the share falls below `gamma` somewhere.
        rival: The class that most noisy copies go over to; -1 where none did.
        certified: Certified radius of the smoothed classifier; NaN where none was made.
        certified_sigma: The noise that this classifier is smoothed by.
        reentry: Share of the checked rays that leave the class more than once; NaN if unchecked.
    """

    sigma: Floats
    error: Floats
    low: Floats
    high: Floats
    found: Booleans
    rival: Integers
    certified: Floats = field(default_factory=lambda: np.zeros(0))
    certified_sigma: Floats = field(default_factory=lambda: np.zeros(0))
    reentry: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """Fill in what was not made."""
        for name in ("certified", "certified_sigma", "reentry"):
            if len(getattr(self, name)) != len(self.sigma):
                setattr(self, name, np.full(len(self.sigma), np.nan))
