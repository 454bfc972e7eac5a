"""What a network can do in cells of a plane: which classes, and which way their scores change."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._operation import Operation, gamma
from levelset._relaxation._program import Program
from levelset.boundary._sections._plane import Frame

__all__ = ["Bounds", "CellBounds"]

# Cells at once, and by how much sums of bounds in float32 are enlarged for their own rounding.
_AT_ONCE = 16
_OUTWARDS = 1.0 + 1e-4
# Rivals of the class at the middle for each of which a bound is sharpened, at most.
_RIVALS = 3
# The share of what a logit is summed from below which a difference in float64 counts as 0.
_ZERO = 1e-12
# Terms of a sum that are not counted by its layer: products with slopes, and their sums.
_TERMS = 8


class Bounds(NamedTuple):
    """What is certain in each of some cells.

    Attributes:
        top: The class at the middle, `(m,)`.
        rival: The only other class that may be ahead anywhere in the cell, `(m,)`: -1 where no
            other is, so that the cell has one class; -2 where several are.
        steady: Whether the score of the one less that of the other only rises or only falls along
            u, and along v, `(m, 2)`.
    """

    top: Tensor
    rival: Tensor
    steady: Tensor


@dataclass(frozen=True, eq=False)
class _Bend:
    """A step that bends, in some cells: affine but for a few of its entries, which are listed.

    Attributes:
        slope: Of each entry of the result; of windows, the place of the entry that is largest.
        cell: The cell of each that is listed, `(q,)`.
        place: Its place in the cell, `(q,)`.
        low: Its smallest slope, `(q,)`; of windows, of each entry, `(q, w)`.
        high: Its largest slope.
        value: By how much it is off at most.
        turns: By how much its slopes along u and v are, `(2, q)`.
    """

    slope: Tensor
    cell: Tensor
    place: Tensor
    low: Tensor
    high: Tensor
    value: Tensor
    turns: Tensor


class CellBounds:
    r"""Bounds of a piecewise linear network in cells of a plane.

    In a cell each node is taken for affine, $c + a x + b y$, within r. Units on one piece in all of
    the cell are exact; another takes the chord of its range, and adds to r. The difference of two
    logits is then off by at most $\sum_k |\lambda_k| r_k$ over all bends, with the derivatives
    $\lambda_k$ of the difference by the results of the bends, in intervals, as later bends may be
    on one piece or another. In the same way its slopes are off by $\sum_k |\lambda_k| s_k$, where
    $s_k$ is what another piece would change of the slope of the bend.

    Values at the middle are in float64; what they are off by in float32, which bounds its own
    rounding.

    Args:
        program: The network, piecewise linear, in float64.
        single: The same in float32.
        frame: The plane.
    """

    def __init__(self, program: Program, single: Program, frame: Frame) -> None:
        nodes = program.values(frame.origin)
        self.frame = frame
        self.shapes = {i: node.shape[1:] for i, node in nodes.items()}
        steps = [
            (index + 1, step, single.steps[index].operation)
            for index, step in enumerate(program.steps)
            if index + 1 in nodes
        ]
        self.offsets = {
            node: step.operation.apply([torch.zeros_like(nodes[i]) for i in step.inputs])
            for node, step, _ in steps
            if step.operation.is_affine
        }
        self.windows = {
            node: step.operation.members(self.shapes[step.inputs[0]]).to(frame.origin.device)
            for node, step, _ in steps
            if isinstance(step.operation, Largest)
        }
        bends = [node for node, step, _ in steps if not step.operation.is_affine]
        self.last = max(bends, default=0)
        if any(i < self.last for node, step, _ in steps if node > self.last for i in step.inputs):
            self.last = program.output
        self.steps = [part for part in steps if part[0] <= self.last]
        terms = max([getattr(op, "terms", 2) for _, _, op in steps], default=1)
        self.gamma = gamma(terms + _TERMS, torch.finfo(torch.float32).eps / 2)
        # What follows the last bend: a matrix `(k, e)`, and what it adds.
        shape = self.shapes[self.last]
        linear = {self.last: torch.eye(shape.numel()).to(frame.origin).view(-1, *shape)}
        base = {self.last: frame.origin.new_zeros(1, *shape)}
        for node, step, _ in steps:
            if node > self.last:
                linear[node] = step.operation.apply_linear([linear[i] for i in step.inputs])
                base[node] = step.operation.apply([base[i] for i in step.inputs])
        self._tail, self._base = linear[program.output].T.contiguous(), base[program.output]

    def bound(self, low: Tensor, high: Tensor) -> Bounds:
        """Return what is certain in cells, by their lower left and upper right corners `(m, 2)`."""
        pairs = zip(torch.split(low, _AT_ONCE), torch.split(high, _AT_ONCE), strict=True)
        return Bounds(*map(torch.cat, zip(*(self._bound(*pair) for pair in pairs), strict=True)))

    def _bound(self, low: Tensor, high: Tensor) -> Bounds:
        cells, rows = _Cells(self, (low + high) / 2, (high - low) / 2), torch.arange(len(low))
        value, slopes, spread = cells.end()
        logits = value @ self._tail.T + self._base
        top = logits.argmax(1)
        apart = self._tail[top].unsqueeze(1) - self._tail
        steep = torch.einsum("mkn,amn->amk", apart, slopes)
        slack = torch.einsum("mkn,mn->mk", apart.abs(), spread + _ZERO * value.abs())
        ahead = logits[rows, top].unsqueeze(1) - logits - steep.abs().sum(0)
        least = ahead - slack
        least[rows, top] = torch.inf
        steady = torch.zeros(len(low), 2, dtype=torch.bool, device=low.device)
        asked = torch.zeros_like(least, dtype=torch.bool)
        hopeful = (least <= 0).sum(1) <= _RIVALS
        for _ in range(_RIVALS):
            rival = least.masked_fill(asked, torch.inf).argmin(1)
            some = (hopeful & (least[rows, rival] <= 0) & ~asked[rows, rival]).nonzero().flatten()
            if not len(some):
                break
            rival = rival[some]
            off, turns = cells.remainders(apart[some, rival], some)
            least[some, rival] = torch.maximum(least[some, rival], ahead[some, rival] - off)
            asked[some, rival] = True
            open_ = least[some, rival] <= 0
            steady[some[open_]] = (steep[:, some, rival].abs() > turns).T[open_]
            # Of two rivals, or of one along neither axis, nothing is certain.
            left = (asked & (least <= 0)).sum(1)
            hopeful &= (left == 0) | ((left == 1) & steady.any(1))
        count = (least <= 0).sum(1)
        rival = torch.where(count == 0, -1, torch.where(count == 1, least.argmin(1), -2))
        return Bounds(top, rival, steady & (rival >= 0).unsqueeze(1))


class _Cells:
    """The nodes of a network in cells: value at the middle, slopes, and what they are off by."""

    def __init__(self, owner: CellBounds, middle: Tensor, half: Tensor) -> None:
        self._owner = owner
        frame = owner.frame
        ones = [1] * (frame.origin.dim() - 1)
        slopes = (half.T.reshape(2, -1, *ones) * frame.basis[1:].unsqueeze(1)).float()
        self._value = {0: frame.points(middle)}
        self._slopes = {0: slopes}
        self._spread = {0: torch.zeros_like(slopes[0])}
        # What rounding adds to the value and to the slopes of affine nodes.
        self._rounding: dict[int, Tensor] = {}
        self._bends: dict[int, _Bend] = {}
        for node, step, single in owner.steps:
            if step.operation.is_affine:
                self._affine(node, step.operation, single, step.inputs)
            elif isinstance(step.operation, Largest):
                self._largest(node, step.inputs[0])
            else:
                self._kinks(node, step.operation, step.inputs[0])

    def end(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slopes and what it is off by at the last node that bends, in float64."""
        node = self._owner.last
        return (
            self._value[node].flatten(1), self._slopes[node].flatten(2).double(),
            self._spread[node].flatten(1).double(),
        )  # fmt: skip

    def _affine(
        self, node: int, operation: Operation, single: Operation, inputs: tuple[int, ...]
    ) -> None:
        owner = self._owner
        value = operation.apply_linear([self._value[i] for i in inputs])
        self._value[node] = value + owner.offsets[node]
        slopes = single.apply_linear([self._slopes[i].flatten(0, 1) for i in inputs])
        self._slopes[node] = slopes.view(2, len(value), *slopes.shape[1:])
        widths = [
            torch.cat([self._spread[i], owner.gamma * _reach(self._slopes[i])]) for i in inputs
        ]
        spread, self._rounding[node] = (_OUTWARDS * single.spread(widths)).chunk(2)
        self._spread[node] = spread + self._rounding[node]

    def _kinks(self, node: int, operation: Operation, source: int) -> None:
        """Bend each entry at some numbers."""
        value, slopes, spread = (part[source] for part in (self._value, self._slopes, self._spread))
        width = _OUTWARDS * (_reach(slopes) + spread)
        low, high = value - width, value + width
        kinks = operation.kinks or ()
        several = torch.zeros_like(low, dtype=torch.bool)
        for kink in kinks:
            several |= (low < kink) & (high > kink)
        slope = operation.piece([value >= kink for kink in kinks])[0].float().expand_as(width)
        # `nonzero` in order of the cells.
        cell, place = several.flatten(1).nonzero(as_tuple=True)
        value = operation.apply([value])
        slopes, spread = slope * slopes, slope * spread
        chord, middle, off = _chord(
            operation, low.flatten(1)[cell, place], high.flatten(1)[cell, place]
        )
        before = self._slopes[source].flatten(2)[:, cell, place]
        for whole, part in (
            (value, chord.double() * self._value[source].flatten(1)[cell, place] + middle),
            (spread, chord * self._spread[source].flatten(1)[cell, place] + off),
        ):
            whole.view(len(value), -1)[cell, place] = part
        slopes.view(2, len(value), -1)[:, cell, place] = chord * before
        ends = _slopes_between(operation, low.flatten(1)[cell, place], high.flatten(1)[cell, place])
        turn = torch.maximum(ends[1] - chord, chord - ends[0])
        self._value[node], self._slopes[node], self._spread[node] = value, slopes, spread
        self._bends[node] = _Bend(slope, cell, place, *ends, off, _OUTWARDS * turn * before.abs())

    def _largest(self, node: int, source: int) -> None:
        """Take the largest entry of each window."""
        members, shape = self._owner.windows[node], self._owner.shapes[node]
        value, slopes, spread = (
            part[source].flatten(start)
            for part, start in ((self._value, 1), (self._slopes, 2), (self._spread, 1))
        )
        high = value + _OUTWARDS * (_reach(slopes) + spread)
        inside = members >= 0
        places = members.clamp(min=0)
        entries = torch.where(inside, value[:, places], -torch.inf)
        best, first = entries.max(2)
        winner = places.expand(len(value), -1, -1).gather(2, first.unsqueeze(2))[..., 0]
        tops = torch.where(inside, high[:, places], -torch.inf)
        tops.scatter_(2, first.unsqueeze(2), -torch.inf)
        least = 2.0 * best - high.gather(1, winner)
        cell, place = (tops.amax(2) > least).nonzero(as_tuple=True)
        several = slopes.gather(2, winner.expand(2, -1, -1))
        wide = spread.gather(1, winner)
        # The windows in which the ranges of two entries meet.
        mine = winner[cell, place].unsqueeze(1)
        rows, columns = cell.unsqueeze(1), places[place]
        change = slopes[:, rows, columns] - slopes[:, rows, mine]
        reach = _OUTWARDS * (_reach(change) + spread[rows, columns] + spread[rows, mine])
        over = value[rows, columns] - value[rows, mine] + reach
        own = columns == mine
        may = ((over > 0) | own) & inside[place]
        excess = torch.where(may & ~own, over, 0.0).amax(1).clamp(min=0.0) / 2
        off = excess.float() * _OUTWARDS
        best[cell, place] += excess
        wide[cell, place] += off
        view = (len(value), *shape)
        self._value[node], self._spread[node] = best.view(view), wide.view(view)
        self._slopes[node] = several.view(2, *view)
        alone = may.sum(1, keepdim=True) == 1
        turns = _OUTWARDS * torch.where(may, change.abs(), 0.0).amax(2)
        self._bends[node] = _Bend(
            winner, cell, place, (may & alone).float(), may.float(), off, turns
        )

    def remainders(self, weights: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what sums over the last node are off by, and their slopes, `(s,)` and `(2, s)`.

        Args:
            weights: Factors of its entries, `(s, e)`.
            rows: The cell of each sum, `(s,)`, rising.
        """
        owner = self._owner
        start = weights.float().view(-1, *owner.shapes[owner.last])
        middle, spread = {owner.last: start}, {owner.last: owner.gamma * start.abs()}
        off = torch.zeros(3, len(rows), dtype=torch.float64, device=rows.device)
        for node, step, single in reversed(owner.steps):
            if node not in middle:
                continue
            c, r = middle.pop(node), spread.pop(node)
            if step.operation.is_affine:
                reach = (c.abs() + r) * self._rounding[node][rows]
                off += reach.flatten(1).sum(1, dtype=torch.float64)
                shapes = [owner.shapes[i] for i in step.inputs]
                if step.inputs == (0,):
                    continue
                parts = single.pull(c, shapes)
                wide = single.pull_spread(_OUTWARDS * (r + owner.gamma * c.abs()), shapes)
            else:
                part, width, lost = self._through(node, c.flatten(1), r.flatten(1), rows)
                off += lost
                shape = owner.shapes[step.inputs[0]]
                parts, wide = [part.view(-1, *shape)], [width.view(-1, *shape)]
            for i, part, width in zip(step.inputs, parts, wide, strict=True):
                middle[i] = middle[i] + part if i in middle else part
                spread[i] = spread[i] + width if i in spread else width
        return _OUTWARDS * off[0], _OUTWARDS * off[1:]

    def _through(
        self, node: int, c: Tensor, r: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return coefficients before a bend, what they are off by, and what sums are, `(3, s)`."""
        bend, owner = self._bends[node], self._owner
        # Those of the bends that are in these cells, with the sum that each counts in.
        number = torch.full((len(self._value[0]),), -1, device=rows.device)
        number[rows] = torch.arange(len(rows), device=rows.device)
        mine = number[bend.cell] >= 0
        sum_, place = number[bend.cell[mine]], bend.place[mine]
        one, wide = c[sum_, place], r[sum_, place]
        reach = (one.abs() + wide) * torch.cat([bend.value[None, mine], bend.turns[:, mine]])
        lost = torch.zeros(3, len(rows), dtype=torch.float64, device=rows.device)
        lost.index_add_(1, sum_, reach.double())
        low, high = one - wide, one + wide
        least, most = bend.low[mine], bend.high[mine]
        if least.dim() == 2:
            low, high = low.unsqueeze(1), high.unsqueeze(1)
        down, up = torch.minimum(low * least, low * most), torch.maximum(high * least, high * most)
        half, span = (down + up) / 2, _OUTWARDS * (up - down) / 2
        if node not in owner.windows:
            slope = bend.slope[rows].flatten(1)
            c, r = c * slope, r * slope
            c[sum_, place], r[sum_, place] = half, span
            return c, r, lost
        c, r = c.clone(), r.clone()
        c[sum_, place], r[sum_, place] = 0.0, 0.0
        size = owner.shapes[self._source(node)].numel()
        columns = owner.windows[node][place].clamp(min=0)
        index = sum_.unsqueeze(1) * size + columns
        results = []
        for whole, part in ((c, half), (r, span)):
            entries = whole.new_zeros(len(rows), size)
            entries.scatter_add_(1, bend.slope[rows], whole)
            entries.view(-1).index_add_(0, index.flatten(), part.flatten())
            results.append(entries)
        return results[0], results[1], lost

    def _source(self, node: int) -> int:
        return next(step.inputs[0] for number, step, _ in self._owner.steps if number == node)


def _reach(slopes: Tensor) -> Tensor:
    """Return the most that slopes `(2, ...)` change a value by."""
    return slopes[0].abs() + slopes[1].abs()


def _chord(operation: Operation, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slope of the chord over ranges, and offset and half width of what is round it."""
    one, other = operation.apply([low]), operation.apply([high])
    chord = ((other - one) / (high - low)).float()
    steep = chord.double()
    gaps = [one - steep * low, other - steep * high]
    for kink in operation.kinks or ():
        at = low.new_full((), kink)
        inside = (low < kink) & (high > kink)
        gaps.append(torch.where(inside, operation.apply([at]) - steep * kink, gaps[0]))
    under, above = torch.stack(gaps).amin(0), torch.stack(gaps).amax(0)
    return chord, (under + above) / 2, _OUTWARDS * ((above - under) / 2).float()


def _slopes_between(operation: Operation, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest slope over ranges."""
    slopes, _ = operation.pieces()
    ends = [-torch.inf, *(operation.kinks or ()), torch.inf]
    least, most = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    for slope, start, stop in zip(slopes.tolist(), ends[:-1], ends[1:], strict=True):
        meets = (low < stop) & (high > start)
        least = torch.where(meets, least.clamp(max=slope), least)
        most = torch.where(meets, most.clamp(min=slope), most)
    return least.float(), most.float()
