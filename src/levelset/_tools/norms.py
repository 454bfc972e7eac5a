"""Norms of batches of points, their duals, and how a norm is written in names."""

import math

import torch
from torch import Tensor

from levelset.errors import ParameterError

__all__ = ["check_norm", "dual", "norm_name", "norm_of"]


def check_norm(function: str, norm: float, allowed: tuple[float, ...] = (2.0, math.inf)) -> float:
    """Return `norm` as a float if it is one of `allowed`."""
    if float(norm) not in allowed:
        names = ", ".join(norm_name(p) for p in allowed)
        message = f"{function}: `norm` must be one of {names}, got {norm}."
        raise ParameterError(message)
    return float(norm)


def norm_of(points: Tensor, norm: float) -> Tensor:
    """Return the norm of each row of `(n, *d)`, over all its axes, as `(n,)`; 0 counts."""
    flat = points.flatten(1)
    if flat.shape[1] == 0:
        return flat.new_zeros(len(flat))
    return torch.linalg.vector_norm(flat, ord=norm, dim=1)


def dual(norm: float) -> float:
    """Return the exponent q with 1/p + 1/q = 1."""
    if norm == 1.0:
        return math.inf
    return 1.0 if math.isinf(norm) else norm / (norm - 1.0)


def norm_name(norm: float) -> str:
    """Return the norm as it stands in column names and options: `inf`, `2`, `1`, `0`."""
    return "inf" if math.isinf(norm) else f"{norm:g}"
