"""Convolutions as linear maps of their input, for derivatives in the points alone.

Torch's own cost more than they need where the weights are held. The second derivative of one
computes that of its weights too, wanted or not; and on a processor oneDNN takes three times as long
to go back to an input of few channels, as pictures are, as a product of matrices does (LeNet and
ConvNet-4a on MNIST, torch 2.13).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

__all__ = ["LinearConvolutions"]

# Channels of an input to which a product of matrices goes back faster, on a processor.
_FEW = 3


class LinearConvolutions(TorchFunctionMode):
    """Inside, two-dimensional convolutions with held weights are linear maps of their input.

    Values and derivatives are the same up to rounding; others are left as they are, as are those
    of scripted and compiled modules.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace convolutions, pass everything else on."""
        kwargs = kwargs or {}
        if func is torch.conv2d and torch.is_grad_enabled():
            found = _linear(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


class _Options(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def _linear(
    input: Tensor,  # noqa: A002  the names are torch's, and given as keywords
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution as a linear map, or None for one that is left as it is."""
    learns = weight.requires_grad or (bias is not None and bias.requires_grad)
    if learns or not input.requires_grad or input.dim() != 4 or isinstance(padding, str):
        return None
    options = _Options(_pair(stride), _pair(padding), _pair(dilation), groups)
    found: Tensor = _Convolution.apply(input, weight, options)  # type: ignore[no-untyped-call]
    return found if bias is None else found + bias.view(-1, 1, 1)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


class _Convolution(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(points: Tensor, weight: Tensor, options: _Options) -> Tensor:
        return functional.conv2d(points, weight, None, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        points, weight, ctx.options = inputs
        ctx.size = points.shape
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        back = _Adjoint.apply(slopes, weight, ctx.options, ctx.size)  # type: ignore[no-untyped-call]
        return back, None, None


class _Adjoint(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(slopes: Tensor, weight: Tensor, options: _Options, size: tuple[int, ...]) -> Tensor:
        if size[1] > _FEW or options.groups > 1 or slopes.device.type != "cpu":
            back: Tensor = conv2d_input(size, weight, slopes, *options)  # type: ignore[no-untyped-call]
            return back
        patches = weight.flatten(1).t() @ slopes.flatten(2)
        return functional.fold(
            patches, size[2:], weight.shape[2:],
            dilation=options.dilation, padding=options.padding, stride=options.stride,
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, ctx.options, _ = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, vectors: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        back = _Convolution.apply(vectors, weight, ctx.options)  # type: ignore[no-untyped-call]
        return back, None, None, None
