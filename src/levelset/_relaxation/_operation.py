r"""What one step of a network does to ranges of values, and to linear bounds of its result.

Every bound is safe against rounding: it holds for the network in exact arithmetic, and for the one
that a processor evaluates, in whichever order it sums. A sum of m products is off by at most
$\gamma_m = mu/(1 - mu)$ times the sum of their absolute values, u the unit of rounding.
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SMALL", "Operation", "Range", "ScaledBall", "dot", "gamma"]

SMALL = 8.0
"""Units of rounding that turning ranges into middles and widths, scaling and shifting cost."""


def gamma(terms: int, unit: float) -> float:
    """Return the relative error of a sum of so many products; infinity where it bounds nothing."""
    share = terms * unit
    return share / (1.0 - share) if share < 0.5 else math.inf


@dataclass(frozen=True, eq=False)
class ScaledBall:
    """An L2 ball of inputs, as entries that are one entry of the input each, times a number.

    Attributes:
        centre: The entries at its centre, `(n, *shape)`.
        radius: Its radius, `(n,)`.
        scale: The numbers; they broadcast against the entries.
    """

    centre: Tensor
    radius: Tensor
    scale: Tensor


@dataclass(frozen=True, eq=False)
class Range:
    """Smallest and largest value of each entry of one node.

    Attributes:
        low: Smallest values, `(n, *shape)`.
        high: Largest values, `(n, *shape)`.
        is_free: Whether the entries are those of the input, scaled and moved: each reaches its
            ends whatever the others do.
        is_exact: Whether no tighter range exists, but for rounding.
        ball: The ball that the entries lie in too; only of free ones.
    """

    low: Tensor
    high: Tensor
    is_free: bool = False
    is_exact: bool = False
    ball: ScaledBall | None = None

    @property
    def size(self) -> Tensor:
        """Largest absolute values, `(n, *shape)`."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def least(self, coefficients: Tensor, unit: float) -> Tensor:
        """Return a lower bound of sums of the entries, `(n, s)`.

        Args:
            coefficients: Factors of the entries, `(n, s, *shape)`.
            unit: The unit of rounding.
        """
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        width = half + SMALL * unit * self.size if unit else half
        least = dot(coefficients, middle) - dot(coefficients.abs(), width)
        if self.ball is None:
            return least
        steep = _flat(coefficients * self.ball.scale.unsqueeze(0)).double()
        length = torch.linalg.vector_norm(steep, dim=2) * (1.0 + SMALL * unit)
        error = SMALL * unit * dot(coefficients.abs(), self.size + self.ball.centre.abs())
        reach = self.ball.radius.double().unsqueeze(1) * length
        return torch.fmax(least, dot(coefficients, self.ball.centre) - reach - error)


class Operation(abc.ABC):
    """One step of a network.

    `unit` is the unit of rounding of the dtype in which the network is evaluated, or 0 for bounds
    that are trained on, where rounding does not matter.
    """

    is_affine = False
    kinks: tuple[float, ...] | None = None
    """Where a function of each entry bends that is affine between; `None` for any other step."""

    @abc.abstractmethod
    def apply(self, inputs: list[Tensor]) -> Tensor:
        """Return the result, `(n, *shape)`, of inputs `(n, *shape)` each."""

    def apply_linear(self, inputs: list[Tensor]) -> Tensor:
        """Return the same without what is added; only of affine steps."""
        return self.apply(inputs)

    def magnitude(self, inputs: list[Tensor]) -> Tensor:
        """Return the sum of the sizes of what each entry of the result is summed from.

        Args:
            inputs: Largest absolute entries, `(1, *shape)` each; only of affine steps.
        """
        return self.apply(inputs)

    def spread(self, inputs: list[Tensor]) -> Tensor:
        """Return |L|z for z of at least 0, of the linear part L; only of affine steps."""
        return self.apply(inputs)

    def pull(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return coefficients `(m, *result)` times the linear part; only of affine steps.

        Args:
            coefficients: Factors of the result.
            shapes: Of one row of each input.
        """
        raise NotImplementedError

    def pull_spread(self, coefficients: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Return the same with absolute values of the linear part, of coefficients at least 0."""
        return self.pull(coefficients, shapes)

    def piece(self, above: list[Tensor]) -> tuple[Tensor, Tensor | float]:
        """Return slope and offset of the affine piece of each entry; only of what has kinks.

        Args:
            above: Whether entries are above each kink, one mask a kink.
        """
        slopes, offsets = self.pieces()
        return _chosen(slopes, above), _chosen(offsets, above) if offsets.any() else 0.0

    def pieces(self) -> tuple[Tensor, Tensor]:
        """Return slopes and offsets of the affine pieces, in order; only of what has kinks."""
        kinks = self.kinks or ()
        places = torch.tensor([kinks[0] - 1.0, *kinks, kinks[-1] + 1.0], dtype=torch.float64)
        values = self.apply([places])
        slopes = values.diff() / places.diff()
        return slopes, values[:-1] - slopes * places[:-1]

    @abc.abstractmethod
    def range(self, inputs: list[Range], unit: float) -> Range:
        """Return the range of the result over those of the inputs."""

    @abc.abstractmethod
    def back(
        self, coefficients: Tensor, inputs: list[Range], unit: float
    ) -> tuple[list[Tensor], Tensor]:
        """Bound sums over the result from below by sums over the inputs.

        Args:
            coefficients: Factors of the result, `(n, s, *shape)`.
            inputs: Ranges of the inputs.
            unit: The unit of rounding.

        Returns:
            Factors of each input, `(n, s, *shape)`, and what is added, `(n, s)` in float64.
        """

    def unsettled(self, source: Range) -> Tensor:
        """Return the entries of an input, as a mask, that a tighter range would do good."""
        return torch.ones_like(source.low, dtype=torch.bool)


def dot(coefficients: Tensor, values: Tensor) -> Tensor:
    """Return sums `(n, s)` of coefficients `(n, s, *shape)` times values `(n, *shape)`.

    They are summed in float64, so that the products alone are rounded.
    """
    return _flat(coefficients * values.unsqueeze(1)).sum(2, dtype=torch.float64)


def _chosen(numbers: Tensor, above: list[Tensor]) -> Tensor:
    """Return the number of each entry's piece: the first, or that of the last kink it is above."""
    first, *others = numbers.to(above[0].device)
    result = first
    for mask, number in zip(above, others, strict=True):
        result = torch.where(mask, number, result)
    return result


def _flat(values: Tensor) -> Tensor:
    """Return `(n, s, e)`; a node may hold one number a row, `(n, s)`."""
    return values.reshape(*values.shape[:2], -1 if values.numel() else 0)
