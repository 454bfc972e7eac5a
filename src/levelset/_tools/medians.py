"""The median that readers expect: between the two in the middle where their number is even."""

import numpy as np
from torch import Tensor

__all__ = ["median"]


def median(values: Tensor) -> float:
    """Return the median of finite values, `(n,)`, n at least 1; torch's is the lower one."""
    return float(np.median(values.detach().double().cpu().numpy()))
