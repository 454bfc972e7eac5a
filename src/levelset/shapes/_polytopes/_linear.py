"""A formula of minima, maxima and gates through ReLUs: Linear layers and nothing else."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from torch import nn

from levelset.shapes._polytopes._formula import GATE, LEAST, Formula

__all__ = ["linear_layers", "relu_widths"]

# Where units that only hand a value on bend, as a share of the largest offset: no round number.
_BEND = 0.7236067


class _Sum:
    """A linear function of the units of one layer: factors by unit, and a constant."""

    def __init__(self, factors: dict[int, float], constant: float = 0.0) -> None:
        self.factors, self.constant = factors, constant

    def plus(self, factor: float, other: "_Sum") -> "_Sum":
        """Return this and a multiple of another."""
        factors = dict(self.factors)
        for unit, value in other.factors.items():
            factors[unit] = factors.get(unit, 0.0) + factor * value
        return _Sum(factors, self.constant + factor * other.constant)


class _Plan:
    """Which nodes each layer of ReLUs makes, and where the points are still needed.

    Attributes:
        made: The nodes whose values each layer makes; gates in their second layer.
        begun: The gates that are in their first layer there.
        last: The last layer that takes affine functions of the points.
    """

    def __init__(self, formula: Formula) -> None:
        self.made = formula.layers(gate=2)
        self.begun: list[list[int]] = [
            [n for n in after if formula.nodes[n][0] == GATE] for after in [*self.made[1:], []]
        ]
        self.last = max(
            layer
            for layer, (made, begun) in enumerate(zip(self.made, self.begun, strict=True))
            for number in [*(n for n in made if formula.nodes[n][0] != GATE), *begun]
            if any(operand < 0 for operand in formula.nodes[number][1])
        )

    def own_units(self, formula: Formula, layer: int, number: int) -> int:
        """Return how many units a minimum or maximum takes: the difference, and an operand.

        An operand that is affine in the points needs none of its own while these are carried.
        """
        affine = any(operand < 0 for operand in formula.nodes[number][1])
        return 1 if affine and layer < self.last else 3


def relu_widths(formula: Formula) -> list[int]:
    """Return the number of ReLUs in each layer of `linear_layers`."""
    plan, d = _Plan(formula), len(formula.weights[0])
    return [
        sum(
            4 if formula.nodes[n][0] == GATE else plan.own_units(formula, layer, n) for n in made
        )
        + 6 * len(begun)
        + 2 * d * (layer < plan.last)
        for layer, (made, begun) in enumerate(zip(plan.made, plan.begun, strict=True))
    ]  # fmt: skip


def linear_layers(formula: Formula, dtype: torch.dtype) -> nn.Sequential:
    r"""Return a formula as Linear and ReLU layers, `(n, d)` to `(n, 1)`.

    A value is a linear function of the units of its layer. The points are carried as
    $\sigma(x + c) - \sigma(-x - c) - c$ while affine functions of them are still to come.
    """
    plan, d = _Plan(formula), len(formula.weights[0])
    points = [_Sum({j: 1.0}) for j in range(d)]
    values: dict[int, _Sum] = {}
    halves: dict[int, list[_Sum]] = {}
    parts: list[nn.Module] = []
    width = d
    for layer, (made, begun) in enumerate(zip(plan.made, plan.begun, strict=True)):
        units = _Units(formula, points, values)
        carried = layer < plan.last
        points = [units.carry(point) for point in points] if carried else []
        after = {}
        for number in made:
            if formula.nodes[number][0] == GATE:
                after[number] = units.second_half(*halves[number])
            else:
                carried_units = points if plan.own_units(formula, layer, number) == 1 else None
                after[number] = units.fold(number, carried_units)
        halves = {number: units.first_half(number) for number in begun}
        values = after
        parts += [_linear(units.rows, width, dtype), nn.ReLU()]
        width = len(units.rows)
    return nn.Sequential(*parts, _linear([values[formula.root]], width, dtype))


class _Units:
    """The units of a layer as they are added, each a function of the layer before."""

    def __init__(self, formula: Formula, points: list[_Sum], values: dict[int, _Sum]) -> None:
        self.rows: list[_Sum] = []
        self._formula, self._points, self._values = formula, points, values
        self._bend = _BEND * max(map(abs, formula.offsets))

    def relu(self, inner: _Sum) -> _Sum:
        """Add the unit that cuts a function off below zero."""
        self.rows.append(inner)
        return _Sum({len(self.rows) - 1: 1.0})

    def carry(self, inner: _Sum) -> _Sum:
        """Add the two units that hand a function on as it is.

        They bend away from zero: where they bent there, the level set would run along a bend.
        """
        moved = inner.plus(1.0, _Sum({}, self._bend))
        carried = self.relu(moved).plus(-1.0, self.relu(_Sum({}).plus(-1.0, moved)))
        return carried.plus(-1.0, _Sum({}, self._bend))

    def fold(self, number: int, carried: list[_Sum] | None) -> _Sum:
        """Add a minimum or maximum; `carried` are the points, where they serve an operand."""
        kind, (first, second) = self._formula.nodes[number]
        if first >= 0:
            first, second = second, first
        a, b = self._of(first), self._of(second)
        kept = self.carry(a) if carried is None else _affine(self._formula, first, carried)
        if kind == LEAST:
            return kept.plus(-1.0, self.relu(a.plus(-1.0, b)))
        return kept.plus(1.0, self.relu(b.plus(-1.0, a)))

    def first_half(self, number: int) -> list[_Sum]:
        """Add the first layer of a gate: min(a, b), min(s, a) - b and min(-s, b) - a."""
        side, near, far = (self._of(operand) for operand in self._formula.nodes[number][1])
        above = self.relu(near.plus(-1.0, far))
        difference = above.plus(-1.0, self.relu(far.plus(-1.0, near)))
        least = self.carry(near).plus(-1.0, above)
        from_near = difference.plus(-1.0, self.relu(near.plus(-1.0, side)))
        from_far = _Sum({}).plus(-1.0, difference).plus(-1.0, self.relu(far.plus(1.0, side)))
        return [least, from_near, from_far]

    def second_half(self, least: _Sum, from_near: _Sum, from_far: _Sum) -> _Sum:
        """Add the second layer of a gate: the least, and what the side of the plane adds to it."""
        return self.carry(least).plus(1.0, self.relu(from_near)).plus(1.0, self.relu(from_far))

    def _of(self, operand: int) -> _Sum:
        if operand >= 0:
            return self._values[operand]
        return _affine(self._formula, operand, self._points)


def _affine(formula: Formula, operand: int, points: list[_Sum]) -> _Sum:
    row = -1 - operand
    total = _Sum({}, formula.offsets[row])
    for weight, point in zip(formula.weights[row].tolist(), points, strict=True):
        total = total.plus(weight, point)
    return total


def _linear(rows: list[_Sum], width: int, dtype: torch.dtype) -> nn.Linear:
    index: NDArray[np.int64] = np.array(
        [(row, unit) for row, total in enumerate(rows) for unit in total.factors]
    ).reshape(-1, 2)
    entries = [factor for total in rows for factor in total.factors.values()]
    shape = (len(rows), width)
    weights = coo_array((entries, (index[:, 0], index[:, 1])), shape).toarray()
    layer = nn.Linear(width, len(rows), dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.tensor([total.constant for total in rows], dtype=torch.float64))
    return layer
