"""How the gradient of a test point is averaged over a step of the weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from levelset._recording._recording import logits_matrix
from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset.kernels._blocks import Block, Dense
from levelset.kernels._breakpoints import EXACT_RULES
from levelset.kernels._tangent import run

__all__ = [
    "Breakpoints", "GaussLegendre", "Gradients", "Integral", "Midpoint", "Part", "Quadrature",
    "SampleGradients", "Secant",
]  # fmt: skip

Part = tuple[float, list[Block]]
"""A share of the step, and the gradients of each of the k outputs there."""
Weights = dict[str, Tensor]
Factors: TypeAlias = Tensor | Callable[[Tensor], Tensor]
"""A factor of each output, `(n, k)`, or what makes them of the outputs."""


class Integral(ABC):
    """How gradients are averaged over the segment from one state of the weights to the next."""

    @abstractmethod
    def parts(
        self, gradients: "Gradients", before: Weights, after: Weights, points: Tensor
    ) -> list[Part]:
        """Return the gradients at points, as shares that add up to 1."""


class Secant(Integral):
    """One gradient between both states, whose product with the step is the change of the output."""

    def parts(
        self, gradients: "Gradients", before: Weights, after: Weights, points: Tensor
    ) -> list[Part]:
        """Return the secant gradient."""
        return [(1.0, gradients.each(before, after, points))]


class Breakpoints(Integral):
    """The integral, exact for two-layer ReLU networks: between the times at which units flip."""

    def parts(
        self, gradients: "Gradients", before: Weights, after: Weights, points: Tensor
    ) -> list[Part]:
        """Return the integrated gradient."""
        return [(1.0, run(gradients.model, before, after, points, EXACT_RULES).each())]


class Quadrature(Integral):
    """The integral by a rule of nodes and weights."""

    @abstractmethod
    def rule(self) -> tuple[list[float], list[float]]:
        """Return nodes between 0 and 1, and weights that sum to 1."""

    def parts(
        self, gradients: "Gradients", before: Weights, after: Weights, points: Tensor
    ) -> list[Part]:
        """Return the gradient at each node."""
        parts = []
        for node, weight in zip(*self.rule(), strict=True):
            state = {name: torch.lerp(w, after[name], node) for name, w in before.items()}
            parts.append((weight, gradients.each(state, state, points)))
        return parts


@checked
@dataclass(frozen=True)
class Midpoint(Quadrature):
    """The integral by the midpoint rule.

    Attributes:
        nodes: How many gradients a step.
    """

    nodes: int = 10

    def __post_init__(self) -> None:
        """Refuse a rule without nodes."""
        check_at_least_one("Midpoint", "nodes", self.nodes)

    def rule(self) -> tuple[list[float], list[float]]:
        """Return nodes between 0 and 1, and weights that sum to 1."""
        n = self.nodes
        return [(i + 0.5) / n for i in range(n)], [1.0 / n] * n


@checked
@dataclass(frozen=True)
class GaussLegendre(Quadrature):
    """The integral by Gauss's rule, exact for polynomials of degree `2 nodes - 1`.

    For smooth activations few nodes do. Where units of a ReLU network flip within a step, the
    integrand jumps, and it is no better than the midpoint rule.

    Attributes:
        nodes: How many gradients a step.
    """

    nodes: int = 4

    def __post_init__(self) -> None:
        """Refuse a rule without nodes."""
        check_at_least_one("GaussLegendre", "nodes", self.nodes)

    def rule(self) -> tuple[list[float], list[float]]:
        """Return nodes between 0 and 1, and weights that sum to 1."""
        nodes, weights = np.polynomial.legendre.leggauss(self.nodes)
        return ((nodes + 1.0) / 2.0).tolist(), (weights / 2.0).tolist()


class Gradients:
    """Gradients of the outputs of a model in its weights, layer by layer.

    Attributes:
        model: Held in evaluation mode by the caller.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def outputs(self, state: Weights, points: Tensor) -> Tensor:
        """Return the outputs at one state, `(n, k)`."""
        return logits_matrix(functional_call(self.model, state, (points,)))

    def each(self, before: Weights, after: Weights, points: Tensor) -> list[Block]:
        """Return the secant gradients of the k outputs; the gradients, where both are one state."""
        return run(self.model, before, after, points).each()

    def folded(self, state: Weights, points: Tensor, factors: Factors) -> list[Block]:
        """Return the gradients of each row's outputs times its factors, `(n, k)`."""
        tangent = run(self.model, state, state, points)
        return tangent.folded(factors if isinstance(factors, Tensor) else factors(tangent.before))


class SampleGradients(Gradients):
    """Gradients of any model that torch can differentiate, one row at a time, all numbers."""

    def each(self, before: Weights, after: Weights, points: Tensor) -> list[Block]:
        """Return the gradients of the k outputs at one state."""
        assert before is after, "gradients row by row are taken at one state"
        jacobian = vmap(jacrev(self._one), in_dims=(None, 0))(before, points)
        return [Dense((name,), part.detach().flatten(2)) for name, part in jacobian.items()]

    def folded(self, state: Weights, points: Tensor, factors: Factors) -> list[Block]:
        """Return the gradients of each row's outputs times its factors."""
        if not isinstance(factors, Tensor):
            factors = factors(self.outputs(state, points))

        def fold(weights: Weights, point: Tensor, factor: Tensor) -> Tensor:
            return (self._one(weights, point) * factor).sum()

        gradient = vmap(torch.func.grad(fold), in_dims=(None, 0, 0))(state, points, factors)
        return [Dense((name,), part.detach().flatten(1)) for name, part in gradient.items()]

    def _one(self, weights: Weights, point: Tensor) -> Tensor:
        return self.outputs(weights, point.unsqueeze(0))[0]
