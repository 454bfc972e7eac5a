"""Exact confidence intervals of proportions."""

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

__all__ = ["clopper_pearson"]


def clopper_pearson(hits: Tensor, total: int, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return the two-sided exact interval of a binomial proportion, as two float64 tensors.

    Args:
        hits: Number of successes, any shape.
        total: Number of trials, the same for all; 0 gives the interval from 0 to 1.
        confidence: Smallest probability that the interval covers the proportion.

    References:
        - C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), 404-413.
    """
    k = hits.detach().cpu().to(torch.float64)
    tail = (1.0 - confidence) / 2.0
    successes, failures = k.numpy(), (total - k).numpy()
    low = torch.as_tensor(betaincinv(np.maximum(successes, 1.0), failures + 1.0, tail))
    high = torch.as_tensor(betaincinv(successes + 1.0, np.maximum(failures, 1.0), 1.0 - tail))
    return torch.where(k == 0, 0.0, low), torch.where(k == total, 1.0, high)
