"""A network as a list of steps, and what it can return for all inputs of a ball."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._relaxation._operation import SMALL, Operation, Range, ScaledBall, dot

__all__ = ["Node", "Program", "ball_range", "margins_of"]

# Coefficients held at once while ranges inside are tightened: 16 MiB in float32.
_ELEMENTS = 2**22


@dataclass(frozen=True, eq=False)
class Node:
    """One step, and the numbers of the nodes that it takes.

    Attributes:
        operation: What it does.
        inputs: Nodes: 0 is the input, i + 1 the result of step i.
        name: What it is in the model, for messages.
    """

    operation: Operation
    inputs: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Program:
    """A network as steps in the order of evaluation; `output` is the node of its logits.

    Attributes:
        steps: The steps.
        output: Number of the node that holds the logits, `(n, k)`.
    """

    steps: tuple[Node, ...]
    output: int

    @property
    def needed(self) -> set[int]:
        """The nodes that the output depends on."""
        nodes = {self.output}
        for index in range(self.output, 0, -1):
            if index in nodes:
                nodes.update(self.steps[index - 1].inputs)
        return nodes

    def uses(self) -> dict[int, int]:
        """Return the nodes that are needed, each with the number of the last step that takes it."""
        needed = self.needed
        last = dict.fromkeys(needed, 0)
        for index, step in enumerate(self.steps):
            if index + 1 in needed:
                last.update(dict.fromkeys(step.inputs, index))
        last[self.output] = len(self.steps)
        return last

    def values(self, points: Tensor) -> dict[int, Tensor]:
        """Return the entries of every node that is needed, `(n, *shape)` each."""
        nodes, needed = {0: points}, self.needed
        for index, step in enumerate(self.steps):
            if index + 1 in needed:
                nodes[index + 1] = step.operation.apply([nodes[i] for i in step.inputs])
        return nodes

    def agrees(self, point: Tensor, logits: Tensor, unit: float) -> bool:
        """Return whether the steps do what the model does, at one point.

        Hooks, a `forward` of its own, and code that branches on values make the two differ.

        Args:
            point: The point, `(1, *d)`.
            logits: What the model returns for it, `(1, k)`.
            unit: The unit of rounding of the model.
        """
        end = self.ranges(Range(point, point), unit)[self.output]
        # A softmax at the end is left out, which shifts all logits alike.
        if logits.shape[1] == 1:
            slack = 16.0 * unit * (logits.abs() + end.size)
            return bool(((logits >= end.low - slack) & (logits <= end.high + slack)).all())
        shift = logits[:, :1]
        low, high = end.low - end.high[:, :1], end.high - end.low[:, :1]
        slack = 16.0 * unit * (logits.abs() + shift.abs() + end.size)
        change = logits - shift
        return bool(((change >= low - slack) & (change <= high + slack)).all())

    def ranges(self, inputs: Range, unit: float, *, max_units: int = 0) -> list[Range]:
        """Return the range of every node.

        Args:
            inputs: Range of the input.
            unit: The unit of rounding; 0 for bounds that are trained on.
            max_units: Widest node whose range is tightened by linear bounds, where its entries
                are bent next.
        """
        ranges, tight = [inputs], set()
        for step in self.steps:
            for node in () if step.operation.is_affine else step.inputs:
                narrow = ranges[node].low[0].numel() <= max_units
                if narrow and not ranges[node].is_exact and node not in tight:
                    wanted = step.operation.unsettled(ranges[node])
                    ranges[node] = self._tightened(node, ranges, wanted, unit)
                    tight.add(node)
            sources = [ranges[node] for node in step.inputs]
            ranges.append(step.operation.range(sources, unit))
        return ranges

    def lower(
        self,
        coefficients: Tensor,
        ranges: list[Range],
        unit: float,
        *,
        node: int | None = None,
        to_first_bend: bool = False,
    ) -> Tensor:
        """Return lower bounds of sums over a node, `(n, s)` in float64.

        The coefficients are carried back step by step, and at every affine step what is left is
        bounded by the ranges there too; the largest of all these bounds is returned. The first of
        them are interval bounds, the last is that of the linear relaxation.

        Args:
            coefficients: Factors of the entries of the node, `(n, s, *shape)`.
            ranges: Of all nodes.
            unit: The unit of rounding.
            node: Which node; `None` for the output.
            to_first_bend: Stop at the last activation of the network: interval bounds alone.
        """
        node = self.output if node is None else node
        constant = coefficients.new_zeros(coefficients.shape[:2], dtype=torch.float64)
        ahead = {node: coefficients}
        best = self._least(ahead, ranges, constant, unit)
        for index in range(node, 0, -1):
            if index not in ahead:
                continue
            step = self.steps[index - 1]
            if to_first_bend and not step.operation.is_affine:
                break
            sources = [ranges[i] for i in step.inputs]
            factors, more = step.operation.back(ahead.pop(index), sources, unit)
            constant = constant + more
            for i, factor in zip(step.inputs, factors, strict=True):
                if i not in ahead:
                    ahead[i] = factor
                    continue
                ahead[i] = ahead[i] + factor
                constant = constant - SMALL * unit * dot(ahead[i].abs(), ranges[i].size)
            if step.operation.is_affine:
                best = torch.fmax(best, self._least(ahead, ranges, constant, unit))
        return best

    @staticmethod
    def _least(
        ahead: dict[int, Tensor], ranges: list[Range], constant: Tensor, unit: float
    ) -> Tensor:
        for node, factors in ahead.items():
            constant = constant + ranges[node].least(factors, unit)
        return constant

    def _tightened(self, node: int, ranges: list[Range], wanted: Tensor, unit: float) -> Range:
        """Return the range of a node by linear bounds, for those entries that are wanted."""
        old = ranges[node]
        low, high = old.low.flatten(1).clone(), old.high.flatten(1).clone()
        mask = wanted.flatten(1)
        units = mask.any(0).nonzero().flatten()
        widest = max(each.low[0].numel() for each in ranges)
        chunk = max(_ELEMENTS // (2 * len(low) * widest), 1)
        for part in torch.split(units, chunk):
            signs = low.new_zeros(2, len(part), low.shape[1])
            rows = torch.arange(len(part), device=low.device)
            signs[0, rows, part], signs[1, rows, part] = 1.0, -1.0
            start = signs.view(1, -1, *old.low.shape[1:]).expand(len(low), *[-1] * old.low.dim())
            bounds = self.lower(start, ranges, unit, node=node)
            # Rounded outwards into the dtype of the network.
            bounds = (bounds - SMALL * unit * bounds.abs()).to(low.dtype).view(len(low), 2, -1)
            chosen = mask[:, part]
            low[:, part] = torch.where(chosen, torch.fmax(low[:, part], bounds[:, 0]), low[:, part])
            high[:, part] = torch.where(
                chosen, torch.fmin(high[:, part], -bounds[:, 1]), high[:, part]
            )
        return Range(low.view_as(old.low), high.view_as(old.high))


def ball_range(
    points: Tensor, radius: Tensor, norm: float, box: tuple[Tensor, Tensor], unit: float
) -> Range:
    """Return the range of the inputs within a radius of points, inside a box.

    Args:
        points: The centres, `(n, *d)`, inside the box.
        radius: One a point, `(n,)`.
        norm: 2 or infinity.
        box: Smallest and largest values; they broadcast against the points.
        unit: The unit of rounding.
    """
    reach = radius.view(-1, *[1] * (points.dim() - 1))
    slack = SMALL * unit * (points.abs() + reach) if unit else 0.0
    low = torch.maximum(points - reach - slack, box[0])
    high = torch.minimum(points + reach + slack, box[1])
    ball = None if math.isinf(norm) else ScaledBall(points, radius, torch.ones_like(points[:1]))
    return Range(low, high, is_free=True, is_exact=True, ball=ball)


def margins_of(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return the coefficients of the logit of each label less that of every other class.

    Args:
        labels: `(n,)`.
        classes: How many there are, k.
        dtype: Of the coefficients.

    Returns:
        `(n, k - 1, k)`, the other classes in their order.
    """
    unit = torch.eye(classes, dtype=dtype, device=labels.device)
    every = unit[labels].unsqueeze(1) - unit
    others = torch.arange(classes - 1, device=labels.device)
    others = others + (others >= labels.unsqueeze(1)).long()
    return every.gather(1, others.unsqueeze(2).expand(-1, -1, classes))
