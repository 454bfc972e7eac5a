"""Steps that bend: activations between two lines, and the largest entry of a window."""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset._relaxation._operation import SMALL, Operation, Range, dot

__all__ = ["Activation", "Clamp", "Convex", "Largest", "Rectifier", "Saturating"]


class _Lines(NamedTuple):
    """Two lines that a function lies between on a range: slope and offset of each."""

    low_slope: Tensor
    low_offset: Tensor
    high_slope: Tensor
    high_offset: Tensor


class Activation(Operation):
    """A function of each entry that never falls."""

    @abc.abstractmethod
    def values(self, entries: Tensor) -> Tensor:
        """Return the function."""

    @abc.abstractmethod
    def lines(self, low: Tensor, high: Tensor) -> _Lines:
        """Return lines below and above the function on the ranges, but for rounding."""

    def apply(self, inputs: list[Tensor]) -> Tensor:
        """Return the function of each entry."""
        return self.values(inputs[0])

    def slack(self, size: Tensor, unit: float) -> Tensor:
        """Return by how much a computed value may be off; `size` is |f| at its largest."""
        return SMALL * unit * size

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the function at both ends."""
        (source,) = inputs
        low, high = self.values(source.low), self.values(source.high)
        slack = self.slack(torch.maximum(low.abs(), high.abs()), unit)
        return Range(low - slack, high + slack)

    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return positive coefficients times the line below, negative ones times that above."""
        (source,) = inputs
        lines = self.lines(source.low, source.high)
        up, down = coefficients.clamp(min=0.0), coefficients.clamp(max=0.0)
        factors = up * lines.low_slope.unsqueeze(1) + down * lines.high_slope.unsqueeze(1)
        constant = dot(up, lines.low_offset) + dot(down, lines.high_offset)
        if unit:
            constant = constant - dot(coefficients.abs(), self._rounding(source, lines, unit))
        return [factors], constant

    def _rounding(self, source: Range, lines: _Lines, unit: float) -> Tensor:
        """Return by how much a line, its products and the network's own value are off."""
        slope = torch.maximum(lines.low_slope.abs(), lines.high_slope.abs())
        offset = torch.maximum(lines.low_offset.abs(), lines.high_offset.abs())
        value = torch.maximum(self.values(source.low).abs(), self.values(source.high).abs())
        return 2.0 * self.slack(slope * source.size + offset + value, unit)


class Rectifier(Activation):
    """ReLU, or a leaky one: the entry where it is positive, a share of it where it is not.

    Args:
        leak: The share, 0 to 1.
    """

    kinks = (0.0,)

    def __init__(self, leak: float = 0.0) -> None:
        self._leak = leak

    def values(self, entries: Tensor) -> Tensor:
        """Return the entries, or their share."""
        # The same for ReLU, whose own derivative takes half the time.
        return functional.leaky_relu(entries, self._leak) if self._leak else entries.relu()

    def slack(self, size: Tensor, unit: float) -> Tensor:
        """Return nothing for a ReLU, which computes nothing."""
        return super().slack(size, unit) if self._leak else torch.zeros_like(size)

    def unsettled(self, source: Range) -> Tensor:
        """Return those that may be on either side of the kink."""
        return (source.low < 0) & (source.high > 0)

    def lines(self, low: Tensor, high: Tensor) -> _Lines:
        """Return the line of the wider side through 0, and the chord above."""
        one = torch.ones_like(low)
        leak = self._leak * one
        positive, negative = low >= 0, high <= 0
        below = torch.where(positive | (~negative & (high > -low)), one, leak)
        width = torch.where(positive | negative, one, high - low)
        chord = (high - leak * low) / width
        chord = torch.where(positive, one, torch.where(negative, leak, chord))
        # What the chord, rounded, lacks at either end.
        lift = torch.maximum(self.values(high) - chord * high, self.values(low) - chord * low)
        lift = torch.where(positive | negative, 0.0, lift)
        return _Lines(below, torch.zeros_like(low), chord, lift)

    def _rounding(self, source: Range, lines: _Lines, unit: float) -> Tensor:
        slope = torch.maximum(lines.low_slope, lines.high_slope)
        return SMALL * unit * (slope * source.size + lines.high_offset.abs())


class Clamp(Activation):
    """The entry between two numbers, and the nearer of them beyond.

    Args:
        low: The smaller number.
        high: The larger one.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self.kinks = (low, high)

    def values(self, entries: Tensor) -> Tensor:
        """Return the entries, clamped."""
        return entries.clamp(self._low, self._high)

    def slack(self, size: Tensor, unit: float) -> Tensor:
        """Return nothing: nothing is computed."""
        del unit
        return torch.zeros_like(size)

    def unsettled(self, source: Range) -> Tensor:
        """Return those that may be on either side of a kink."""
        low, high = source.low, source.high
        return ((low < self._low) & (high > self._low)) | ((low < self._high) & (high > self._high))

    def lines(self, low: Tensor, high: Tensor) -> _Lines:
        """Return on either side the chord where it bounds, else the level of the nearer end."""
        at_low, at_high = self.values(low), self.values(high)
        width = torch.where(high > low, high - low, 1.0)
        chord = torch.where(high > low, (at_high - at_low) / width, 0.0)
        # From the last point of the lower level to the far end, and from the near end to the
        # first point of the upper one.
        rise = torch.where(high > self._low, high - low.clamp(min=self._low), 1.0)
        below = torch.where(low < self._low, (at_high - at_low) / rise, chord)
        reach = torch.where(low < self._high, high.clamp(max=self._high) - low, 1.0)
        above = torch.where(high > self._high, (at_high - at_low) / reach, chord)
        below = torch.where((low < self._low) & (high + low < 2 * self._low), 0.0, below)
        above = torch.where((high > self._high) & (high + low > 2 * self._high), 0.0, above)
        below, above = below.nan_to_num().clamp(0.0, 1.0), above.nan_to_num().clamp(0.0, 1.0)
        ends = [low, high, low.clamp(min=self._low).minimum(high), high.clamp(max=self._high)]
        ends[3] = ends[3].maximum(low)
        least = torch.stack([self.values(z) - below * z for z in ends]).amin(0)
        most = torch.stack([self.values(z) - above * z for z in ends]).amax(0)
        return _Lines(below, least, above, most)


class _Smooth(Activation):
    """A smooth function with its derivative.

    Args:
        function: The function of each entry, never falling.
        error: By how much the function jumps where it is approximated.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], error: float = 0.0) -> None:
        self._function, self._error = function, error

    def values(self, entries: Tensor) -> Tensor:
        """Return the function."""
        return self._function(entries)

    def slack(self, size: Tensor, unit: float) -> Tensor:
        """Return some units of rounding, and of 1: the function has steps inside."""
        return SMALL * unit * (size + 1.0) + self._error

    def slope(self, entries: Tensor) -> Tensor:
        """Return the derivative."""
        with torch.enable_grad():
            leaf = entries.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._function(leaf).sum(), leaf)
        return slope


class Convex(_Smooth):
    """A smooth function whose slope never falls: softplus, ELU."""

    def lines(self, low: Tensor, high: Tensor) -> _Lines:
        """Return the tangent in the middle and the chord."""
        middle = (low + high) / 2
        tangent = self.slope(middle)
        width = high - low
        chord = (self.values(high) - self.values(low)) / torch.where(width > 0, width, 1.0)
        chord = torch.where(width > 0, chord, tangent)
        lift = torch.maximum(self.values(high) - chord * high, self.values(low) - chord * low)
        return _Lines(tangent, self.values(middle) - tangent * middle, chord, lift)


class Saturating(_Smooth):
    """A smooth function that is convex below 0 and concave above: tanh, the logistic function."""

    def lines(self, low: Tensor, high: Tensor) -> _Lines:
        """Return two parallels through the ends, as steep as the function is at its flattest."""
        slope = torch.minimum(self.slope(low), self.slope(high))
        return _Lines(
            slope, self.values(low) - slope * low, slope, self.values(high) - slope * high
        )


class Largest(Operation):
    """The largest entry of each window of an image.

    Args:
        layer: The pooling layer, which returns values alone.
    """

    def __init__(self, layer: nn.MaxPool2d) -> None:
        self._layer = layer

    def apply(self, inputs: list[Tensor]) -> Tensor:
        """Return the largest entry of each window."""
        return self.pool(inputs[0])[0]

    def members(self, shape: torch.Size) -> Tensor:
        """Return the places in a flat input of the entries of each window, `(windows, m)`.

        Args:
            shape: Of one input, `(c, h, w)`.

        Returns:
            Numbers from 0; -1 for what lies outside of the image.
        """
        numbers = torch.arange(shape.numel(), dtype=torch.float64).view(1, *shape)
        _, highest = self.pool(numbers)
        return self._windows(numbers, highest.shape[2:], -1.0).flatten(0, 3).long()

    def box(
        self, start: tuple[int, ...], sizes: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[slice, ...]:
        """Return the box of windows that have entries in a box of the image.

        Args:
            start: Where the box begins, one number an axis.
            sizes: How large it is.
            shape: Of the result, `(c, rows, columns)`.
        """
        layer = self._layer
        box = [slice(start[0], start[0] + sizes[0])]
        for axis in range(2):
            kernel, step = _pair(layer.kernel_size)[axis], _pair(layer.stride)[axis]
            first = start[1 + axis] + _pair(layer.padding)[axis]
            reach = _pair(layer.dilation)[axis] * (kernel - 1)
            low = max(-(-(first - reach) // step), 0)
            high = min((first + sizes[1 + axis] - 1) // step, shape[1 + axis] - 1)
            box.append(slice(low, max(high + 1, low)))
        return tuple(box)

    def pool(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest entry of each window, and its place in the image."""
        layer = self._layer
        return functional.max_pool2d(
            values, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
            ceil_mode=layer.ceil_mode, return_indices=True,
        )  # fmt: skip

    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the largest of each end."""
        (source,) = inputs
        return Range(self.pool(source.low)[0], self.pool(source.high)[0])

    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        r"""Return positive coefficients at one entry, negative ones at one by a chord.

        The largest is at least the entry of the largest lower end. With j the entry of the largest
        upper end $u_j$, and m the larger of the other upper ends and $l_j$, it is at most the chord
        of $\max(z_j, m)$ over $[l_j, u_j]$.
        """
        (source,) = inputs
        _, lowest = self.pool(source.low)
        high, highest = self.pool(source.high)
        base = torch.maximum(self._runner_up(source.high, highest), _at(source.low, highest))
        width = high - _at(source.low, highest)
        slope = torch.where(width > 0, (high - base) / torch.where(width > 0, width, 1.0), 1.0)
        left = base - slope * _at(source.low, highest)
        lift = torch.maximum(left, high - slope * high)
        up, down = coefficients.clamp(min=0.0), coefficients.clamp(max=0.0)
        shape = source.low.shape[1:]
        factors = _scatter(up, lowest, shape) + _scatter(down * slope.unsqueeze(1), highest, shape)
        constant = dot(down, lift)
        if unit:
            size = slope * _at(source.size, highest) + lift.abs() + _at(source.size, lowest)
            overlaps = self._overlaps() * SMALL * unit
            constant = constant - overlaps * dot(coefficients.abs(), size)
        return [factors], constant

    def _overlaps(self) -> int:
        """Return the most windows that one entry is in, and so the terms of a sum over them."""
        size = _pair(self._layer.kernel_size)
        return size[0] * size[1]

    def _runner_up(self, high: Tensor, highest: Tensor) -> Tensor:
        """Return the largest upper end of each window but that of the entry at `highest`."""
        places = torch.arange(high[0, 0].numel(), device=high.device, dtype=torch.float64)
        numbers = self._windows(places.view(1, 1, *high.shape[2:]), highest.shape[2:], -1.0)
        others = numbers != highest.unsqueeze(4)
        ends = self._windows(high, highest.shape[2:], -math.inf)
        return torch.where(others, ends, -math.inf).amax(4)

    def _windows(self, image: Tensor, counts: torch.Size, filling: float) -> Tensor:
        """Return the entries of windows, `(n, c, rows, columns, m)`."""
        layer, (rows, columns) = self._layer, counts
        kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
        padding, dilation = _pair(layer.padding), _pair(layer.dilation)
        spans = [
            (count - 1) * step + gap * (size - 1) + 1 - (length + pad)
            for count, step, gap, size, length, pad in zip(
                counts, stride, dilation, kernel, image.shape[2:], padding, strict=True
            )
        ]
        sides = (padding[1], max(spans[1], 0), padding[0], max(spans[0], 0))
        image = functional.pad(image, sides, value=filling)
        cut = image.unfold(2, dilation[0] * (kernel[0] - 1) + 1, stride[0])
        cut = cut.unfold(3, dilation[1] * (kernel[1] - 1) + 1, stride[1])
        return cut[:, :, :rows, :columns, :: dilation[0], :: dilation[1]].flatten(4)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Return entries of images `(n, c, h, w)` at places in each, `(n, c, rows, columns)`."""
    return values.flatten(2).gather(2, places.flatten(2)).view_as(places)


def _scatter(coefficients: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """Return `(n, s, *shape)` with coefficients `(n, s, c, rows, columns)` added up at places."""
    n, s, c = coefficients.shape[:3]
    index = places.flatten(2).unsqueeze(1).expand(n, s, c, -1)
    empty = coefficients.new_zeros(n, s, c, shape[1] * shape[2])
    return empty.scatter_add(3, index, coefficients.flatten(3)).view(n, s, *shape)
