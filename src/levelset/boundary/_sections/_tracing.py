"""The decision boundary in a plane, followed from region to region."""

from typing import NamedTuple

import torch
from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._operation import Operation
from levelset._relaxation._program import Program
from levelset.boundary._sections._plane import Frame

__all__ = ["Traced", "boundary_seeds", "trace_boundary"]

# How far past a wall the next region is looked at, and how near to a line a point lies on it, as
# shares of the rectangle.
_PAST, _NEAR = 1e-10, 1e-8
_WALKERS, _STEPS = 24, 200_000
# Points at once while seeds are looked for, and halvings of the way between two.
_AT_ONCE, _HALVINGS = 64, 32


class Traced(NamedTuple):
    """Segments of the boundary.

    Attributes:
        segments: Their ends, `(s, 2, 2)`, with the first class on their left.
        sides: The classes on the left and right, `(s, 2)`.
        triple_points: Where three classes meet, `(t, 2)`.
    """

    segments: Tensor
    sides: Tensor
    triple_points: Tensor


class _Ends(NamedTuple):
    """Where walkers stopped: the place, the classes beside them and ahead; -1 for none ahead."""

    place: Tensor
    pair: Tensor
    ahead: Tensor


def boundary_seeds(program: Program, frame: Frame, count: int) -> tuple[Tensor, Tensor]:
    """Return points of the boundary between neighbours on a lattice, and the classes there.

    Args:
        program: The network.
        frame: The rectangle.
        count: Points of the lattice along each axis.
    """

    def classes(places: Tensor) -> Tensor:
        parts = [
            program.values(frame.points(part))[program.output].argmax(1)
            for part in torch.split(places, _AT_ONCE)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

    ticks = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    low, high = (torch.tensor(side, dtype=torch.float64) for side in (frame.low, frame.high))
    axes = low.unsqueeze(1) + (high - low).unsqueeze(1) * ticks
    lattice = torch.cartesian_prod(*axes)
    labels, places = classes(lattice).view(count, count), lattice.view(count, count, 2)
    pairs = []
    for axis in (0, 1):
        change = labels.narrow(axis, 0, count - 1) != labels.narrow(axis, 1, count - 1)
        pairs.append([places.narrow(axis, k, count - 1)[change] for k in (0, 1)])
    start, end = (torch.cat(each) for each in zip(*pairs, strict=True))
    first = classes(start)
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        same = (classes(middle) == first).unsqueeze(1)
        start, end = torch.where(same, middle, start), torch.where(same, end, middle)
    return (start + end) / 2, torch.stack([first, classes(end)], 1)


def trace_boundary(program: Program, frame: Frame, places: Tensor, pairs: Tensor) -> Traced:
    """Follow the boundary from points on it, both ways, and on from where three classes meet.

    Args:
        program: The network, piecewise linear.
        frame: The rectangle.
        places: Points on the boundary, `(n, 2)`.
        pairs: The two classes that tie there, `(n, 2)`.
    """
    # In one order, so that all walkers of one curve go the same way.
    pairs = pairs.sort(dim=1).values
    walk = _Tracer(program, frame, places, pairs)
    every = torch.arange(len(places))
    walk.run(places, pairs, every)
    # What no walker has come to is followed the other way.
    lone = (~walk.reached).nonzero().flatten()
    walk.run(places[lone], pairs[lone].flip(1), lone)
    for _ in range(_STEPS):
        starts, missing = walk.missing()
        if not len(starts):
            break
        walk.run(starts, missing, torch.full((len(starts),), -1))
    return Traced(torch.cat(walk.segments), torch.cat(walk.sides), walk.triple_points())


class _Tracer:
    """Walkers on the boundary.

    Attributes:
        reached: Which seeds a walker has come to, `(n,)`.
        segments: Of all walkers.
        sides: The classes beside them.
    """

    def __init__(self, program: Program, frame: Frame, places: Tensor, pairs: Tensor) -> None:
        self.program, self.seeds, self.pairs = program, places, pairs
        self.low, self.high = (torch.tensor(side, dtype=torch.float64) for side in
                               (frame.low, frame.high))  # fmt: skip
        self.scale = float((self.high - self.low).max())
        self.reached = torch.zeros(len(places), dtype=torch.bool)
        self.segments: list[Tensor] = [torch.zeros(0, 2, 2, dtype=torch.float64)]
        self.sides: list[Tensor] = [torch.zeros(0, 2, dtype=torch.int64)]
        self.ends: list[_Ends] = []
        self._gone: set[tuple[int, ...]] = set()
        self._uses = program.uses()
        self._flat = {0: frame.basis}
        point = frame.basis[:1]
        nodes = program.values(point)
        self._offsets = {}
        for index, step in enumerate(program.steps):
            if index + 1 in nodes and step.operation.is_affine:
                zeros = [torch.zeros_like(nodes[i]) for i in step.inputs]
                self._offsets[index + 1] = step.operation.apply(zeros)
                if all(i in self._flat for i in step.inputs):
                    flat = step.operation.apply_linear([self._flat[i] for i in step.inputs])
                    flat = flat.clone()
                    flat[:1] += self._offsets[index + 1]
                    self._flat[index + 1] = flat
        self._members = {
            index: step.operation.members(nodes[step.inputs[0]].shape[1:])
            for index, step in enumerate(program.steps)
            if index + 1 in nodes and isinstance(step.operation, Largest)
        }

    def run(self, places: Tensor, pairs: Tensor, seeds: Tensor) -> None:
        """Follow the boundary from points, with the first class of each pair on the left."""
        waiting = torch.arange(len(places))
        active = waiting[:0]
        place, pair, seed = places.clone(), pairs.clone(), seeds
        way = torch.zeros_like(places)
        length = torch.zeros(len(places), dtype=torch.float64)
        for _ in range(_STEPS):
            free = _WALKERS - len(active)
            active, waiting = torch.cat([active, waiting[:free]]), waiting[free:]
            if not len(active):
                return
            start, stop, turned, ahead, done = self._step(
                place[active], way[active], pair[active], seed[active], length[active]
            )
            self.segments.append(torch.stack([start, stop], 1))
            self.sides.append(pair[active])
            place[active], way[active] = stop, turned
            length[active] += (stop - start).norm(dim=1)
            self.ends.append(_Ends(stop[done], pair[active][done], ahead[done]))
            active = active[~done]

    def _step(
        self, place: Tensor, way: Tensor, pair: Tensor, seed: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Follow the tie line of two classes through one region.

        Returns:
            Where the step begins and ends, its direction, the class that takes over there (-1 for
            none), and whether the walker stops.
        """
        probe = place + _PAST * self.scale * way
        logits, walls = self._pass(probe)
        rows = torch.arange(len(place))
        one, other = pair.unbind(1)
        gap = logits[rows, :, one] - logits[rows, :, other]
        slope = gap[:, 1:]
        square = slope.square().sum(1, keepdim=True)
        begin = probe - slope * (gap[:, :1] / square)
        # The first class lies on the left, uphill of the difference.
        ahead = torch.stack([slope[:, 1], -slope[:, 0]], 1) / square.sqrt()
        moved = begin - probe
        time = torch.full((len(place),), torch.inf, dtype=torch.float64)
        for wall in walls:
            time = torch.minimum(time, self._first(wall, moved, ahead))
        rest = logits[rows, :, one].unsqueeze(2) - logits
        rest[rows, :, one] = rest[rows, :, other] = torch.inf
        rest = rest.nan_to_num(1.0, 1.0, 1.0)
        value = rest[:, 0] + torch.einsum("bd,bdk->bk", moved, rest[:, 1:])
        rate = torch.einsum("bd,bdk->bk", ahead, rest[:, 1:])
        rate[rows, one] = rate[rows, other] = 1.0
        over = torch.where(rate < 0, value.clamp(min=0.0) / -rate, torch.inf)
        takes, third = over.min(1)
        sides = torch.where(ahead > 0, (self.high - begin) / ahead, (self.low - begin) / ahead)
        exits = sides.nan_to_num(torch.inf, torch.inf, torch.inf).clamp(min=0.0).amin(1)
        last = torch.minimum(takes, exits)
        done = last <= time
        time = torch.minimum(time, last)
        met = self._meet(begin, ahead, time, pair, seed, length)
        stops = met.isfinite()
        time = torch.where(stops, met, time)
        third = torch.where((takes <= exits) & done & ~stops, third, -1)
        first = length == 0
        start = torch.where(first.unsqueeze(1), begin, place)
        return start, begin + time.unsqueeze(1) * ahead, ahead, third, done | stops

    @staticmethod
    def _first(wall: Tensor, moved: Tensor, ahead: Tensor) -> Tensor:
        """Return when the first of some functions `(b, 3, u)` falls to 0, `(b,)`."""
        value = wall[:, 0] + torch.bmm(moved.unsqueeze(1), wall[:, 1:]).squeeze(1)
        rate = torch.bmm(ahead.unsqueeze(1), wall[:, 1:]).squeeze(1)
        time = value / -rate
        time.masked_fill_((rate >= 0) | (time < 0) | time.isnan(), torch.inf)
        return time.amin(1)

    def _meet(
        self, begin: Tensor, ahead: Tensor, time: Tensor, pair: Tensor, seed: Tensor, length: Tensor
    ) -> Tensor:
        """Return when walkers come to a seed, `(b,)`; infinity for never."""
        apart = self.seeds.unsqueeze(0) - begin.unsqueeze(1)
        along = (apart * ahead.unsqueeze(1)).sum(2)
        off = (apart - along.unsqueeze(2) * ahead.unsqueeze(1)).norm(dim=2)
        same = (self.pairs.unsqueeze(0) == pair.sort(dim=1).values.unsqueeze(1)).all(2)
        near = _NEAR * self.scale
        on = same & (off <= near) & (along >= -near) & (along <= time.unsqueeze(1) + near)
        own = torch.arange(len(self.seeds)).unsqueeze(0) == seed.unsqueeze(1)
        on &= ~(own & (length <= 100 * near).unsqueeze(1))
        on &= length.unsqueeze(1) + along > near
        self.reached |= on.any(0)
        along = torch.minimum(along.clamp(min=0.0), time.unsqueeze(1))
        return torch.where(on, along, torch.inf).amin(1)

    def _pass(self, probe: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits at places with their slopes, `(b, 3, k)`, and walls likewise.

        Walls are functions that are positive at the places, and 0 where the region ends.
        """
        b = len(probe)
        weights = torch.zeros(b, 3, 3, dtype=torch.float64)
        weights[:, 0, 0] = weights[:, 1, 1] = weights[:, 2, 2] = 1.0
        weights[:, 0, 1:] = probe
        nodes: dict[int, Tensor] = {}

        def rows_of(node: int) -> Tensor:
            if node not in nodes:
                flat = self._flat[node]
                moved = weights.view(-1, 3) @ flat.flatten(1)
                nodes[node] = moved.view(b, 3, *flat.shape[1:])
            return nodes[node]

        walls: list[Tensor] = []
        for index, step in enumerate(self.program.steps):
            node = index + 1
            if node not in self._uses or node in self._flat:
                continue
            if step.operation.is_affine:
                parts = [rows_of(i).flatten(0, 1) for i in step.inputs]
                moved = step.operation.apply_linear(parts)
                nodes[node] = moved.view(b, 3, *moved.shape[1:])
                nodes[node][:, 0] += self._offsets[node]
            elif isinstance(step.operation, Largest):
                nodes[node] = self._pool(index, step.operation, rows_of(step.inputs[0]), walls)
            else:
                nodes[node] = self._bend(step.operation, rows_of(step.inputs[0]), walls)
            for i in step.inputs:
                if self._uses[i] <= index:
                    nodes.pop(i, None)
        return rows_of(self.program.output), walls

    @staticmethod
    def _bend(operation: Operation, value: Tensor, walls: list[Tensor]) -> Tensor:
        """Return the affine piece of an activation, with its slopes, and add its ends to walls."""
        masks = []
        for kink in operation.kinks or ():
            wall = value.flatten(2)
            if kink:
                wall = wall.clone()
                wall[:, 0] -= kink
            masks.append((wall[:, 0] > 0).view(len(value), *value.shape[2:]))
            walls.append(wall * torch.where(wall[:, :1] > 0, 1.0, -1.0).to(wall))
        slope, offset = operation.piece(masks)
        result: Tensor = value * slope.unsqueeze(1)
        if isinstance(offset, Tensor):
            result[:, 0] += offset
        return result

    def _pool(self, index: int, operation: Largest, value: Tensor, walls: list[Tensor]) -> Tensor:
        """Return the largest entry of each window, with its slopes, and add its rivals to walls."""
        members = self._members[index]
        windows, size = members.shape
        flat = torch.nn.functional.pad(value.flatten(2), (0, 1), value=-torch.inf)
        flat[:, 1:, -1] = 0.0
        entries = flat[:, :, members.clamp(min=-1).where(members >= 0, flat.shape[2] - 1).flatten()]
        entries = entries.view(len(value), 3, windows, size)
        winner = entries[:, 0].argmax(2)
        place = winner.view(-1, 1, windows, 1).expand(-1, 3, -1, -1)
        best = entries.gather(3, place)
        gap = best - entries
        # The winner itself, and what lies outside of the image, never end the region.
        gap[:, 1:][gap[:, :1].expand(-1, 2, -1, -1).isinf()] = 0.0
        walls.append(gap.nan_to_num(0.0, 1.0, 1.0).flatten(2))
        shape = operation.pool(value[:1, 0])[0].shape[1:]
        return best.view(len(value), 3, *shape)

    def triple_points(self) -> Tensor:
        """Return where three classes meet, each once, `(t, 2)`."""
        return self._triples()[0]

    def _triples(self) -> tuple[Tensor, list[tuple[set[int], set[frozenset[int]]]]]:
        places: list[Tensor] = []
        known: list[tuple[set[int], set[frozenset[int]]]] = []
        for ends in self.ends:
            for place, classes_beside, third in zip(*ends, strict=True):
                if int(third) < 0:
                    continue
                classes = {*classes_beside.tolist(), int(third)}
                near = [
                    k for k, other in enumerate(places)
                    if float((other - place).norm()) <= 10 * _NEAR * self.scale
                    and known[k][0] == classes
                ]  # fmt: skip
                if not near:
                    places.append(place)
                    known.append((classes, set()))
                    near = [len(places) - 1]
                known[near[0]][1].add(frozenset(classes_beside.tolist()))
        return (torch.stack(places) if places else self.seeds[:0]), known

    def missing(self) -> tuple[Tensor, Tensor]:
        """Return starts of curves at triple points that nobody has followed, and their classes."""
        places, known = self._triples()
        starts: list[Tensor] = []
        pairs: list[list[int]] = []
        for place, (classes, arrived) in zip(places, known, strict=True):
            for third in classes:
                pair = frozenset(classes - {third})
                if pair not in arrived:
                    # Walk away from the third class: one of the two orders does, and the other
                    # stops where it begins.
                    arrived.add(pair)
                    for order in (sorted(pair), sorted(pair, reverse=True)):
                        starts.append(place)
                        pairs.append(order)
        fresh = []
        for k, (place, order) in enumerate(zip(starts, pairs, strict=True)):
            name = (*[round(float(c) / (100 * _NEAR * self.scale)) for c in place], *order)
            if name not in self._gone:
                self._gone.add(name)
                fresh.append(k)
        if not fresh:
            return self.seeds[:0], self.pairs[:0]
        return torch.stack([starts[k] for k in fresh]), torch.tensor([pairs[k] for k in fresh])
