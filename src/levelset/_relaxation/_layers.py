"""The layers of torch whose bounds are known, each with how its step is built."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset._relaxation._affine import Convolution, Dense, Diagonal, Mean, Move
from levelset._relaxation._curves import Clamp, Convex, Largest, Rectifier, Saturating
from levelset._relaxation._operation import Operation

__all__ = ["LAYERS", "SUPPORTED", "Build", "Read", "constant", "reshaped", "scaled"]

Build: TypeAlias = Callable[[], Operation]
Read: TypeAlias = Callable[[Any, Tensor, torch.dtype], Build | None]
"""Takes a layer, its input for some rows, and the dtype; returns `None` for what is not known."""

SUPPORTED = (
    "Linear, Conv2d, BatchNorm, ReLU, LeakyReLU, Hardtanh, ReLU6, ELU, Softplus, Tanh, Sigmoid, "
    "MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, Dropout, Identity, ZeroPad2d and the other "
    "paddings of images; branches that are added or joined; a softmax or sigmoid at the end"
)


def scaled(factor: Tensor, offset: Tensor) -> Build:
    """Return the step of entries times a factor plus an offset."""
    return lambda: Diagonal(factor, offset)


def reshaped(shape: tuple[int, ...]) -> Build:
    """Return the step of rows in another shape."""
    return lambda: Move(
        lambda z: z.reshape(len(z), *shape), lambda a, before: a.reshape(len(a), *before)
    )


def constant(number: Any, rows: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return a number, or a tensor that broadcasts against every row, in a dtype."""
    if isinstance(number, bool) or not isinstance(number, int | float | Tensor):
        return None
    tensor = torch.as_tensor(number, dtype=dtype, device=rows.device)
    if tensor.dim() > rows.dim() or (tensor.dim() == rows.dim() and len(tensor) != 1):
        return None
    return tensor if (tensor * rows).shape == rows.shape else None


def _dense(layer: nn.Linear, rows: Tensor, dtype: torch.dtype) -> Build:
    return lambda: Dense(
        layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
    )


def _convolution(layer: nn.Conv2d, rows: Tensor, dtype: torch.dtype) -> Build | None:
    padding: list[int] = []
    for axis in range(2):
        if not isinstance(layer.padding, str):
            padding.append(layer.padding[axis])
            continue
        total = 0
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        padding.append(total // 2)
        if total % 2:
            return None
    if layer.padding_mode != "zeros" and any(padding):
        return None
    pair = (padding[0], padding[1])
    return lambda: Convolution(layer, pair, dtype)


def _batch_norm(layer: Any, rows: Tensor, dtype: torch.dtype) -> Build | None:
    if layer.running_mean is None or layer.running_var is None:
        return None
    shape = (-1, *[1] * (rows.dim() - 2))

    def build() -> Operation:
        spread = (layer.running_var.double() + layer.eps).rsqrt()
        weight = 1.0 if layer.weight is None else layer.weight.double()
        bias = 0.0 if layer.bias is None else layer.bias.double()
        factor, mean = weight * spread, layer.running_mean.double()
        sizes = (mean * factor).abs() + abs(bias)
        parts = (factor, bias - mean * factor, sizes)
        return Diagonal(*(part.to(dtype).view(shape) for part in parts))

    return build


def _pad(layer: nn.ZeroPad2d, rows: Tensor, dtype: torch.dtype) -> Build:
    sides = tuple(layer.padding)
    back = [-side for side in sides]
    return lambda: Move(
        lambda z: functional.pad(z, sides), lambda a, before: functional.pad(a, back)
    )


def _pad_by_copies(layer: Any, rows: Tensor, dtype: torch.dtype) -> Build:
    """Return the step of a padding by entries of the image, each copied (p + 1)^2 times at most."""
    return lambda: Mean(layer.forward, (1 + max(layer.padding)) ** 2)


def _average(layer: nn.AvgPool2d, rows: Tensor, dtype: torch.dtype) -> Build | None:
    size = layer.kernel_size
    terms = size * size if isinstance(size, int) else math.prod(size)
    divisor = layer.divisor_override
    return (lambda: Mean(layer.forward, terms)) if divisor is None or divisor > 0 else None


def _leaky(layer: nn.LeakyReLU, rows: Tensor, dtype: torch.dtype) -> Build | None:
    leak = float(layer.negative_slope)
    return (lambda: Rectifier(leak)) if 0.0 <= leak <= 1.0 else None


def _elu(layer: nn.ELU, rows: Tensor, dtype: torch.dtype) -> Build | None:
    return (lambda: Convex(layer.forward)) if 0.0 < layer.alpha <= 1.0 else None


def _softplus(layer: nn.Softplus, rows: Tensor, dtype: torch.dtype) -> Build | None:
    # Beyond its threshold torch returns the entry itself.
    error = math.exp(-layer.threshold) / layer.beta if layer.beta > 0 else 0.0
    return (lambda: Convex(layer.forward, error)) if layer.beta > 0 else None


def _flatten(layer: nn.Flatten, rows: Tensor, dtype: torch.dtype) -> Build | None:
    flat = layer(rows)
    return reshaped(tuple(flat.shape[1:])) if len(flat) == len(rows) else None


def _largest(layer: nn.MaxPool2d, rows: Tensor, dtype: torch.dtype) -> Build | None:
    return None if layer.return_indices else lambda: Largest(layer)


LAYERS: dict[type[nn.Module], Read] = {
    nn.Linear: _dense,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda layer, rows, dtype: Rectifier,
    nn.LeakyReLU: _leaky,
    nn.Hardtanh: lambda layer, rows, dtype: lambda: Clamp(layer.min_val, layer.max_val),
    nn.ELU: _elu,
    nn.Softplus: _softplus,
    nn.Tanh: lambda layer, rows, dtype: lambda: Saturating(torch.tanh),
    nn.Sigmoid: lambda layer, rows, dtype: lambda: Saturating(torch.sigmoid),
    nn.MaxPool2d: _largest,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: lambda layer, rows, dtype: (
        lambda: Mean(layer.forward, rows.shape[-1] * rows.shape[-2])
    ),
    nn.ZeroPad2d: _pad,
    nn.ReflectionPad2d: _pad_by_copies,
    nn.ReplicationPad2d: _pad_by_copies,
    nn.CircularPad2d: _pad_by_copies,
    nn.Flatten: _flatten,
    nn.Unflatten: lambda layer, rows, dtype: reshaped(tuple(layer(rows).shape[1:])),
}
"""By class: the first of which a layer is an instance."""
