"""The nodes of a piecewise linear network at places that become more, layer by layer."""

import abc

import torch
from torch import Tensor

from levelset._relaxation._program import Node, Program

__all__ = ["Walk"]


class Walk(abc.ABC):
    """Nodes of a network at places, to which each layer adds those where it bends.

    Nodes that are affine on all places are kept as their coefficients.

    Args:
        program: The network, piecewise linear.
        basis: An origin and the ways from there along each coordinate, `(1 + c, *d)`.
        size: What the entries of an input are summed from, `(1, *d)`.

    Attributes:
        sizes: What the entries of each node are summed from, `(1, *shape)`.
    """

    def __init__(self, program: Program, basis: Tensor, size: Tensor) -> None:
        self.program = program
        self._uses = program.uses()  # the nodes that are needed, with the last step that takes each
        self._flat: dict[int, Tensor] = {0: basis}
        self._known: dict[int, Tensor] = {}
        self.sizes = {0: size}

    def run(self) -> Tensor:
        """Evaluate the network; return its outputs at the places, `(n, k)`."""
        for index in range(self.program.output):
            if index + 1 in self._uses:
                self._step(index)
        return self.values(self.program.output)

    @abc.abstractmethod
    def values(self, node: int) -> Tensor:
        """Return the entries of a node at the places, `(n, *shape)`."""

    @abc.abstractmethod
    def bend(self, step: Node) -> None:
        """Add the places where a step bends."""

    def _step(self, index: int) -> None:
        """Evaluate one step of the network."""
        step = self.program.steps[index]
        node, operation = index + 1, step.operation
        if operation.is_affine:
            self.sizes[node] = operation.magnitude([self.sizes[i] for i in step.inputs])
            if all(i in self._flat for i in step.inputs):
                parts = [self._flat[i] for i in step.inputs]
                base = operation.apply([part[:1] for part in parts])
                slopes = operation.apply_linear([part[1:] for part in parts])
                self._flat[node] = torch.cat([base, slopes])
            else:
                self._known[node] = operation.apply([self.values(i) for i in step.inputs])
        else:
            self.bend(step)
            self._known[node] = operation.apply([self.values(step.inputs[0])])
            self.sizes[node] = self._known[node].abs().amax(0, keepdim=True)
        for i in step.inputs:
            if self._uses[i] <= index:
                self._known.pop(i, None)
                self._flat.pop(i, None)
