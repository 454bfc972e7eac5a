"""Values of a field on a lattice, near one level set only."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset._typing import Booleans, Floats, Integers, Singles
from levelset.errors import FieldError

__all__ = ["Lattice", "narrow_band"]


COARSE_BLOCKS = 16  # at least so many blocks along the longest axis are looked at first
MARGIN = 1.25  # on the steepest slope seen, which is a sample of all slopes
SLOPES = 2048  # points of a generation of blocks where the slope is taken


@dataclass
class Lattice:
    """A box cut into equal cells, and what a field is at their corners.

    Attributes:
        low: The lowest corner of the box, `(3,)`.
        step: The length of a cell.
        cells: How many cells along each axis.
        evaluator: The field, counted.
        level: What is subtracted from its values.
        make: Turns coordinates `(n, 3)`, float64, into what the field takes.
        steepest: Largest slope seen.
    """

    low: Floats
    step: float
    cells: tuple[int, int, int]
    evaluator: Evaluator
    level: float
    make: Callable[[Floats], Tensor]
    steepest: float = field(default=0.0)

    def values(self, places: Floats) -> Floats:
        """Return the field less the level at places `(n, 3)`, counted in cells."""
        points = self.make(self.low + self.step * places)
        found = self.evaluator.values(points)[:, 0] - self.level
        return np.asarray(found.double().cpu().numpy())

    def slopes(self, places: Floats) -> Floats:
        """Return the lengths of the gradients at places `(n, 3)`, per cell."""
        points = self.make(self.low + self.step * places)
        gradient = self.evaluator.value_and_jacobian(points)[1][:, 0]
        return np.asarray(self.step * gradient.double().norm(dim=1).cpu().numpy())


def narrow_band(lattice: Lattice, progress: Callable[[int, int], None] | None = None) -> Singles:
    """Return values at the corners of all cells, `(c0 + 1, c1 + 1, c2 + 1)`, in cells about zero.

    Only corners near the zero set are evaluated; the others hold a large number of the right sign.
    Blocks of cells, sixteen along the box or more, are halved again and again; one whose
    middle has |F| above the steepest slope seen among its generation times half its diagonal,
    times 1.25, is dropped with all its corners. Where neighbouring corners then differ in sign and
    were not both evaluated, the estimate was too bold: the corners around are evaluated too, until
    there is no such place. So the surface has no cracks, whatever the slopes, and what was
    found of a piece is followed to its end. What can be lost is a whole piece that fits
    between the middles of blocks of which none knows of it, where the field is no distance.
    """
    size = _coarsest(max(lattice.cells))
    blocks = np.stack(np.meshgrid(*(np.arange(-(-c // size)) for c in lattice.cells),
                                  indexing="ij"), axis=-1).reshape(-1, 3)  # fmt: skip
    sign = np.zeros(tuple(-(-c // size) for c in lattice.cells), dtype=np.int8)
    while True:
        near = _kept(lattice, blocks, size, sign)
        blocks = blocks[near]
        if size == 2:
            break
        size //= 2
        blocks = (2 * blocks[:, None] + _OFFSETS).reshape(-1, 3)
        counts = tuple(-(-c // size) for c in lattice.cells)
        blocks = blocks[(blocks < counts).all(1)]
        sign = _doubled(sign)[: counts[0], : counts[1], : counts[2]]
    shape = tuple(c + 1 for c in lattice.cells)
    volume = _far_values(sign, shape)
    known = np.zeros(shape, dtype=bool)
    wanted = _corners(blocks, shape)
    return _filled(lattice, volume, known, wanted, progress)


_OFFSETS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
_FAR = np.float32(1e3)
_LEAST = 1e-5  # smallest value kept, so that no corner of the surface falls on one of the lattice


def _coarsest(cells: int) -> int:
    """Return the side of the first blocks, a power of two, at least 2."""
    return 2 ** max(1, int(math.log2(max(cells / COARSE_BLOCKS, 2.0))))


def _kept(lattice: Lattice, blocks: Integers, size: int, sign: NDArray[np.int8]) -> Booleans:
    """Return which blocks may hold the surface, and note the sign of the others."""
    first = blocks * size
    last = np.minimum(first + size, lattice.cells)
    middles = (first + last) / 2
    if not len(blocks):
        return np.zeros(0, dtype=bool)
    values = lattice.values(middles)
    if not np.isfinite(values).any():
        message = (
            f"{lattice.evaluator.function}: `field` must return finite values, got NaN or infinity "
            f"on all of {len(values)} points of the box. Check its weights and the bounds."
        )
        raise FieldError(message)
    half = np.sqrt(((last - first) ** 2).sum(1)) / 2
    steepest = max(_steepest(lattice, middles, values), _steepest_step(blocks, values, size))
    lattice.steepest = steepest
    near = ~(np.abs(values) > MARGIN * steepest * half)  # NaN counts as near
    sign[tuple(blocks[~near].T)] = np.where(values[~near] > 0, 1, -1)
    return near


def _steepest(lattice: Lattice, middles: Floats, values: Floats) -> float:
    """Return the largest slope at the middles nearest to the level, and some others."""
    order = np.argsort(np.abs(values), kind="stable")
    close, rest = order[: SLOPES // 2], order[SLOPES // 2 :]
    stride = max(1, -(-len(rest) // (SLOPES // 2)))
    slopes = lattice.slopes(middles[np.concatenate([close, rest[::stride]])])
    return float(slopes[np.isfinite(slopes)].max(initial=0.0))


def _steepest_step(blocks: Integers, values: Floats, size: int) -> float:
    """Return the largest difference between neighbouring middles, per cell.

    Where a field saturates away from its level, slopes at the middles may all vanish.
    """
    counts = blocks.max(0) + 2
    grid = np.full(tuple(counts), np.nan)
    grid[tuple(blocks.T)] = values
    with np.errstate(invalid="ignore"):
        steps = [np.abs(np.diff(grid, axis=axis)) for axis in range(3)]
    return max(float(step[np.isfinite(step)].max(initial=0.0)) for step in steps) / size


def _doubled(sign: NDArray[np.int8]) -> NDArray[np.int8]:
    for axis in range(3):
        sign = np.repeat(sign, 2, axis=axis)
    return sign


def _far_values(sign: NDArray[np.int8], shape: tuple[int, ...]) -> Singles:
    """Return large values at all corners, with the sign of a block that each is of."""
    padded = np.pad(_doubled(sign), 1, mode="edge")
    # a corner between a dropped block and a kept one takes the dropped one's sign
    corner = padded[1 : 1 + shape[0], 1 : 1 + shape[1], 1 : 1 + shape[2]].copy()
    for offset in _OFFSETS[1:]:
        a, b, c = 1 - offset
        other = padded[a : a + shape[0], b : b + shape[1], c : c + shape[2]]
        np.copyto(corner, other, where=corner == 0)
    return np.asarray(corner * _FAR, dtype=np.float32)


def _corners(blocks: Integers, shape: tuple[int, ...]) -> Integers:
    """Return the flat indices of the corners of blocks of two cells, each once."""
    mark = np.zeros(shape, dtype=bool)
    offsets = np.stack(np.meshgrid([0, 1, 2], [0, 1, 2], [0, 1, 2], indexing="ij"), axis=-1)
    for offset in offsets.reshape(-1, 3):
        corner = 2 * blocks + offset
        inside = (corner < shape).all(1)
        mark[tuple(corner[inside].T)] = True
    return np.flatnonzero(mark)


def _filled(
    lattice: Lattice,
    volume: Singles,
    known: Booleans,
    wanted: Integers,
    progress: Callable[[int, int], None] | None,
) -> Singles:
    """Evaluate the corners wanted, and those around every sign change that is not yet known."""
    done = 0
    while len(wanted):
        for start in range(0, len(wanted), 65_536):
            rows = wanted[start : start + 65_536]
            places = np.stack(np.unravel_index(rows, volume.shape), axis=1)
            volume.flat[rows] = _scaled(lattice.values(places.astype(np.float64)), lattice)
            known.flat[rows] = True
            done += len(rows)
            if progress is not None:
                progress(done, done - start - len(rows) + len(wanted))
        wanted = _doubtful(volume, known)
    return volume


def _scaled(values: Floats, lattice: Lattice) -> Singles:
    """Return values in cells, none of them zero; NaN becomes outside."""
    scaled = values / (lattice.steepest if lattice.steepest > 0 else 1.0)
    scaled = np.nan_to_num(scaled, nan=float(_FAR), posinf=float(_FAR), neginf=-float(_FAR))
    size = np.clip(np.abs(scaled), _LEAST, _FAR)
    return np.where(scaled < 0, -size, size).astype(np.float32)


def _doubtful(volume: Singles, known: Booleans) -> Integers:
    """Return the corners, not yet known, around steps over zero of which one end is not known."""
    negative = volume < 0
    mark = np.zeros_like(known)
    for axis in range(3):
        a = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        b = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        step = (negative[a] != negative[b]) & ~(known[a] & known[b])
        mark[a] |= step
        mark[b] |= step
    if not mark.any():
        return np.zeros(0, dtype=np.int64)
    around = np.argwhere(mark)
    reach = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for offset in reach:
        place = around + offset
        inside = ((place >= 0) & (place < volume.shape)).all(1)
        mark[tuple(place[inside].T)] = True
    return np.flatnonzero(mark & ~known)
