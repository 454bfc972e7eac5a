"""The share of each training point in its own outputs: one product a point, not one a pair."""

import torch
from torch import Tensor

from levelset._recording._rule import Rule
from levelset._tools.batches import row_batches
from levelset.kernels._blocks import Block, Dense, Outer, matrix_of
from levelset.kernels._path import Path, Step
from levelset.kernels._squares import Squares

__all__ = ["own_shares"]


def own_shares(path: Path, k: int, size: int) -> Tensor:
    """Return the share of each training point in its own k outputs, `(n, k)`.

    Args:
        path: The path.
        k: Number of outputs.
        size: Points at once.
    """
    total = path.points.new_zeros(len(path.points), k)
    rule = path.recording.plan.rule
    squares = Squares(path) if rule.is_adaptive else None
    for rows in row_batches(len(total), size):
        memory = _Memories(rule, rows.stop - rows.start)
        for shard in path.recording.shards():
            scales = None if squares is None else squares.scales(shard)
            for number in range(shard.numbers[0], shard.numbers[-1]):
                step = path.step(shard, number)
                scale = None if scales is None else path.named(scales[number - shard.numbers[0]])
                total[rows] += _of_step(path, step, rows, memory, scale)
    return total


def _of_step(
    path: Path, step: Step, rows: slice, memory: "_Memories", scale: dict[str, Tensor] | None
) -> Tensor:
    """Return what one step adds to the shares of some points, `(b, k)`."""
    inside = ((step.rows >= rows.start) & (step.rows < rows.stop)).nonzero().flatten()
    places, pulls = step.rows[inside] - rows.start, path.pulls(step)
    state = path.named(step.before)
    total = pulls.new_zeros(rows.stop - rows.start, pulls.shape[1])
    if not memory.rule.has_memory:
        if len(inside) == 0:
            return total
        train = path.gradients.folded(state, path.points[step.rows[inside]], pulls[inside])
        for share, test in path.parts(step, path.points[step.rows[inside]]):
            for one, other in zip(train, test, strict=True):
                total[places] -= step.rate * share * _row_products(one, other)
        return total
    train = path.gradients.folded(state, path.points[rows], _spread(pulls, inside, places, total))
    moved = memory.step(step.number, train, scale)
    for share, test in path.parts(step, path.points[rows]):
        for one, other in zip(moved, test, strict=True):
            total -= step.rate * share * _row_products(one, other)
    return total


def _spread(pulls: Tensor, inside: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Return the pulls of all points, 0 for those that are not in the batch."""
    spread = torch.zeros_like(like)
    spread[places] = pulls[inside]
    return spread


class _Memories:
    """The memory of an optimiser for each point by itself."""

    def __init__(self, rule: Rule, rows: int) -> None:
        self.rule, self._rows = rule, rows
        self._memory: dict[tuple[str, ...], Tensor] = {}

    def step(self, number: int, train: list[Block], scale: dict[str, Tensor] | None) -> list[Block]:
        """Take in gradients; return what the step does with each point's, but for the rate."""
        direct, through = self.rule.weights_of(number)
        moved: list[Block] = []
        for block in train:
            values = block.dense().values
            old = self._memory.get(block.names)
            memory = self.rule.take * values + (0.0 if old is None else self.rule.keep * old)
            self._memory[block.names] = memory
            change = through * memory + (direct * values if direct else 0.0)
            if scale is not None:
                change = change * matrix_of(block.names, scale).reshape(-1)
            moved.append(Dense(block.names, change))
        return moved


def _row_products(train: Block, test: Block) -> Tensor:
    """Return the products row by row, of folded gradients with those of k outputs, `(n, k)`."""
    if isinstance(train, Outer) and isinstance(test, Outer):
        inner = train.inner_rows(test).unsqueeze(1)
        return inner * torch.einsum("nq,nkq->nk", train.output, test.output)
    values = train.dense().values
    if isinstance(test, Outer):
        matrices = values.view(len(values), -1, test.width)
        moved = torch.einsum("nqp,np->nq", matrices[:, :, : test.input.shape[1]], test.input)
        if test.has_bias:
            moved += test.constant * matrices[:, :, -1]
        return torch.einsum("nq,nkq->nk", moved, test.output)
    return torch.einsum("np,nkp->nk", values, test.values)
