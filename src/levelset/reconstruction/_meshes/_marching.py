"""Analytic marching: the level set of a piecewise linear field, from cell to cell."""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from levelset._relaxation._piecewise import AffinePieces
from levelset._typing import Booleans, Floats, Integers
from levelset.errors import FieldError

__all__ = ["Facets", "march"]

# Cells at once, corners of the largest polygon, units that are looked at first.
_BATCH, _MOST_CORNERS, _NEAR = 256, 400, 32
# Units nearer to a corner than this share of the box go through it; how often to flip such.
_TOL, _TURNS = 1e-11, 8

Keys: TypeAlias = NDArray[np.uint64]
Cells: TypeAlias = tuple[Tensor, Keys, Tensor, Tensor]
"""Which units are above their kinks, names, units entered through, points on these."""
Plane: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Facets(NamedTuple):
    """Convex polygons in space, and what the corners that they share are called.

    Attributes:
        places: Corners, `(c, 3)`, one polygon after another.
        names: A number for each, the same where corners are one, `(c,)`.
        counts: Corners of each polygon, `(f,)`.
    """

    places: Floats
    names: Keys
    counts: Integers


def march(pieces: AffinePieces, level: float, box: Tensor, seeds: Tensor, most: int) -> Facets:
    """Return the polygons of a level set that are joined to some of its points.

    A cell is known by which units are above their kinks. Its part of the level set is a polygon in
    a plane, cut out by the units; past each of its edges one unit flips, which is the next cell. A
    corner lies on two units, and is known by these and by the others.

    Args:
        pieces: The field.
        level: The level.
        box: The lowest and the highest corner, `(2, 3)`, float64.
        seeds: Points on the level set, `(s, 3)`, float64.
        most: More polygons than this are refused.

    Raises:
        FieldError: If there are more.
    """
    return _March(pieces, level, box).run(seeds, most)


class Corners(NamedTuple):
    """Corners of polygons, one polygon after another.

    Attributes:
        row: The polygon of each, `(c,)`.
        wall: The unit of the edge before it.
        hit: The unit of the edge after it.
        spot: Where it is, `(c, 2)`.
        step: Its place in the polygon.
        more: Corners and further units that they lie on.
    """

    row: Tensor
    wall: Tensor
    hit: Tensor
    spot: Tensor
    step: Tensor
    more: tuple[Tensor, Tensor]

    def sorted(self) -> "Corners":
        """Return them polygon by polygon."""
        order = torch.argsort(self.row * _MOST_CORNERS + self.step)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        corner, unit = self.more
        return self._picked(order)._replace(more=(back[corner], unit))

    def _picked(self, rows: Tensor) -> "Corners":
        """Return some corners, by their numbers; the further units stay."""
        return Corners(
            self.row[rows], self.wall[rows], self.hit[rows], self.spot[rows], self.step[rows],
            self.more,
        )  # fmt: skip

    def renamed(self, index: Tensor) -> "Corners":
        """Return them with other numbers of units, `(b, u)`."""
        corner, unit = self.more
        return self._replace(
            wall=index[self.row, self.wall], hit=index[self.row, self.hit],
            more=(corner, index[self.row[corner], unit]),
        )  # fmt: skip

    def without(self, rows: Tensor) -> "Corners":
        """Return those of other polygons than those of a mask."""
        stays = ~rows[self.row]
        number = torch.cumsum(stays, 0) - 1
        corner, unit = self.more
        more = stays[corner]
        few = self._picked(stays.nonzero().flatten())
        return few._replace(more=(number[corner[more]], unit[more]))

    def joined(self, other: "Corners") -> "Corners":
        """Return both."""
        return Corners(
            torch.cat([self.row, other.row]), torch.cat([self.wall, other.wall]),
            torch.cat([self.hit, other.hit]), torch.cat([self.spot, other.spot]),
            torch.cat([self.step, other.step]),
            (torch.cat([self.more[0], other.more[0] + len(self.row)]),
             torch.cat([self.more[1], other.more[1]])),
        ).sorted()  # fmt: skip


class _March:
    def __init__(self, pieces: AffinePieces, level: float, box: Tensor) -> None:
        self.pieces, self.level = pieces, level
        units = pieces.units
        rng = np.random.default_rng(7)  # names of corners, the same in every run
        names = rng.integers(0, 2**63, (2, units + 6), dtype=np.uint64)
        self._flip, self._wall = names
        self._flip[units:] = 0
        eye = torch.eye(3, dtype=torch.float64)
        # The sides of the box as six more units: x - low and high - x.
        sides = torch.cat([torch.cat([-box[0].unsqueeze(0), eye]),
                           torch.cat([box[1].unsqueeze(0), -eye])], dim=1)  # fmt: skip
        self._sides = sides.unsqueeze(0)
        self._tol = _TOL * float((box[1] - box[0]).max())
        self._visited: set[int] = set()

    def run(self, seeds: Tensor, most: int) -> Facets:
        above = self.pieces.above(seeds)
        flips = np.where(above.numpy(), self._flip[:-6], np.uint64(0))
        keys = np.bitwise_xor.reduce(flips, axis=1)
        _, first = np.unique(keys, return_index=True)
        self._visited = set(keys[first].tolist())
        chosen = torch.from_numpy(first)
        walls = torch.full((len(first),), -1)
        waiting = [(above[chosen], keys[first], walls, seeds[chosen])]
        done: list[tuple[Floats, Keys, Integers]] = []
        count = 0
        while waiting:
            cells = _joined(waiting)
            waiting = []
            for begin in range(0, len(cells[1]), _BATCH):
                rows = slice(begin, begin + _BATCH)
                above, keys, walls, points = cells
                polygons, fresh = self._cells(above[rows], keys[rows], walls[rows], points[rows])
                done.append(polygons)
                count += len(polygons[2])
                waiting += [fresh] if len(fresh[1]) else []
            if count > most:
                message = (
                    f"exact_mesh: the level set has more than `max_faces`={most} polygons. Take a "
                    "smaller box or raise the number; `extract_mesh` makes a mesh of any field."
                )
                raise FieldError(message)
        places, names, counts = (np.concatenate(part) for part in zip(*done, strict=True))
        return Facets(places, names, counts)

    def _cells(
        self, above: Tensor, keys: Keys, walls: Tensor, points: Tensor
    ) -> tuple[tuple[Floats, Keys, Integers], Cells]:
        """Return the polygons of cells, and the cells past their edges that are new.

        Args:
            above: The cells, `(b, units)`.
            keys: What they are called, `(b,)`.
            walls: The unit that each was entered through, `(b,)`; -1 for none.
            points: Points of the level set on that, or inside, `(b, 3)`.
        """
        plane = self._plane(above, points)
        above, keys, walls, points, plane = self._settled(above, keys, walls, points, plane)
        if not len(keys):
            return (np.zeros((0, 3)), keys, np.zeros(0, dtype=np.int64)), (
                above,
                keys,
                walls,
                points,
            )
        lines, size, frame, normal, rest = plane
        walls, points = self._enter(walls, points, lines, frame)
        distance = (lines[:, 0] / size).nan_to_num(torch.inf).clamp_(min=0.0)
        distance[torch.arange(len(walls)), walls] = 0.0
        corners = _outlines(walls, distance, lines[:, 1:], size, self._tol)
        places = points[corners.row] + (corners.spot.unsqueeze(1) @ frame[corners.row]).squeeze(1)
        # One step back onto the plane of the level set, off which the way round has drifted.
        slope = normal[corners.row]
        off = (places * slope).sum(1) + rest[corners.row]
        places = places - slope * (off / slope.square().sum(1)).unsqueeze(1)
        return self._shared(corners, places, above, keys)

    def _plane(self, above: Tensor, points: Tensor) -> Plane:
        """Return how far inside each unit points are, with slopes in the plane of the level set.

        Returns:
            `(b, 3, units + 6)`; the lengths of the slopes, `(b, units + 6)`; the axes of the plane,
            `(b, 2, 3)`; the gradient of the field, `(b, 3)`; and the field less the level at the
            input 0, `(b,)`.
        """
        gaps, ends = self.pieces.maps(above)
        normal = ends[:, 1:, 0]
        frame = _tangents(normal)
        ones, noughts = points.new_ones(len(points), 1), points.new_zeros(len(points), 2, 1)
        rows = torch.cat(
            [torch.cat([ones, points], 1).unsqueeze(1), torch.cat([noughts, frame], 2)], 1
        )
        lines = points.new_empty(len(points), 3, above.shape[1] + 6)
        place = 0
        for part in (*gaps, self._sides):
            torch.matmul(rows, part, out=lines[:, :, place : place + part.shape[2]])
            place += part.shape[2]
        lines[:, :, : above.shape[1]] *= (2.0 * above - 1.0).unsqueeze(1)
        # Much faster than a norm along an axis of two.
        size = torch.hypot(lines[:, 1], lines[:, 2])
        return lines, size, frame, normal, ends[:, 0, 0] - self.level

    def _settled(
        self, above: Tensor, keys: Keys, walls: Tensor, points: Tensor, plane: Plane
    ) -> tuple[Tensor, Keys, Tensor, Tensor, Plane]:
        """Flip also those units that coincide with the one a cell was entered through."""
        units = above.shape[1]
        for turn in range(_TURNS):
            lines, size = plane[0][:, :, :units], plane[1][:, :units]
            close = lines[:, 0].abs() <= self._tol * size
            rows = torch.nonzero((close.sum(1) > 1) & (walls >= 0)).flatten()
            if not len(rows):
                break
            inward = lines[rows, 1:, walls[rows].clamp(max=units - 1)]
            along = torch.bmm(inward.unsqueeze(1), lines[rows, 1:]).squeeze(1)
            wrong = close[rows] & (along < -1e-9 * size[rows] * inward.norm(dim=1, keepdim=True))
            rows, wrong = rows[wrong.any(1)], wrong[wrong.any(1)]
            if not len(rows):
                break
            above = above.clone() if turn == 0 else above
            above[rows] ^= wrong
            flips = np.where(wrong.numpy(), self._flip[:units], np.uint64(0))
            keys = keys.copy()
            keys[rows.numpy()] ^= np.bitwise_xor.reduce(flips, axis=1)
            stays = np.ones(len(keys), dtype=bool)
            for row in rows.tolist():
                stays[row] = int(keys[row]) not in self._visited
                self._visited.add(int(keys[row]))
            mask = torch.from_numpy(stays)
            above, keys, walls, points = above[mask], keys[stays], walls[mask], points[mask]
            if not len(keys):
                break
            plane = self._plane(above, points)
        return above, keys, walls, points, plane

    def _enter(
        self, walls: Tensor, points: Tensor, lines: Tensor, frame: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a unit on the outline of each polygon, and a point of its edge, `(b, 3)`."""
        lost = walls < 0
        if not bool(lost.any()):
            return walls, points
        rate = -lines[lost, 1]
        time = torch.where(rate > 0, lines[lost, 0].clamp(min=0.0) / rate, torch.inf)
        reach, unit = time.min(1)
        walls, points = walls.clone(), points.clone()
        walls[lost] = unit
        points[lost] += reach.unsqueeze(1) * frame[lost, 0]
        lines[lost, 0] += reach.unsqueeze(1) * lines[lost, 1]
        return walls, points

    def _shared(
        self, corners: Corners, places: Tensor, above: Tensor, keys: Keys
    ) -> tuple[tuple[Floats, Keys, Integers], Cells]:
        """Return polygons whose corners have names, and the new cells past their edges."""
        owner, one, other = (each.numpy() for each in corners[:3])
        active = torch.nn.functional.pad(above, (0, 6)).numpy()
        names = keys[owner] ^ self._name(owner, one, active) ^ self._name(owner, other, active)
        corner, unit = (each.numpy() for each in corners.more)
        np.bitwise_xor.at(names, corner, self._name(owner[corner], unit, active))
        counts = np.bincount(owner, minlength=len(keys))
        after = np.arange(1, len(owner) + 1)
        stops = np.cumsum(counts)[counts > 0]
        after[stops - 1] = stops - counts[counts > 0]
        # The edge on the unit that was hit runs from this corner to the next one.
        real = names != names[after]
        inner = real & (other < above.shape[1])
        middle = (places + places[torch.from_numpy(after)]) / 2
        new = keys[owner[inner]] ^ self._flip[other[inner]]
        fresh = []
        for place, key in enumerate(new.tolist()):
            if key not in self._visited:
                self._visited.add(key)
                fresh.append(place)
        index = np.flatnonzero(inner)[fresh]
        flipped = above[torch.from_numpy(owner[index])]
        wall = torch.from_numpy(other[index])
        rows = torch.arange(len(index))
        flipped[rows, wall] = ~flipped[rows, wall]
        cells = (flipped, new[fresh], wall, middle[torch.from_numpy(index)])
        sizes = np.bincount(owner[real], minlength=len(keys))
        real &= sizes[owner] > 2
        sizes = np.bincount(owner[real], minlength=len(keys))
        return (places.numpy()[real], names[real], sizes[sizes > 0]), cells

    def _name(self, owner: Integers, unit: Integers, active: Booleans) -> Keys:
        """Return what lying on a unit does to the name of a corner, whichever side it is on."""
        return self._wall[unit] ^ np.where(active[owner, unit], self._flip[unit], np.uint64(0))


def _outlines(start: Tensor, distance: Tensor, slopes: Tensor, size: Tensor, tol: float) -> Corners:
    """Return the corners of polygons, from the units that are near enough to matter.

    Args:
        start: A unit on the outline of each, `(b,)`.
        distance: How far inside each unit a point of that edge is, in the plane, `(b, u)`.
        slopes: Of the units, `(b, 2, u)`.
        size: Their lengths, `(b, u)`.
        tol: The distance below which a corner lies on a unit.
    """
    few = min(_NEAR, distance.shape[1])
    nearest = np.argpartition(distance.numpy(), few - 1, axis=1)[:, :few]
    index = torch.from_numpy(np.ascontiguousarray(nearest))
    near = distance.gather(1, index)
    local = (index == start.unsqueeze(1)).long().argmax(1)
    wide = index.unsqueeze(1).expand(-1, 2, -1)
    ways = slopes.gather(2, wide) / size.gather(1, index).unsqueeze(1)
    found = _walk(local, near, ways.nan_to_num(0.0, 0.0, 0.0), tol)
    found = found.renamed(index)
    reach = torch.zeros(len(start), dtype=torch.float64)
    reach = reach.scatter_reduce(0, found.row, found.spot.norm(dim=1), "amax")
    # Units left out are farther from the point than any corner, or the polygon is done again.
    doubtful = (reach >= near.amax(1)) if few < distance.shape[1] else reach < 0
    rows = doubtful.nonzero().flatten()
    if not len(rows):
        return found
    ways = (slopes[rows] / size[rows].unsqueeze(1)).nan_to_num(0.0, 0.0, 0.0)
    again = _walk(start[rows], distance[rows], ways, tol)
    return found.without(doubtful).joined(again._replace(row=rows[again.row]))


def _walk(start: Tensor, distance: Tensor, slopes: Tensor, tol: float) -> Corners:
    """Go round polygons, counter-clockwise, from a point of an edge back to it.

    Args:
        start: The unit of the first edge of each, `(b,)`.
        distance: How far inside each unit the point is, `(b, u)`.
        slopes: Of these distances, of length 1, `(b, 2, u)`.
        tol: The distance below which a corner lies on a unit.
    """
    rows, wall = torch.arange(len(start)), start.clone()
    spot = slopes.new_zeros(len(start), 2)
    parts: list[tuple[Tensor, ...]] = []
    total = 0
    away = torch.zeros(len(start), dtype=torch.bool)
    for step in range(_MOST_CORNERS):
        here = torch.arange(len(rows))
        inward = slopes[here, :, wall]
        way = torch.stack([inward[:, 1], -inward[:, 0]], dim=1)
        rate = torch.bmm(way.unsqueeze(1), slopes).squeeze(1)
        time = torch.where(rate < -1e-12, distance / rate.neg(), torch.inf)
        time[here, wall] = torch.inf
        time[here[~away], start[~away]] = torch.inf
        reach, hit = time.min(1)
        spot = spot + reach.unsqueeze(1) * way
        distance = torch.addcmul(distance, rate, reach.unsqueeze(1)).clamp_(min=0.0)
        distance[here, wall] = 0.0
        distance[here, hit] = 0.0
        sound = reach.isfinite()
        # Several units may meet where the first edge ends: only a corner off it counts as away.
        touches = distance[here, start] <= tol
        back = (hit == start) | (touches & away)
        away = away | ~touches
        hit = torch.where(back, start, hit)
        zero = distance <= tol
        zero[here, wall] = zero[here, hit] = False
        zero &= sound.unsqueeze(1)
        which, unit = zero.nonzero(as_tuple=True)
        count = int(sound.sum())
        number = torch.cumsum(sound, 0) - 1 + total
        parts.append((rows[sound], wall[sound], hit[sound], spot[sound],
                      torch.full((count,), step), number[which], unit))  # fmt: skip
        total += count
        open_ = sound & ~back
        if not bool(open_.any()):
            break
        if not bool(open_.all()):
            rows, start, distance, slopes, spot, hit, away = (
                each[open_] for each in (rows, start, distance, slopes, spot, hit, away)
            )
        wall = hit
    row, wall, hit, spot, step_of, corner, unit = (
        torch.cat(each) for each in zip(*parts, strict=True)
    )
    return Corners(row, wall, hit, spot, step_of, (corner, unit)).sorted()


def _tangents(normal: Tensor) -> Tensor:
    """Return two unit vectors across each normal, `(b, 2, 3)`, right-handed with it."""
    normal = normal / torch.linalg.vector_norm(normal, dim=1, keepdim=True)
    helper = torch.zeros_like(normal)
    helper.scatter_(1, normal.abs().argmin(1, keepdim=True), 1.0)
    first = torch.linalg.cross(normal, helper)
    first = first / torch.linalg.vector_norm(first, dim=1, keepdim=True)
    return torch.stack([first, torch.linalg.cross(normal, first)], dim=1)


def _joined(parts: list[Cells]) -> Cells:
    above, keys, walls, points = zip(*parts, strict=True)
    return torch.cat(above), np.concatenate(keys), torch.cat(walls), torch.cat(points)
