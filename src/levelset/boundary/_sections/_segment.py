"""The linear pieces of a network along a segment, layer by layer, a stretch at a time."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._program import Node, Program
from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sections._subdivision import ZERO
from levelset.boundary._sections._walk import Walk

__all__ = ["Stretch", "stretch", "ties"]

# Knots of one interval nearer than this share of it are one.
_NEAR = 1e-12


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a segment, cut into linear pieces.

    Attributes:
        knots: Where it begins, bends and ends, in order, `(n,)`.
        logits: There, `(n, k)`.
        slack: Differences of logits that count as 0.
    """

    knots: Floats
    logits: Floats
    slack: float


def stretch(program: Program, basis: Tensor, begin: float, end: float) -> Stretch:
    """Return the pieces of a network on a part of a segment.

    Args:
        program: The network, piecewise linear.
        basis: The start of the segment and the way to its end, `(2, *d)`.
        begin: Where the part begins, 0 to 1.
        end: Where it ends.
    """
    walk = _Walk(program, basis, np.array([begin, end]))
    logits = walk.run().cpu().numpy()
    size = float(walk.sizes[program.output].max())
    return Stretch(walk.knots, logits, 2.0 * ZERO * size)


class _Walk(Walk):
    """Nodes of a network at the knots of a segment.

    Attributes:
        knots: The knots so far, in order.
    """

    def __init__(self, program: Program, basis: Tensor, knots: Floats) -> None:
        super().__init__(program, basis, basis[:1].abs() + basis[1:].abs())
        self.knots = knots

    def values(self, node: int) -> Tensor:
        """Return the entries of a node at the knots, `(n, *shape)`."""
        if node not in self._known:
            base, slope = self._flat[node]
            places = torch.from_numpy(self.knots).to(slope)
            self._known[node] = base + places.view(-1, *[1] * base.dim()) * slope
        return self._known[node]

    def bend(self, step: Node) -> None:
        """Put knots where a step bends."""
        (node,) = step.inputs
        if isinstance(step.operation, Largest):
            self._compare(node, step.operation)
        for kink in step.operation.kinks or ():
            self._pass(node, kink)

    def _pass(self, node: int, kink: float) -> None:
        """Put knots where entries of a node pass a number."""
        values = self.values(node).flatten(1) - kink if kink else self.values(node).flatten(1)
        zero = ZERO * (self.sizes[node].flatten(1) + abs(kink))
        above, below = values > zero, values < -zero
        crossing = (above[:-1] & below[1:]) | (below[:-1] & above[1:])
        interval, unit = (index.cpu() for index in crossing.nonzero(as_tuple=True))
        ahead, behind = values[interval, unit], values[interval + 1, unit]
        share = (ahead / (ahead - behind)).cpu().numpy()
        rows = self._insert(interval.numpy(), share)
        if len(rows):
            values = self.values(node).flatten(1)
            values[torch.from_numpy(rows), unit] = kink

    def _compare(self, node: int, operation: Largest) -> None:
        """Put knots where another entry of a window becomes its largest."""
        values = self.values(node)
        places = operation.pool(values)[1].flatten(1)
        # Where one entry is the largest at both ends of an interval, it is so between.
        interval, window = (places[:-1] != places[1:]).nonzero(as_tuple=True)
        windows = operation.members(values.shape[1:]).to(values.device)[window]
        size = self.sizes[node].flatten(1)[0]
        slack = 2.0 * ZERO * size[windows].amax(1, keepdim=True)
        ends = []
        for row in (interval, interval + 1):
            entries = values.flatten(1)[row.unsqueeze(1), windows]
            ends.append(torch.where(windows >= 0, entries, -torch.inf))
        near = [each >= each.amax(1, keepdim=True) - slack for each in ends]
        open_ = ~(near[0] & near[1]).any(1)
        at, share = ties(*(each[open_].cpu().numpy() for each in ends))
        self._insert(interval[open_].cpu().numpy()[at], share)

    def _insert(self, interval: Integers, share: Floats) -> Integers:
        """Put knots into intervals, and return the row of each."""
        if not len(interval):
            return interval
        order = np.lexsort((share, interval))
        interval, share = interval[order], share[order]
        fresh = np.ones(len(order), dtype=bool)
        fresh[1:] = (interval[1:] != interval[:-1]) | (share[1:] - share[:-1] > _NEAR)
        group = np.cumsum(fresh) - 1
        at, part = interval[fresh], share[fresh]
        rows = at + 1 + np.arange(len(at))
        total = len(self.knots) + len(at)
        old = np.ones(total, dtype=bool)
        old[rows] = False
        places, index = torch.from_numpy(np.flatnonzero(old)), torch.from_numpy(rows)
        for node, values in list(self._known.items()):
            if node in self._flat:
                del self._known[node]
                continue
            wide = values.new_empty(total, *values.shape[1:])
            wide[places] = values
            weight = torch.from_numpy(part).to(values).view(-1, *[1] * (values.dim() - 1))
            wide[index] = torch.lerp(values[at], values[at + 1], weight)
            self._known[node] = wide
        knots = np.empty(total)
        knots[old] = self.knots
        knots[rows] = self.knots[at] + part * (self.knots[at + 1] - self.knots[at])
        self.knots = knots
        back = np.empty(len(order), dtype=np.int64)
        back[order] = rows[group]
        return back


def ties(first: Floats, second: Floats) -> tuple[Integers, Floats]:
    """Return where the two largest of affine functions tie between two ends.

    Args:
        first: Values at one end, a row a set of functions, `(m, q)`.
        second: At the other.

    Returns:
        The row of each tie, and how far along it lies, 0 to 1.
    """
    rows, shares = [], []
    one, other = np.triu_indices(first.shape[1], 1)
    with np.errstate(invalid="ignore", over="ignore"):
        for i, j in zip(one, other, strict=True):
            ahead, behind = first[:, i] - first[:, j], second[:, i] - second[:, j]
            row: Integers = np.flatnonzero(ahead * behind < 0)
            share = ahead[row] / (ahead[row] - behind[row])
            there = first[row] + share[:, None] * (second[row] - first[row])
            best = there[:, [i, j]].max(1)
            others = np.delete(there, [i, j], axis=1)
            top: Booleans = np.all(others <= best[:, None], axis=1)
            rows.append(row[top])
            shares.append(share[top])
    return np.concatenate(rows), np.concatenate(shares)
