"""Numbers precise enough for linear algebra, which has no routines for half precision."""

import torch
from torch import Tensor

__all__ = ["at_least_single"]


def at_least_single(values: Tensor) -> Tensor:
    """Return values in half precision in single precision, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
