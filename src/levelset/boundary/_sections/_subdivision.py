"""The linear regions of a network in a plane, layer by layer."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._program import Node, Program
from levelset._typing import Floats, Integers
from levelset.boundary._sections._cells import Cells, merged, straightened
from levelset.boundary._sections._cutting import Births, cut, extended
from levelset.boundary._sections._walk import Walk

__all__ = ["ZERO", "subdivide"]

ZERO = 3e-14
"""The share of what a value is summed from below which it counts as 0."""


def subdivide(
    program: Program,
    basis: Tensor,
    cells: Cells,
    *,
    merge: float = 0.0,
    check: Callable[[int], None] | None = None,
) -> tuple[Cells, Floats, float]:
    """Cut cells into the linear regions of a network.

    Args:
        program: The network, piecewise linear.
        basis: Origin and axes of the plane, `(3, *d)`.
        cells: Cells of the plane.
        merge: Corners nearer than this on an edge are one.
        check: Called with the number of cells as it grows; may raise.

    Returns:
        The regions with the tags of the cells that they are part of, the logits at the corners
        `(v, k)`, and the size of what the logits are summed from.
    """
    walk = _Walk(program, basis, cells, merge, check)
    logits = walk.run()
    return walk.cells, walk.numpy(logits), float(walk.sizes[program.output].max())


class _Walk(Walk):
    """Nodes of a network at the corners of cells, which are cut as the walk goes on.

    Attributes:
        cells: The cells so far.
    """

    def __init__(
        self, program: Program, basis: Tensor, cells: Cells, merge: float,
        check: Callable[[int], None] | None,
    ) -> None:  # fmt: skip
        across, up = np.abs(cells.places).max(0)
        size = basis[:1].abs() + across * basis[1:2].abs() + up * basis[2:].abs()
        super().__init__(program, basis, size)
        self.cells, self._merge, self._check = cells, merge, check

    def values(self, node: int) -> Tensor:
        """Return the entries of a node at the corners, `(v, *shape)`."""
        if node not in self._known:
            flat = self._flat[node]
            ones = np.ones((len(self.cells.places), 1))
            places = torch.from_numpy(np.concatenate([ones, self.cells.places], axis=1))
            values = places.to(flat) @ flat.flatten(1)
            self._known[node] = values.view(-1, *flat.shape[1:])
        return self._known[node]

    @staticmethod
    def numpy(values: Tensor) -> Floats:
        """Return values as an array, `(v, u)`."""
        return values.flatten(1).cpu().numpy()

    def bend(self, step: Node) -> None:
        """Cut the cells where a step bends."""
        (node,) = step.inputs
        if isinstance(step.operation, Largest):
            self._compare(node, step.operation)
            return
        for kink in step.operation.kinks or ():
            values = self.numpy(self.values(node))
            zero = ZERO * (self.numpy(self.sizes[node])[0] + abs(kink))
            done = self._cut(values - kink if kink else values, zero, node)
            if done is not None:
                self._put(node, done + kink if kink else done)

    def _cut(self, values: Floats, zero: Floats, node: int | None) -> Floats | None:
        """Cut, and bring all nodes but one to the new corners; return the values there."""
        if self._merge:
            zero = np.maximum(zero, self._merge * self._steepest(values))
        done = cut(self.cells, values, zero, merge=self._merge, check=self._check)
        self.cells = done.cells
        if done.births:
            self._extend(done.births, node)
        return done.values if done.births else None

    def _extend(self, births: list[Births], but: int | None) -> None:
        for other, values in self._known.items():
            if other in self._flat:
                continue
            if other != but:
                self._put(other, extended(self.numpy(values), births))
        for other in [i for i in self._known if i in self._flat and i != but]:
            del self._known[other]

    def _put(self, node: int, values: Floats) -> None:
        shape = (self._flat[node] if node in self._flat else self._known[node]).shape[1:]
        like = self.sizes[node]
        self._known[node] = torch.from_numpy(np.ascontiguousarray(values)).to(like).view(-1, *shape)

    def _steepest(self, values: Floats) -> Floats:
        """Return the largest slope of each function along an edge, `(u,)`."""
        one, other = self.cells.loop, self.cells.ends
        length = np.linalg.norm(self.cells.places[one] - self.cells.places[other], axis=1)
        length = np.where(length > 0, length, np.inf)
        return np.abs((values[one] - values[other]) / length[:, None]).max(0)

    def _compare(self, node: int, operation: Largest) -> None:
        """Cut the cells where another entry of a window becomes its largest."""
        windows = operation.members(self.sizes[node].shape[1:]).numpy()
        pairs = _pairs(windows)
        if not len(pairs):
            return
        values, size = self.numpy(self.values(node)), self.numpy(self.sizes[node])[0]
        zero = ZERO * (size[pairs[:, 0]] + size[pairs[:, 1]])
        before = len(self.cells.places)
        tags, self.cells = self.cells.tag, self.cells.tagged()
        self._cut(values[:, pairs[:, 0]] - values[:, pairs[:, 1]], zero, None)
        parents = self.cells.tag
        if len(self.cells) > len(tags):
            middles = self.cells.middles(self.numpy(self.values(node)))
            pattern = _winners(middles, windows, ZERO * size)
            _, group = np.unique(
                np.concatenate([parents[:, None], pattern], axis=1), axis=0, return_inverse=True
            )
            _, first = np.unique(group, return_index=True)
            self.cells = straightened(merged(self.cells, group.reshape(-1)), before)
            parents = parents[first][self.cells.tag]
        self.cells = self.cells.tagged(tags[parents])


def _pairs(windows: Integers) -> Integers:
    """Return the pairs of places that share a window, each once, `(m, 2)`."""
    one, other = np.triu_indices(windows.shape[1], 1)
    pairs = np.stack([windows[:, one], windows[:, other]], axis=2).reshape(-1, 2)
    pairs = pairs[(pairs >= 0).all(1)]
    pairs.sort(axis=1)
    return np.unique(pairs, axis=0)


def _winners(values: Floats, windows: Integers, slack: Floats) -> Integers:
    """Return the first of the largest entries of each window, `(p, windows)`."""
    inside = windows >= 0
    entries = np.where(inside, values[:, windows], -np.inf)
    near = entries >= entries.max(2, keepdims=True) - 4.0 * slack[windows]
    return near.argmax(2)
