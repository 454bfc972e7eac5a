"""The share of every training point in every output: the path walked with both sides of it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from levelset._recording._rule import Rule
from levelset._tools.batches import row_batches
from levelset.kernels._blocks import Block, Dense, Outer, matrix_of
from levelset.kernels._path import Path, Step
from levelset.kernels._squares import Squares

__all__ = ["Sums", "shares_at_once", "shares_backwards", "sizes"]


# Length at which products over several steps are made.
_LONG = 800
# Numbers of the products of inputs that are made at once, few enough for the cache.
_CACHED = 2**22


class Sums:
    """Sums of products of gradients: of n training points, folded, with those of k outputs of m.

    Several steps are multiplied at once, so that the sums are passed over seldom. Where the input
    of a layer is the same at every step, as the first one's is, its outer products are summed over
    the steps before they meet the input; in the last layer, whose outer products are those of the
    outputs themselves, the inner ones are.

    Args:
        sums: Zeros, `(n, k, m)`, to which the products are added.
    """

    def __init__(self, sums: Tensor) -> None:
        self.sums = sums
        self._fixed: dict[tuple[str, ...], tuple[Tensor, Outer]] = {}
        self._inputs: dict[tuple[str, ...], Tensor] = {}
        self._waiting: dict[tuple[str, ...], list[tuple[Outer, Tensor, float]]] = {}

    def add(
        self, train: list[Block], test: list[Block], factor: float, rows: Tensor | None
    ) -> None:
        """Add the products of the gradients of some rows, all for `None`."""
        for one, other in zip(train, test, strict=True):
            if isinstance(one, Outer) and isinstance(other, Outer):
                self._outer(one, other, factor, rows)
            else:
                values = other.dense().values.transpose(0, 1).flatten(0, 1)
                _add_product(self.sums.flatten(1), one.dense().values, values, factor, rows)

    def result(self) -> Tensor:
        """Return the sums, `(n, k, m)`."""
        for names in list(self._waiting):
            self._flush(names)
        for names, (sums, other) in self._fixed.items():
            one = Outer(names, self._inputs[names], sums)
            self.sums.addcmul_(sums.view_as(self.sums), one.inner(other).unsqueeze(1))
        self._fixed.clear()
        return self.sums

    def _outer(self, one: Outer, other: Outer, factor: float, rows: Tensor | None) -> None:
        if other.is_fixed and not other.is_unit:
            sums = self._fixed_sums(one, other, rows)
            values = other.output.transpose(0, 1).flatten(0, 1)
            if rows is None:
                self._wait(one, factor * values)
            else:
                _add_product(sums, one.output, values, factor, rows)
        elif other.is_unit and rows is None:
            self._wait(
                Outer(one.names, one.input, factor * one.output), other.input, other.constant
            )
        else:
            self._add_pairs(one, other, factor, rows)

    def _add_pairs(self, one: Outer, other: Outer, factor: float, rows: Tensor | None) -> None:
        """Add the products of inputs times those of outputs, few training points at a time."""
        values = None if other.is_unit else other.output.transpose(0, 1).flatten(0, 1)
        for part in row_batches(len(one.output), max(_CACHED // self.sums[0].numel(), 1)):
            some = Outer(one.names, one.input[part], one.output[part])
            inner = some.inner(other).unsqueeze(1)
            if values is None:
                outer = some.output.unsqueeze(2)
            else:
                outer = (some.output @ values.T).view(len(inner), -1, inner.shape[2])
            if rows is None:
                self.sums[part].addcmul_(inner, outer, value=factor)
            else:
                self.sums.index_add_(0, rows[part], inner * outer, alpha=factor)

    def _wait(self, one: Outer, other: Tensor, constant: float = 1.0) -> None:
        """Leave a product of all rows until there are some of its layer."""
        waiting = self._waiting.setdefault(one.names, [])
        waiting.append((one, other, constant))
        if len(waiting) * other.shape[1] >= _LONG:
            self._flush(one.names)

    def _flush(self, names: tuple[str, ...]) -> None:
        """Multiply what waits of a layer."""
        ours, theirs, constants = zip(*self._waiting.pop(names), strict=True)
        if names in self._fixed:
            outputs = torch.cat([one.output for one in ours], 1)
            self._fixed[names][0].addmm_(outputs, torch.cat(theirs, 1).T)
            return
        test = torch.stack(theirs).transpose(1, 2)  # (t, p, m)
        for rows in row_batches(len(self.sums), max(_CACHED // (len(ours) * test.shape[2]), 1)):
            inner = torch.stack([one.input[rows] for one in ours]) @ test  # (t, b, m)
            outer = torch.stack([one.output[rows] for one in ours], 2)  # (b, k, t)
            part = self.sums[rows].baddbmm_(outer, inner.transpose(0, 1))
            if ours[0].has_bias:
                part += (outer @ outer.new_tensor(constants)).unsqueeze(2)

    def _fixed_sums(self, one: Outer, other: Outer, rows: Tensor | None) -> Tensor:
        if other.names not in self._fixed:
            empty = one.input.new_zeros(len(self.sums), one.input.shape[1])
            self._inputs[other.names] = one.input if rows is None else empty
            self._fixed[other.names] = torch.zeros_like(self.sums).flatten(1), other
        if rows is not None:
            self._inputs[other.names][rows] = one.input
        return self._fixed[other.names][0]


def _add_product(
    sums: Tensor, one: Tensor, other: Tensor, factor: float, rows: Tensor | None
) -> None:
    """Add `one @ other.T` to some rows of sums, to all for `None`."""
    if rows is None:
        sums.addmm_(one, other.T, alpha=factor)
        return
    for part in row_batches(len(one), max(_CACHED // sums.shape[1], 1)):
        sums.index_add_(0, rows[part], one[part] @ other.T, alpha=factor)


def sizes(path: Path, points: Tensor) -> tuple[int, int, int]:
    """Return how many numbers the gradients of a training point, a test point and their state take.

    Args:
        path: The path.
        points: Test points, at least one.

    Returns:
        Numbers of one training point and of one test point at one step, and of what is carried
        along for one test point where the optimiser has a memory.
    """
    step = path.first()
    test = path.parts(step, points[:1])
    k = next(_outputs(block) for block in test[0][1])
    train = path.gradients.folded(path.named(step.before), path.points[:1], points.new_zeros(1, k))
    carried = sum(_carried(block, path.recording.plan.rule) for block in test[0][1])
    one = sum(each.numbers() for each in train if isinstance(each, Dense))
    one += sum(each.width + each.output.shape[1] for each in train if isinstance(each, Outer))
    other = sum(_numbers(each) for each in test[0][1]) * len(test)
    return one, other, carried


def _outputs(block: Block) -> int:
    return (block.output if isinstance(block, Outer) else block.values).shape[1]


def _numbers(block: Block) -> int:
    if isinstance(block, Outer):
        return block.width + block.output[0].numel()
    return block.numbers()


def _carried(block: Block, rule: Rule) -> int:
    is_short = isinstance(block, Outer) and (block.is_fixed or block.is_unit)
    return _numbers(block) if is_short and not rule.is_adaptive else block.numbers()


def shares_at_once(
    path: Path, points: Tensor, k: int, block: int, piece: int, out: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the shares of blocks of training points, `(b, k, m)`, for a rule without memory.

    Args:
        path: The path.
        points: The test points, `(m, *d)`.
        k: Number of outputs.
        block: Training points a block: for each, the path is walked once.
        piece: Training points whose gradients are taken at once.
        out: Zeros to write them into, `(n, k, m)`.
    """
    for rows in row_batches(len(path.points), block):
        empty = (
            points.new_zeros(rows.stop - rows.start, k, len(points)) if out is None else out[rows]
        )
        sums = Sums(empty)
        for step in path.steps():
            chosen = _within(step, rows)
            if len(chosen[0]) == 0:
                continue
            parts = path.parts(step, points)
            for at, places, train in _folded(path, step, chosen, piece):
                for weight, test in parts:
                    sums.add(train, test, -step.rate * weight, None if at else places)
        yield rows, sums.result()


def _within(step: Step, rows: slice) -> tuple[Tensor, Tensor]:
    """Return the positions in a batch of the points of a block, and theirs in the block."""
    inside = ((step.rows >= rows.start) & (step.rows < rows.stop)).nonzero().flatten()
    return inside, step.rows[inside] - rows.start


def _folded(
    path: Path, step: Step, chosen: tuple[Tensor, Tensor], piece: int
) -> Iterator[tuple[bool, Tensor, list[Block]]]:
    """Yield the gradients of a step's points, some at a time, with their places in the block."""
    inside, places = chosen
    # All of the block, and beyond it all of the batch.
    fills_block = step.is_full and len(inside) <= piece
    is_batch = len(inside) == len(step.rows) <= piece
    for part in row_batches(len(inside), piece):
        train = path.folded(step, None if is_batch else inside[part])
        yield fills_block, places[part], train


def shares_backwards(
    path: Path, points: Tensor, k: int, piece: int, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return shares for any rule: what a gradient does to all later steps is carried backwards.

    With the memory m of the rule, the product of the test gradients with all steps is linear in the
    training gradients; its coefficients follow from the last step to the first.

    Args:
        path: The path.
        points: The test points, `(m, *d)`.
        k: Number of outputs.
        piece: Training points whose gradients are taken at once.
        out: Zeros to write the shares into, `(n, k, m)`.

    Returns:
        Shares of the training points, `(n, k, m)`, and of the weight decay, `(m, k)`.
    """
    rule = path.recording.plan.rule
    sums = Sums(points.new_zeros(len(path.points), k, len(points)) if out is None else out)
    decay = points.new_zeros(len(points), k)
    squares = Squares(path) if rule.is_adaptive else None
    carried: list[Block] | None = None
    for shard in path.recording.shards(backwards=True):
        scales = None if squares is None else squares.scales(shard)
        for number in reversed(range(shard.numbers[0], shard.numbers[-1])):
            step = path.step(shard, number)
            parts = path.parts(step, points)
            direct, through = rule.weights_of(number)
            scale = None if scales is None else path.named(scales[number - shard.numbers[0]])
            carried = _blended(carried, rule.keep, parts, -step.rate * through, scale)
            reach = carried
            if direct:
                reach = _blended(carried, rule.take, parts, -step.rate * direct, scale)
            factor = 1.0 if direct else rule.take
            everything = (torch.arange(len(step.rows), device=points.device), step.rows)
            for whole, places, train in _folded(path, step, everything, piece):
                sums.add(train, reach, factor, None if whole else places)
            decay += _decayed(path, step, rule, parts, reach, factor)
    return sums.result(), decay


def _decayed(
    path: Path, step: Step, rule: Rule, parts: list[tuple[float, list[Block]]],
    reach: list[Block], factor: float,
) -> Tensor | float:  # fmt: skip
    """Return what the weight decay of one step does, `(m, k)`."""
    if rule.weight_decay == 0.0:
        return 0.0
    weights = path.named(step.before)
    if not rule.decays_apart:
        return rule.weight_decay * factor * _times(reach, weights)
    whole = sum(share * _times(blocks, weights) for share, blocks in parts)
    return -step.rate * rule.weight_decay * whole


def _times(blocks: list[Block], weights: dict[str, Tensor]) -> Tensor:
    first, *others = [block.times(weights) for block in blocks]
    return sum(others, start=first)


def _blended(
    carried: list[Block] | None, keep: float, parts: list[tuple[float, list[Block]]],
    factor: float, scale: dict[str, Tensor] | None,
) -> list[Block]:  # fmt: skip
    """Return what is carried times `keep`, plus the gradients times `factor` and their scale."""
    for share, blocks in parts:
        old = [None] * len(blocks) if carried is None else carried
        carried = [
            _blend(o, keep, b, factor * share, scale) for o, b in zip(old, blocks, strict=True)
        ]
        keep = 1.0
    assert carried is not None, "an integral has a part at least"
    return carried


def _blend(
    old: Block | None, keep: float, new: Block, factor: float, scale: dict[str, Tensor] | None
) -> Block:
    if scale is None and isinstance(new, Outer) and not isinstance(old, Dense):
        if new.is_fixed:
            output = factor * new.output + (0.0 if old is None else keep * old.output)
            return Outer(new.names, new.input, output, is_fixed=True)
        if new.is_unit:
            inner = factor * new.input + (0.0 if old is None else keep * old.input)
            constant = factor * new.constant + (0.0 if old is None else keep * old.constant)
            return Outer(new.names, inner, new.output, constant=constant)
    values = factor * new.dense().values
    if scale is not None:
        values *= matrix_of(new.names, scale).reshape(-1)
    if old is not None:
        values += keep * old.dense().values
    return Dense(new.names, values)
