"""Kernel values between any points: products of their gradients along the path."""

import torch
from torch import Tensor

from levelset._tools.batches import row_batches
from levelset.kernels._blocks import Block, Outer, trace_products
from levelset.kernels._integrals import Part
from levelset.kernels._path import Path, Step
from levelset.kernels._shares import sizes

__all__ = ["Features"]


class Features:
    """Gradients of points along a path, and their products, averaged over the steps.

    Args:
        path: The path.
        memory: Bytes that the gradients of both sides may take.
    """

    def __init__(self, path: Path, memory: int) -> None:
        self._path, self._memory = path, memory

    def products(self, a: Tensor, b: Tensor, *, symmetric: bool, stride: int) -> Tensor:
        """Return the products, `(n, m)`."""
        path, total, count = self._path, a.new_zeros(len(a), len(b)), 0
        size = self._rows()
        known_a, known_b = self._known(a), self._known(b)
        for step in path.steps(stride=stride) if total.numel() else ():
            count += 1
            for rows in row_batches(len(a), size):
                left = self._moving(step, a[rows], known_a[rows] if symmetric else None)
                for columns in row_batches(len(b), size):
                    is_one = a is b and rows == columns and symmetric
                    right = left if is_one else self._side(step, b[columns], known_b[columns],
                                                           symmetric=symmetric)  # fmt: skip
                    total[rows, columns] += _averaged(left, right)
        return total / max(count, 1)

    def diagonal(self, points: Tensor, *, stride: int) -> Tensor:
        """Return the product of each point with itself, `(n,)`."""
        total, count = points.new_zeros(len(points)), 0
        known = self._known(points)
        for step in self._path.steps(stride=stride) if len(points) else ():
            count += 1
            for rows in row_batches(len(points), self._rows()):
                for share, blocks in self._moving(step, points[rows], known[rows]):
                    total[rows] += share * sum(map(_squares, blocks))
        return total / max(count, 1)

    def _rows(self) -> int:
        one = sizes(self._path, self._path.points[:1])[1] * self._path.points.element_size()
        return max(self._memory // (8 * one), 1)

    def _known(self, points: Tensor) -> Tensor:
        """Return which points are training points, bit for bit, `(n,)`."""
        theirs = {row.tobytes() for row in self._path.points.flatten(1).cpu().numpy()}
        own = [row.tobytes() in theirs for row in points.flatten(1).cpu().numpy()]
        return torch.tensor(own, dtype=torch.bool, device=points.device)

    def _side(
        self, step: Step, points: Tensor, known: Tensor, *, symmetric: bool
    ) -> list[Part]:  # fmt: skip
        if symmetric:
            return self._moving(step, points, known)
        return [(1.0, self._still(step, points))]

    def _still(self, step: Step, points: Tensor) -> list[Block]:
        """Return gradients at the start of a step."""
        state = self._path.named(step.before)
        return self._path.gradients.each(state, state, points)

    def _moving(self, step: Step, points: Tensor, known: Tensor | None) -> list[Part]:
        """Return gradients along a step, but those of known points at its start."""
        if known is not None and bool(known.all()):
            return [(1.0, self._still(step, points))]
        parts = self._path.parts(step, points)
        if known is None or not bool(known.any()):
            return parts
        still = self._still(step, points)
        return [
            (share, [_chosen(known, s, b) for s, b in zip(still, blocks, strict=True)])
            for share, blocks in parts
        ]


def _chosen(known: Tensor, still: Block, moving: Block) -> Block:
    """Return the first block's gradients where a point is known, else the second's."""
    if isinstance(still, Outer) and isinstance(moving, Outer):
        inner = torch.where(known.unsqueeze(1), still.input, moving.input)
        outer = torch.where(known[:, None, None], still.output, moving.output)
        return Outer(still.names, inner, outer)
    values = still.dense().values
    chosen = torch.where(known[:, None, None], values, moving.dense().values)
    return type(still.dense())(still.names, chosen)


def _averaged(left: list[Part], right: list[Part]) -> Tensor:
    """Return the products of both sides, node by node; a side of one part counts for all nodes."""
    if len(left) == len(right):
        pairs = [(share, a, b) for (share, a), (_, b) in zip(left, right, strict=True)]
    elif len(left) == 1:
        pairs = [(share, left[0][1], b) for share, b in right]
    else:
        pairs = [(share, a, right[0][1]) for share, a in left]
    first, *others = [
        share * trace_products(x, y) for share, a, b in pairs for x, y in zip(a, b, strict=True)
    ]
    return sum(others, start=first)


def _squares(block: Block) -> Tensor:
    if isinstance(block, Outer):
        return block.inner_rows(block) * block.output.square().sum((1, 2))
    return block.values.square().sum((1, 2))
