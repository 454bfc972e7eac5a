"""Exact confidence intervals of proportions."""

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from levelset._typing import Floats, Integers

__all__ = ["clopper_pearson", "exact_interval"]


def clopper_pearson(hits: Tensor, total: int, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return the two-sided exact interval of a binomial proportion, as two float64 tensors.

    Args:
        hits: Number of successes, any shape.
        total: Number of trials, the same for all; 0 gives the interval from 0 to 1.
        confidence: Smallest probability that the interval covers the proportion.

    References:
        - C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), 404-413.
    """
    successes = hits.detach().cpu().to(torch.float64).numpy()
    low, high = exact_interval(successes, total, (1.0 - confidence) / 2.0)
    return torch.as_tensor(low), torch.as_tensor(high)


def exact_interval(
    hits: Floats, total: Floats | Integers | int, tail: float
) -> tuple[Floats, Floats]:
    """Return the exact interval with a probability of `tail` beyond either end."""
    missed = total - hits
    low = betaincinv(np.maximum(hits, 1.0), missed + 1.0, tail)
    high = betaincinv(hits + 1.0, np.maximum(missed, 1.0), 1.0 - tail)
    return np.where(hits > 0, low, 0.0), np.where(missed > 0, high, 1.0)
