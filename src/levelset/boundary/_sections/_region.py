"""The affine maps of a network in one linear region of a plane, from region to region."""

import abc
from typing import NamedTuple

import numpy as np
import torch

from levelset._relaxation._affine import Convolution, Difference, Sum
from levelset._relaxation._curves import Largest
from levelset._relaxation._operation import Operation
from levelset._relaxation._program import Node, Program
from levelset._typing import Floats, Integers
from levelset.boundary._sections._plane import Frame

__all__ = ["Region"]

# Changes after which all maps are computed anew, so that rounding does not add up.
_CHANGES = 256
# Largest matrix of what follows the last bend that is multiplied out, in numbers.
_TAIL = 2**22


class _Patch(NamedTuple):
    """A change of the maps of a node that is 0 outside of a box.

    Attributes:
        values: The change of value and slopes, `(3, *box)`.
        start: The corner of the box.
    """

    values: Floats
    start: tuple[int, ...]

    @property
    def box(self) -> tuple[slice, ...]:
        """The box as an index of maps `(3, *shape)`."""
        sizes = self.values.shape[1:]
        return (
            slice(None),
            *(slice(s, s + n) for s, n in zip(self.start, sizes, strict=True)),
        )

    def whole(self, shape: tuple[int, ...]) -> Floats:
        """Return the change of all entries, `(3, *shape)`."""
        if self.values.shape[1:] == shape:
            return self.values
        whole = np.zeros((3, *shape))
        whole[self.box] = self.values
        return whole


class Region:
    """The maps (value at the origin, slopes along u and v) of a network on one linear region.

    Where the region ends at a wall, one unit changes, and only what depends on it is computed
    anew: a patch of the image, layer by layer.

    Args:
        program: The network, piecewise linear.
        frame: The plane.

    Attributes:
        logits: Their maps, `(3, k)`.
    """

    def __init__(self, program: Program, frame: Frame) -> None:
        self._basis = frame.basis
        nodes = program.values(frame.basis[:1])
        self._shapes = {i: tuple(node.shape[1:]) for i, node in nodes.items()}
        self._steps = [
            (index + 1, step) for index, step in enumerate(program.steps) if index + 1 in nodes
        ]
        self._output = program.output
        self._zeros = {
            node: step.operation.apply([torch.zeros_like(nodes[i]) for i in step.inputs])
            for node, step in self._steps
            if step.operation.is_affine
        }
        self._bends: dict[int, _Bend] = {}
        count = 0
        for node, step in self._steps:
            if not step.operation.is_affine:
                shape, operation = self._shapes[step.inputs[0]], step.operation
                bend: _Bend = (
                    _Windows(operation, shape, self._shapes[node])
                    if isinstance(operation, Largest)
                    else _Kinks(operation, shape)
                )
                self._bends[node] = bend
                bend.walls = slice(count, count + bend.count)
                count += bend.count
        self._walls = np.zeros((3, count))
        self._signs = np.ones(count)
        # Room for what is computed at every wall again and again.
        self._both, self._nearness = np.zeros((2, count)), np.zeros(count)
        for bend in self._bends.values():
            bend.values, bend.signs = self._walls[:, bend.walls], self._signs[bend.walls]
        self._changes = 0
        self._tail_from, self._tail = self._multiplied()
        self.logits = np.zeros((3, self._shapes[program.output][0]))

    def enter(self, place: Floats) -> None:
        """Go to the region round a place `(2,)`."""
        self._compute(np.array([1.0, *place]))

    def state(self) -> list[Integers]:
        """Return which piece each unit is on."""
        return [bend.piece.copy() for bend in self._bends.values()]

    def restore(self, state: list[Integers]) -> None:
        """Go to a region that was left."""
        for bend, piece in zip(self._bends.values(), state, strict=True):
            bend.piece = piece.copy()
        self._compute(None)

    def first(self, place: Floats, ahead: Floats) -> tuple[float, int]:
        """Return how far it is from a place to the wall ahead, and which it is; -1 for none."""
        if not len(self._signs):
            return float("inf"), -1
        gap, rate = self._both
        np.matmul(np.array([[1.0, *place], [0.0, *ahead]]), self._walls, out=self._both)
        np.multiply(self._both, self._signs, out=self._both)
        np.maximum(gap, 1e-200, out=gap)
        nearness = np.divide(rate, gap, out=self._nearness)
        for _ in range(16):
            wall = int(nearness.argmin())
            if not nearness[wall] < 0:
                break
            # A wall along the way is never crossed, whatever rounding makes of its slope.
            slopes = np.abs(self._walls[1:, wall]).sum()
            if abs(float(rate[wall])) > 1e-13 * slopes:
                return float(-gap[wall] / rate[wall]), wall
            nearness[wall] = 0.0
        return float("inf"), -1

    def cross(self, wall: int) -> bool:
        """Go past a wall; return whether the logits change."""
        self._changes += 1
        patches: dict[int, _Patch] = {}
        for node, step in self._steps:
            bend = self._bends.get(node)
            if bend is not None and bend.walls.start <= wall < bend.walls.stop:
                patch = bend.flip(wall - bend.walls.start)
            elif not any(i in patches for i in step.inputs):
                continue
            elif node > self._tail_from:
                self._add_tail(patches[self._tail_from])
                break
            elif bend is not None:
                patch = bend.pushed(patches[step.inputs[0]])
            else:
                patch = self._pushed(step, node, patches)
            if patch.values.any():
                patches[node] = patch
        changed = bool(patches) and max(patches) >= min(self._tail_from, self._output)
        if self._output in patches:
            self.logits += patches[self._output].whole(self.logits.shape[1:])
        if self._changes >= _CHANGES:
            self._compute(None)
        return changed

    def _add_tail(self, patch: _Patch) -> None:
        part = self._tail[patch.box]
        self.logits += patch.values.reshape(3, -1) @ part.reshape(len(part), -1).T

    def _compute(self, at: Floats | None) -> None:
        """Compute all maps, with the units as they are; or as they are at a place, (1, x, y)."""
        nodes = {0: self._basis}
        for node, step in self._steps:
            parts = [nodes[i] for i in step.inputs]
            if node in self._bends:
                bend = self._bends[node]
                maps = parts[0].cpu().numpy()
                if at is not None:
                    bend.settle(maps, at)
                nodes[node] = torch.from_numpy(bend.refresh(maps)).to(self._basis)
            else:
                nodes[node] = step.operation.apply_linear(parts)
                if nodes[node] is parts[0] or nodes[node]._is_view():
                    nodes[node] = nodes[node].clone()
                nodes[node][:1] += self._zeros[node]
        self.logits = nodes[self._output].cpu().numpy().copy()
        self._changes = 0

    def _pushed(self, step: Node, node: int, patches: dict[int, _Patch]) -> _Patch:
        """Return the change that an affine step makes of changes."""
        operation = step.operation
        if isinstance(operation, Sum) and all(i in patches for i in step.inputs):
            shape = self._shapes[node]
            one, other = (patches[i].whole(shape) for i in step.inputs)
            minus = isinstance(operation, Difference)
            return _Patch(one - other if minus else one + other, (0,) * len(shape))
        if isinstance(operation, Sum):
            (place,) = (k for k, i in enumerate(step.inputs) if i in patches)
            patch = patches[step.inputs[place]]
            if place == 1 and isinstance(operation, Difference):
                return patch._replace(values=-patch.values)
            return patch
        if isinstance(operation, Convolution) and operation.is_local:
            (source,) = step.inputs
            values, start = operation.linear_patch(
                patches[source].values, patches[source].start, self._shapes[node]
            )
            return _Patch(values, start)
        parts = []
        for i in step.inputs:
            shape = self._shapes[i]
            part = patches[i].whole(shape) if i in patches else np.zeros((3, *shape))
            parts.append(torch.from_numpy(part).to(self._basis))
        values = operation.apply_linear(parts).cpu().numpy()
        return _Patch(values, (0,) * (values.ndim - 1))

    def _multiplied(self) -> tuple[int, Floats]:
        """Return the last node that bends, and the matrix from there to the logits."""
        last = max(self._bends, default=0)
        after = [(node, step) for node, step in self._steps if node > last]
        shape = self._shapes[last]
        size = int(np.prod(shape))
        wide = max((int(np.prod(self._shapes[node])) for node, _ in after), default=0)
        inside = all(i >= last for _, step in after for i in step.inputs)
        if not after or last == 0 or not inside or size * wide > _TAIL:
            return self._output, np.zeros((0, 0))
        nodes = {last: torch.eye(size).to(self._basis).view(size, *shape)}
        for node, step in after:
            nodes[node] = step.operation.apply_linear([nodes[i] for i in step.inputs])
        return last, nodes[self._output].T.cpu().numpy().copy().reshape(-1, *shape)


class _Bend(abc.ABC):
    """A step that bends: which piece each of its units is on, and the walls where it ends.

    Attributes:
        count: How many walls there are.
        walls: Their numbers.
        values: Their maps, `(3, count)`, a view into those of all.
        signs: Of the walls where the region lies, `(count,)`, likewise.
        piece: The piece of each unit.
    """

    count: int
    walls: slice
    values: Floats
    signs: Floats
    piece: Integers

    @abc.abstractmethod
    def settle(self, maps: Floats, at: Floats) -> None:
        """Take the pieces that hold at a place, (1, x, y)."""

    @abc.abstractmethod
    def refresh(self, maps: Floats) -> Floats:
        """Take the maps of the entries, `(3, *shape)`; return those of the result."""

    @abc.abstractmethod
    def flip(self, wall: int) -> _Patch:
        """Put a unit on the piece beyond a wall; return the change of the result."""

    @abc.abstractmethod
    def pushed(self, patch: _Patch) -> _Patch:
        """Take a change of the entries; return that of the result."""


class _Kinks(_Bend):
    """A function of each entry that bends at some numbers."""

    def __init__(self, operation: Operation, shape: tuple[int, ...]) -> None:
        self._kinks = operation.kinks or ()
        slopes, offsets = operation.pieces()
        self._slopes, self._offsets = slopes.numpy(), offsets.numpy()
        self._shape, self._units = shape, int(np.prod(shape))
        self.count = len(self._kinks) * self._units
        self.piece = np.zeros(self._units, dtype=np.int64)
        self._slope = np.zeros(shape)

    def settle(self, maps: Floats, at: Floats) -> None:
        values = at @ maps.reshape(3, -1)
        self.piece = np.searchsorted(np.array(self._kinks), values)

    def refresh(self, maps: Floats) -> Floats:
        flat = maps.reshape(3, -1)
        for k, (kink, part) in enumerate(self._parts()):
            self.values[:, part] = flat
            self.values[0, part] -= kink
            self.signs[part] = np.where(self.piece > k, 1.0, -1.0)
        self._slope = self._slopes[self.piece].reshape(self._shape)
        result = maps * self._slope
        result[0] += self._offsets[self.piece].reshape(self._shape)
        return result

    def _parts(self) -> list[tuple[float, slice]]:
        units = self._units
        return [(kink, slice(k * units, k * units + units)) for k, kink in enumerate(self._kinks)]

    def flip(self, wall: int) -> _Patch:
        kink, unit = divmod(wall, self._units)
        before = self.piece[unit]
        after = kink if before > kink else kink + 1
        self.piece[unit] = after
        self.signs[wall] = -self.signs[wall]
        index = np.unravel_index(unit, self._shape)
        self._slope[index] = self._slopes[after]
        # The two pieces meet at the kink, so what is 0 there changes by a slope.
        change = (self._slopes[after] - self._slopes[before]) * self.values[:, wall]
        return _Patch(change.reshape(3, *[1] * len(self._shape)), tuple(int(i) for i in index))

    def pushed(self, patch: _Patch) -> _Patch:
        for _, part in self._parts():
            self.values[:, part].reshape(3, *self._shape)[patch.box] += patch.values
        return _Patch(patch.values * self._slope[patch.box[1:]], patch.start)


class _Windows(_Bend):
    """The largest entry of each window of an image; a wall is where another entry equals it."""

    def __init__(self, operation: Largest, shape: tuple[int, ...], result: tuple[int, ...]) -> None:
        members = operation.members(torch.Size(shape)).numpy()
        self._result, self._shape = result, shape
        self._outside = members < 0
        self._has_outside = bool(self._outside.any())
        # The entries have one more, for what lies outside of the image.
        self._members = np.where(self._outside, int(np.prod(shape)), members)
        self._operation = operation
        self.count = members.size
        self.piece = np.zeros(len(members), dtype=np.int64)
        self._numbers = np.arange(len(members)).reshape(result)
        self._change = np.zeros((3, int(np.prod(shape)) + 1))

    def settle(self, maps: Floats, at: Floats) -> None:
        values = np.append(at @ maps.reshape(3, -1), -np.inf)
        self.piece = values[self._members].argmax(1)

    def _gaps(self, maps: Floats, windows: Integers) -> tuple[Floats, Floats]:
        """Return the largest entries of windows, `(3, w)`, and by how much they lead."""
        members = self._members[windows]
        entries = maps[:, members]
        best = entries[:, np.arange(len(windows)), self.piece[windows]]
        return best, best[:, :, None] - entries

    def refresh(self, maps: Floats) -> Floats:
        entries = np.pad(maps.reshape(3, -1), ((0, 0), (0, 1)))
        best, gaps = self._gaps(entries, np.arange(len(self._members)))
        gaps[0][self._outside], gaps[1:][:, self._outside] = 1.0, 0.0
        self.values[:] = gaps.reshape(3, -1)
        self.signs[:] = 1.0
        return best.reshape(3, *self._result)

    def flip(self, wall: int) -> _Patch:
        window, entry = divmod(wall, self._members.shape[1])
        change = -self.values[:, wall].copy()
        self.piece[window] = entry
        row = slice(window * self._members.shape[1], (window + 1) * self._members.shape[1])
        self.values[:, row] += np.where(self._outside[window], 0.0, change[:, None])
        self.values[:, wall] = 0.0
        index = np.unravel_index(window, self._result)
        return _Patch(change.reshape(3, *[1] * len(index)), tuple(int(i) for i in index))

    def pushed(self, patch: _Patch) -> _Patch:
        box = self._operation.box(patch.start, patch.values.shape[1:], self._result)
        numbers = self._numbers[box]
        windows = numbers.ravel()
        image = self._change[:, :-1].reshape(3, *self._shape)
        image[patch.box] = patch.values
        best, gaps = self._gaps(self._change, windows)
        image[patch.box] = 0.0
        if self._has_outside:
            gaps[:, self._outside[windows]] = 0.0
        walls = self.values.reshape(3, *self._result, -1)
        walls[(slice(None), *box)] += gaps.reshape(3, *numbers.shape, -1)
        return _Patch(best.reshape(3, *numbers.shape), tuple(part.start for part in box))
