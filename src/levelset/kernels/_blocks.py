"""Gradients of outputs in the weights, a block a layer, as outer products where they are such."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Block", "Dense", "Outer", "matrix_of", "trace_products"]


@dataclass(frozen=True, eq=False)
class Outer:
    """The gradients of a linear layer: for each point `output` times `input` transposed.

    Attributes:
        names: The weight's name, and the bias's, which stands for one more input of 1.
        input: What came into the layer, `(n, p)`.
        output: What the output changes with, `(n, q)`, or `(n, k, q)` for k outputs.
        is_fixed: Whether the input is the same for all weights, as in the first layer.
        constant: The bias's input: 1, or a multiple of it where steps are summed.
    """

    names: tuple[str, ...]
    input: Tensor
    output: Tensor
    is_fixed: bool = False
    constant: float = 1.0

    @property
    def has_bias(self) -> bool:
        """Whether there is a bias."""
        return len(self.names) == 2

    @property
    def width(self) -> int:
        """Numbers that one output's gradient has of one output of the layer."""
        return self.input.shape[1] + self.has_bias

    @property
    def is_unit(self) -> bool:
        """Whether the k outputs are those of the layer themselves, as in the last one."""
        if self.output.dim() == 2 or self.output.shape[1] != self.output.shape[2]:
            return False
        unit = torch.eye(self.output.shape[1], dtype=self.output.dtype, device=self.output.device)
        return bool((self.output == unit).all())

    def times(self, weights: dict[str, Tensor]) -> Tensor:
        """Return the products of the gradients of k outputs with a vector of weights, `(n, k)`."""
        shift = self.constant * weights[self.names[1]] if self.has_bias else None
        moved = functional.linear(self.input, weights[self.names[0]], shift)
        return torch.einsum("nkq,nq->nk", self.output, moved)

    def inner(self, other: "Outer") -> Tensor:
        """Return the products of all inputs with all of another's, the bias's among them."""
        if not self.has_bias:
            return self.input @ other.input.T
        constant = self.input.new_tensor(self.constant * other.constant)
        return torch.addmm(constant, self.input, other.input.T)

    def inner_rows(self, other: "Outer") -> Tensor:
        """Return the product of each input with the other's of the same row, `(n,)`."""
        products = (self.input * other.input).sum(1)
        return products + self.constant * other.constant if self.has_bias else products

    def dense(self) -> "Dense":
        """Return the same gradients number by number."""
        inner = self.input
        if self.has_bias:
            inner = functional.pad(inner, (0, 1), value=self.constant)
        inner = inner if self.output.dim() == 2 else inner.unsqueeze(1)
        values = self.output.unsqueeze(-1) * inner.unsqueeze(-2)
        return Dense(self.names, values.flatten(self.output.dim() - 1))

    def numbers(self) -> int:
        """Return how many numbers a point takes when it is dense."""
        return self.output[0].numel() * self.width


@dataclass(frozen=True, eq=False)
class Dense:
    """Gradients number by number.

    Attributes:
        names: Of the weight, and of its bias if it has one.
        values: `(n, p)`, or `(n, k, p)` for k outputs: the rows of the weight, each with its entry
            of the bias at the end.
    """

    names: tuple[str, ...]
    values: Tensor

    def times(self, weights: dict[str, Tensor]) -> Tensor:
        """Return the products of the gradients of k outputs with a vector of weights, `(n, k)`."""
        return self.values @ matrix_of(self.names, weights).reshape(-1)

    def dense(self) -> "Dense":
        """Return the gradients themselves."""
        return self

    def numbers(self) -> int:
        """Return how many numbers a point takes."""
        return self.values[0].numel()


Block = Outer | Dense


def matrix_of(names: tuple[str, ...], weights: dict[str, Tensor]) -> Tensor:
    """Return a layer's weight as a matrix `(q, p)`, its bias as one more column."""
    weight = weights[names[0]]
    if len(names) == 1:
        return weight.flatten(1) if weight.dim() > 1 else weight.reshape(1, -1)
    return torch.cat([weight.flatten(1), weights[names[1]].unsqueeze(1)], dim=1)


def trace_products(one: Block, other: Block) -> Tensor:
    """Return the products of gradients, summed over the k outputs, `(n, m)`."""
    if isinstance(one, Outer) and isinstance(other, Outer):
        return one.inner(other) * (one.output.flatten(1) @ other.output.flatten(1).T)
    return one.dense().values.flatten(1) @ other.dense().values.flatten(1).T
