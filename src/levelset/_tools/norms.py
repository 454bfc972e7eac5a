"""Norms of batches of points, their duals, and how a norm is written in names and read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levelset._tools.checks import check_number, shown
from levelset.errors import ParameterError

__all__ = ["check_norm", "dual", "norm_name", "norm_of", "read_norm", "read_norms"]


def read_norm(function: str, norm: Any, name: str = "norm") -> float:
    """Return a norm's exponent from how it may be written: `2`, `"l2"`, `"Linf"`, `inf`."""
    text = norm.strip().lower() if isinstance(norm, str) else norm
    if isinstance(text, str):
        text = text.removeprefix("l").lstrip("_-")
        try:
            text = float(text.replace("infinity", "inf").replace("\u221e", "inf"))
        except ValueError:
            text = math.nan
    if not (isinstance(norm, str) and math.isnan(text)):
        return check_number(function, name, text)
    message = (
        f"{function}: `{name}` must be a norm, such as 2, inf, 'l2' or 'Linf', got {shown(norm)}."
    )
    raise ParameterError(message)


def read_norms(function: str, norms: Any, name: str = "norms") -> tuple[float, ...]:
    """Return the exponents of several norms, or of a single one, each once."""
    several = isinstance(norms, Sequence | Tensor | np.ndarray) and not isinstance(norms, str)
    axes = norms.ndim if isinstance(norms, Tensor | np.ndarray) else 1
    values = list(norms) if several and axes else [norms]
    return tuple(dict.fromkeys(read_norm(function, norm, name) for norm in values))


def check_norm(function: str, norm: Any, allowed: tuple[float, ...] = (2.0, math.inf)) -> float:
    """Return `norm` as a float if it is one of `allowed`, however it is written."""
    exponent = read_norm(function, norm)
    if exponent not in allowed:
        names = ", ".join(norm_name(p) for p in allowed)
        message = f"{function}: `norm` must be one of {names}, got {shown(norm)}."
        raise ParameterError(message)
    return exponent


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
