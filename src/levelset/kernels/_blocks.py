"""Gradients of outputs in the weights, a block a layer, as outer products where they are such."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Block", "Dense", "Outer", "matrix_of", "trace_products"]


@dataclass(frozen=True, eq=False)
class Outer:
    """The gradients of a linear layer: for each point `output` times `input` transposed.

    Attributes:
        names: The weight's name, and the bias's, which stands for one more input of 1.
        input: What came into the layer, `(n, p)`, or `(n, p + 1)` with a bias.
        output: What the output changes with, `(n, q)`, or `(n, k, q)` for k outputs.
        is_fixed: Whether the input is the same for all weights, as in the first layer.
    """

    names: tuple[str, ...]
    input: Tensor
    output: Tensor
    is_fixed: bool = False

    @property
    def is_unit(self) -> bool:
        """Whether the k outputs are those of the layer themselves, as in the last one."""
        if self.output.dim() == 2 or self.output.shape[1] != self.output.shape[2]:
            return False
        unit = torch.eye(self.output.shape[1], dtype=self.output.dtype, device=self.output.device)
        return bool((self.output == unit).all())

    def times(self, weights: dict[str, Tensor]) -> Tensor:
        """Return the products of the gradients of k outputs with a vector of weights, `(n, k)`."""
        moved = self.input @ matrix_of(self.names, weights).T
        return torch.einsum("nkq,nq->nk", self.output, moved)

    def dense(self) -> "Dense":
        """Return the same gradients number by number."""
        inner = self.input if self.output.dim() == 2 else self.input.unsqueeze(1)
        values = self.output.unsqueeze(-1) * inner.unsqueeze(-2)
        return Dense(self.names, values.flatten(self.output.dim() - 1))

    def numbers(self) -> int:
        """Return how many numbers a point takes when it is dense."""
        return self.output[0].numel() * self.input.shape[1]


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
        return (one.input @ other.input.T) * (one.output.flatten(1) @ other.output.flatten(1).T)
    return one.dense().values.flatten(1) @ other.dense().values.flatten(1).T
