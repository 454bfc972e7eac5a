"""Affine steps: linear layers, convolutions, means, scaling, sums, and moving entries about."""

import abc
import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset._relaxation._operation import SMALL, Operation, Range, ScaledBall, dot, gamma
from levelset._typing import Floats

__all__ = ["Convolution", "Dense", "Diagonal", "Difference", "Join", "Mean", "Move", "Sum"]


class _Affine(Operation):
    r"""A step $z \mapsto Lz + b$ of one input.

    Attributes:
        terms: Most entries that one entry of the result is summed from, and most entries of the
            result that one entry adds to, together.
        offset: b, which broadcasts against the result; `None` for 0.
        offset_size: A bound of what |b| was summed from.
    """

    is_affine = True

    def __init__(self, terms: int, offset: Tensor | None, offset_size: Tensor | None) -> None:
        self.terms, self.offset, self.offset_size = terms, offset, offset_size

    @abc.abstractmethod
    def linear(self, values: Tensor) -> Tensor:
        """Return Lz."""

    def linear_abs(self, values: Tensor) -> Tensor:
        """Return |L|z for z of at least 0; that is Lz where L has no negative entry."""
        return self.linear(values)

    def norms(self, scale: Tensor) -> Tensor | None:
        """Return the norms of the rows of L diag(scale), `(1, *shape)`; `None` if not known."""
        del scale
        return None

    def transpose(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return coefficients `(m, *result)` times L, `(m, *shape)`."""
        with torch.enable_grad():
            start = coefficients.new_zeros(len(coefficients), *shape, requires_grad=True)
            (moved,) = torch.autograd.grad(self.linear(start), start, coefficients)
        return moved

    def transpose_abs(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return coefficients of at least 0 times |L|, `(m, *shape)`."""
        with torch.enable_grad():
            start = coefficients.new_zeros(len(coefficients), *shape, requires_grad=True)
            (moved,) = torch.autograd.grad(self.linear_abs(start), start, coefficients)
        return moved

    def apply(self, inputs: list[Tensor]) -> Tensor:
        """Return Lz + b."""
        return self._shifted(inputs[0])

    def spread(self, inputs: list[Tensor]) -> Tensor:
        """Return |L|z."""
        return self.linear_abs(inputs[0])

    def pull(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return coefficients times L."""
        return [self.transpose(coefficients, shapes[0])]

    def pull_spread(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return coefficients times |L|."""
        return [self.transpose_abs(coefficients, shapes[0])]

    def apply_linear(self, inputs: list[Tensor]) -> Tensor:
        """Return Lz."""
        return self.linear(inputs[0])

    def magnitude(self, inputs: list[Tensor]) -> Tensor:
        """Return |L||z| + |b|, of which rounding is a share, `(n, *shape)`."""
        reach = self.linear_abs(inputs[0])
        return reach if self.offset_size is None else reach + self.offset_size

    def _reach(self, source: Range) -> Tensor:
        return self.magnitude([source.size])

    def _error(self, unit: float) -> float:
        """Return that share: once for the network, once for the bound."""
        return 2.0 * gamma(self.terms, unit) + SMALL * unit

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the middle mapped, give or take the half width mapped."""
        (source,) = inputs
        centre, width = self._mapped(source)
        slack = self._error(unit) * self._reach(source) if unit else 0.0
        low, high, exact = centre - width - slack, centre + width + slack, source.is_free
        if source.ball is not None:
            ball = source.ball
            norms = self.norms(ball.scale.expand_as(source.low[:1]))
            exact = norms is not None
            if norms is not None:
                reach = ball.radius.view(-1, *[1] * (low.dim() - 1)) * norms
                centre, width = self._shifted(ball.centre), reach * (1.0 + self._error(unit))
                low = torch.maximum(low, centre - width - slack)
                high = torch.minimum(high, centre + width + slack)
        return Range(low, high, is_exact=exact)

    def _mapped(self, source: Range) -> tuple[Tensor, Tensor]:
        """Return L times the middle of a range, plus b, and |L| times half its width."""
        middle, half = (source.low + source.high) / 2, (source.high - source.low) / 2
        return self._shifted(middle), self.linear_abs(half)

    def _shifted(self, values: Tensor) -> Tensor:
        values = self.linear(values)
        return values if self.offset is None else values + self.offset

    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return the coefficients times L and times b, less what rounding makes of both."""
        (source,) = inputs
        n, s = coefficients.shape[:2]
        flat = self.transpose(coefficients.flatten(0, 1), source.low.shape[1:])
        constant = coefficients.new_zeros(n, s, dtype=torch.float64)
        if self.offset is not None:
            offset = self.offset.expand(1, *coefficients.shape[2:])
            constant = constant + dot(coefficients, offset)
        if unit:
            constant = constant - self._error(unit) * dot(coefficients.abs(), self._reach(source))
        return [flat.view(n, s, *flat.shape[1:])], constant


class _Weighted(_Affine):
    """A step that is a product with one tensor of weights.

    Args:
        terms: As in any affine step.
        weight: The tensor.
        bias: What is added, in one axis; `None` for 0.
        offset: The same, so that it broadcasts against the result.
    """

    def __init__(
        self, terms: int, weight: Tensor, bias: Tensor | None, offset: Tensor | None
    ) -> None:
        super().__init__(terms, offset, None if offset is None else offset.abs())
        self.weight, self._bias = weight, bias

    @abc.abstractmethod
    def _product(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the product of values and weights of this shape, plus a bias."""

    def linear(self, values: Tensor) -> Tensor:
        """Return the product with the weights."""
        return self._product(values, self.weight)

    def linear_abs(self, values: Tensor) -> Tensor:
        """Return the product with their absolute values."""
        return self._product(values, self.weight.abs())

    def norms(self, scale: Tensor) -> Tensor:
        """Return the norms of the rows of W diag(scale); at the edges of an image, of parts."""
        return self._product(scale.square(), self.weight.square()).sqrt()

    def _mapped(self, source: Range) -> tuple[Tensor, Tensor]:
        # Weights are few: they are halved in place of the entries.
        half = self.weight / 2
        low, high = source.low, source.high
        return self._product(low + high, half, self._bias), self._product(high - low, half.abs())

    def _shifted(self, values: Tensor) -> Tensor:
        return self._product(values, self.weight, self._bias)


class Dense(_Weighted):
    """A matrix times the last axis."""

    def __init__(self, weight: Tensor, offset: Tensor | None) -> None:
        super().__init__(sum(weight.shape), weight, offset, offset)

    def _product(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(values, weight, bias)

    def transpose(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return the coefficients times W."""
        del shape
        return coefficients @ self.weight

    def transpose_abs(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return the coefficients times |W|."""
        del shape
        return coefficients @ self.weight.abs()


class Convolution(_Weighted):
    """A convolution of images, with zeros round them.

    Args:
        layer: The layer.
        padding: Zeros on either side of each axis.
        dtype: Of the bounds.
    """

    def __init__(self, layer: nn.Conv2d, padding: tuple[int, int], dtype: torch.dtype) -> None:
        weight = layer.weight.to(dtype)
        terms = weight[0].numel() + weight[:, 0].numel()
        bias = None if layer.bias is None else layer.bias.to(dtype)
        super().__init__(terms, weight, bias, None if bias is None else bias.view(-1, 1, 1))
        self._layer, self._padding = layer, padding
        self._columns: Floats | None = None

    @property
    def is_local(self) -> bool:
        """Whether `linear_patch` takes it: all channels of the image make each of the result."""
        return self._layer.groups == 1

    def _product(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        layer = self._layer
        return functional.conv2d(
            values, weight, bias, layer.stride, self._padding, layer.dilation,
            layer.groups,
        )  # fmt: skip

    def linear_patch(
        self, values: Floats, start: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[Floats, tuple[int, ...]]:
        """Return the convolution of images that are 0 outside of a box, without its bias.

        Only of convolutions without groups.

        Args:
            values: The box, `(n, c, h, w)`.
            start: Where it begins, one number an axis.
            shape: Of the result.

        Returns:
            A box of the result, outside of which it is 0, and where that begins.
        """
        n, channels, *sizes = values.shape
        kernel, gaps, steps = self.weight.shape[2:], self._layer.dilation, self._layer.stride
        if self._columns is None:
            self._columns = self.weight.permute(1, 2, 3, 0).cpu().numpy().copy()
        matrix = self._columns[start[0] : start[0] + channels].reshape(channels, -1)
        # Channels last: they lie side by side in memory.
        moved = values.transpose(0, 2, 3, 1).reshape(-1, channels) @ matrix
        parts = moved.reshape(n, *sizes, *kernel, -1)
        spans = [size + gap * (k - 1) for size, gap, k in zip(sizes, gaps, kernel, strict=True)]
        total = np.zeros((n, *spans, parts.shape[-1]))
        for a in range(kernel[0]):
            row = gaps[0] * (kernel[0] - 1 - a)
            for b in range(kernel[1]):
                column = gaps[1] * (kernel[1] - 1 - b)
                total[:, row : row + sizes[0], column : column + sizes[1]] += parts[:, :, :, a, b]
        box, begin = [], [0]
        for axis in range(2):
            # The first window that may begin before the box, in steps of one entry.
            first = start[1 + axis] + self._padding[axis] - gaps[axis] * (kernel[axis] - 1)
            low = max(-(-first // steps[axis]), 0)
            high = min((first + spans[axis] - 1) // steps[axis], shape[1 + axis] - 1)
            box.append(slice(low * steps[axis] - first, high * steps[axis] - first + 1,
                             steps[axis]))  # fmt: skip
            begin.append(low)
        return total[:, box[0], box[1]].transpose(0, 3, 1, 2), tuple(begin)

    def transpose(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return the coefficients convolved backwards."""
        return self._convolve_back(coefficients, shape, self.weight)

    def transpose_abs(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return the coefficients convolved backwards with the absolute weights."""
        return self._convolve_back(coefficients, shape, self.weight.abs())

    def _convolve_back(self, coefficients: Tensor, shape: torch.Size, weight: Tensor) -> Tensor:
        layer, kernel = self._layer, self.weight.shape[2:]
        rest = [
            shape[1 + axis]
            - (coefficients.shape[2 + axis] - 1) * layer.stride[axis]
            + 2 * self._padding[axis]
            - layer.dilation[axis] * (kernel[axis] - 1)
            - 1
            for axis in range(2)
        ]
        return functional.conv_transpose2d(
            coefficients, weight, None, layer.stride, self._padding, rest, layer.groups,
            layer.dilation,
        )  # fmt: skip


class Mean(_Affine):
    """Means over windows or axes, by a function that takes and returns `(n, *shape)`.

    Args:
        function: The function, linear and without negative weights.
        terms: Entries of a window.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], terms: int) -> None:
        super().__init__(2 * terms, None, None)
        self._function = function

    def linear(self, values: Tensor) -> Tensor:
        """Return the means."""
        return self._function(values)


class Diagonal(_Affine):
    """Each entry times a factor, plus an offset: BatchNorm in evaluation mode, normalisation.

    Args:
        factor: Broadcasts against `(1, *shape)`.
        offset: Likewise.
        offset_size: What the offset was summed from; `None` for its absolute value.
    """

    def __init__(self, factor: Tensor, offset: Tensor, offset_size: Tensor | None = None) -> None:
        super().__init__(4, offset, offset.abs() if offset_size is None else offset_size)
        self._factor = factor

    def linear(self, values: Tensor) -> Tensor:
        """Return the entries times the factor."""
        return values * self._factor

    def linear_abs(self, values: Tensor) -> Tensor:
        """Return the entries times the absolute factor."""
        return values * self._factor.abs()

    def norms(self, scale: Tensor) -> Tensor:
        """Return the absolute factors."""
        return scale * self._factor.abs()

    def transpose(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return the coefficients times the factor."""
        del shape
        return coefficients * self._factor

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the range, in which free entries stay free."""
        (source,) = inputs
        reached = super().range(inputs, unit)
        ball = source.ball
        if ball is not None:
            scale = ball.scale * self._factor
            ball = ScaledBall(self._shifted(ball.centre), ball.radius, scale)
        return dataclasses.replace(
            reached, is_free=source.is_free, is_exact=source.is_exact or source.is_free, ball=ball
        )


class Move(_Affine):
    """Entries moved about, or zeros put round them, and nothing computed.

    Args:
        function: Takes `(m, *shape)`, moves each row alike.
        inverse: Takes `(m, *result)` and the shape before it, and moves the entries back.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        inverse: Callable[[Tensor, torch.Size], Tensor],
    ) -> None:
        super().__init__(1, None, None)
        self._function, self._inverse = function, inverse

    def linear(self, values: Tensor) -> Tensor:
        """Return the entries in their new places."""
        return self._function(values)

    def transpose(self, coefficients: Tensor, shape: torch.Size) -> Tensor:
        """Return the coefficients in their places before."""
        return self._inverse(coefficients, shape)

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return both ends moved."""
        (source,) = inputs
        ball = source.ball
        if ball is not None:
            scale = self._function(ball.scale.expand_as(source.low[:1]))
            ball = ScaledBall(self._function(ball.centre), ball.radius, scale)
        low, high = self._function(source.low), self._function(source.high)
        return dataclasses.replace(source, low=low, high=high, ball=ball)

    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return the coefficients in their places before; nothing is rounded."""
        return super().back(coefficients, inputs, 0.0)


class Sum(Operation):
    """The sum of two branches of one shape."""

    is_affine = True
    _sign = 1.0

    def apply(self, inputs: list[Tensor]) -> Tensor:
        """Return the sum."""
        return torch.add(*inputs, alpha=self._sign)

    def magnitude(self, inputs: list[Tensor]) -> Tensor:
        """Return the sum of the sizes."""
        return inputs[0] + inputs[1]

    def spread(self, inputs: list[Tensor]) -> Tensor:
        """Return the sum of the widths."""
        return inputs[0] + inputs[1]

    def pull(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return the coefficients for both."""
        return [coefficients, self._sign * coefficients]

    def pull_spread(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return the coefficients for both."""
        return [coefficients, coefficients]

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the sum of the ends."""
        one, other = inputs
        low, high = (other.low, other.high) if self._sign > 0 else (-other.high, -other.low)
        slack = SMALL * unit * (one.size + other.size) if unit else 0.0
        return Range(one.low + low - slack, one.high + high + slack)

    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return the coefficients for both."""
        one, other = inputs
        constant = -SMALL * unit * dot(coefficients.abs(), one.size + other.size)
        return [coefficients, self._sign * coefficients], constant


class Difference(Sum):
    """The first branch less the second."""

    _sign = -1.0


class Join(Operation):
    """Branches side by side along one axis.

    Args:
        axis: Which, counted with that of the rows, 1 or more.
    """

    is_affine = True

    def __init__(self, axis: int) -> None:
        self._axis = axis

    def apply(self, inputs: list[Tensor]) -> Tensor:
        """Return the branches side by side."""
        return torch.cat(inputs, self._axis)

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the ranges side by side."""
        low = torch.cat([source.low for source in inputs], self._axis)
        return Range(low, torch.cat([source.high for source in inputs], self._axis))

    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return each branch its own."""
        widths = [source.low.shape[self._axis] for source in inputs]
        nothing = coefficients.new_zeros(coefficients.shape[:2], dtype=torch.float64)
        return list(torch.split(coefficients, widths, self._axis + 1)), nothing

    def pull(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return each branch its own."""
        widths = [shape[self._axis - 1] for shape in shapes]
        return list(torch.split(coefficients, widths, self._axis))
