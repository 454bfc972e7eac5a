"""What every method of persistence is asked, and what it answers."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Policy"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """What is asked of a method.

    Attributes:
        gamma: The share that shall keep its class.
        tolerance: Relative standard error of sigma at which to stop.
        confidence: Of the interval and of the certified radius.
        max_sigma: Largest noise to try.
        most: Most evaluations a point.
    """

    gamma: float
    tolerance: float
    confidence: float
    max_sigma: float
    most: int


@dataclass
class Estimate:
    """What a method found, a row a point.

    Attributes:
        sigma: The estimate, `(n,)`.
        error: Its relative standard error; NaN where nothing is found.
        low: Lower end of the interval.
        high: Upper end.
        found: Whether the share falls below `gamma` somewhere.
        certified: Certified radius of the smoothed classifier.
        rival: The class that most noisy copies go over to; -1 where none did.
        reentry: Share of the checked rays that leave the class more than once; NaN if unchecked.
    """

    sigma: Array
    error: Array
    low: Array
    high: Array
    found: NDArray[np.bool_]
    certified: Array
    rival: NDArray[np.int64]
    reentry: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """Fill in what was not checked."""
        if len(self.reentry) != len(self.sigma):
            self.reentry = np.full(len(self.sigma), np.nan)
