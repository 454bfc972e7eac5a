"""Formulas of affine functions, minima, maxima and gates: built from below, cut into layers."""

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["GATE", "LEAST", "MOST", "Formula"]

LEAST, MOST, GATE = "least", "most", "gate"


@dataclass
class Formula:
    r"""A tree of minima, maxima and gates over affine functions $w \cdot x + c$.

    An operand is the number of a node, or, below zero, `-1 - row` of an affine function. A gate of
    s, a and b is $\max(\min(s, a), \min(-s, b), \min(a, b))$: it has the sign of a where s > 0, of
    b where s < 0, and always lies between a and b.

    Attributes:
        weights: The rows w, `(d,)` each.
        offsets: The numbers c.
        nodes: Each its kind and operands; operands come before what uses them.
        root: The operand whose value the formula has.
    """

    weights: list[NDArray[np.float64]] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    nodes: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    root: int = -1
    _heights: list[int] = field(default_factory=list)

    @property
    def uses(self) -> int:
        """How often affine functions enter."""
        return sum(operand < 0 for _, operands in self.nodes for operand in operands)

    def affine(self, weight: NDArray[np.float64], offset: float) -> int:
        """Add an affine function; return its operand."""
        self.weights.append(weight)
        self.offsets.append(offset)
        return -len(self.weights)

    def fold(self, kind: str, operands: list[int]) -> int:
        """Add the minimum or maximum of operands, in the lowest tree there is; return its operand.

        The two lowest are joined until one is left.
        """
        waiting = [(self._height(operand), i, operand) for i, operand in enumerate(operands)]
        heapq.heapify(waiting)
        while len(waiting) > 1:
            a, b = heapq.heappop(waiting), heapq.heappop(waiting)
            joined = self._add(kind, (a[2], b[2]))
            heapq.heappush(waiting, (self._height(joined), b[1], joined))
        return waiting[0][2]

    def gate(self, side: int, near: int, far: int) -> int:
        """Add a gate: `near` where the affine function `side` is positive; return its operand."""
        return self._add(GATE, (side, near, far))

    def layers(self, gate: int) -> list[list[int]]:
        """Return the nodes that each layer makes, from the first to the last, the root.

        A minimum or maximum takes operands of the layer before it, a gate those made `gate` layers
        before: each node is made just when it is needed, so that nothing waits.
        """
        lengths = {LEAST: 1, MOST: 1, GATE: gate}
        heights: list[int] = []
        for kind, operands in self.nodes:
            below = [heights[operand] for operand in operands if operand >= 0]
            heights.append(lengths[kind] + max(below, default=0))
        layers: list[list[int]] = [[] for _ in range(heights[self.root])]
        times = {self.root: heights[self.root]}
        for number in range(len(self.nodes) - 1, -1, -1):
            kind, operands = self.nodes[number]
            layers[times[number] - 1].append(number)
            times.update((o, times[number] - lengths[kind]) for o in operands if o >= 0)
        return layers

    def _add(self, kind: str, operands: tuple[int, ...]) -> int:
        self.nodes.append((kind, operands))
        below = max(map(self._height, operands))
        self._heights.append(below + (2 if kind == GATE else 1))
        return len(self.nodes) - 1

    def _height(self, operand: int) -> int:
        """Return the layers of ReLUs below an operand, where a gate takes two."""
        return self._heights[operand] if operand >= 0 else 0
