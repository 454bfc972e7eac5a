"""Point clouds in a frame of their own: checked, finite, without duplicates, then oriented."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._tools.checks import check_points
from levelset._typing import Booleans, Floats, Integers
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.reconstruction._averaging import averaged
from levelset.reconstruction._noise import noise_level

__all__ = ["Cloud", "prepare", "rows_words"]


FEWEST = 50
FLAT = 1e-4  # standard deviation across a plane or line, in radii, up to which points lie on it
THREAD = 3.3  # distance to the 32nd over that to the 8th neighbour: 4 on a curve, 2 on a surface
CORE = 0.9  # share of the points, nearest the median, whose size says what is far
FAR = 3.0  # radii of the core
HUGE = 1e3  # radii of the core beyond which points are far even together
SHOWN = 3  # rows that a note names
LONELY = 0.25  # radii of the core to the fifth neighbour


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in the unit frame, and the way back.

    Attributes:
        points: The points, `(n, 3)`: centred at the centre of their bounding box, the farthest at
            radius 1.
        normals: Unit normals, if the caller has them, `(n, 3)`, or `None`.
        counts: How many points of the input each is the mean of, `(n,)`; 1 unless they were very
            many.
        rows: The rows of the input that were used, ascending.
        centre: The origin of the frame in the input's coordinates, `(3,)`.
        scale: The unit of the frame in the input's units.
        strays: How many points were left out because they are far from all others.
        notes: What was left out, in words.
        sensors: From where each was seen, `(n, 3)`, if the caller knows, or `None`.
        raw_noise: Standard deviation of the points of the input about the surface, if these are
            their means, or `None`.
    """

    points: Floats
    normals: Floats | None
    counts: Integers
    rows: Integers
    centre: Tensor
    scale: float
    strays: int
    notes: tuple[str, ...]
    sensors: Floats | None = None
    raw_noise: float | None = None

    def to_world(self, points: Tensor) -> Tensor:
        """Return points of the unit frame `(m, 3)` in the input's coordinates and units."""
        return points * self.scale + self.centre.to(points.device, points.dtype)


def prepare(
    points: Tensor,
    normals: Tensor | None = None,
    most: int | None = None,
    sensor: Tensor | None = None,
    counts: Tensor | None = None,
    sample: Tensor | None = None,
) -> Cloud:
    """Check a cloud, clean it and move it into the unit frame.

    More than `most` points are averaged in cells, see `averaged`.

    Left out, and counted in `notes`: rows with NaN or infinity; points that repeat an earlier one;
    points that are three times as far from the median as 90 % of the cloud is, and alone there, or
    a thousand times as far.
    Outliers nearer than that stay, and `orient` marks them. Separate objects all stay.

    Args:
        points: The cloud in any units, `(n, 3)`. Not modified.
        normals: Normals of any length, alike, or `None`.
        most: Most points of the result; `None` for all.
        sensor: From where the points were seen, `(3,)`, or each of them, `(n, 3)`.
        counts: How many points of a scan each is the mean of, `(n,)`; `None` for 1.
        sample: Some points of that scan, `(k, 3)`, for their noise.

    Raises:
        ShapeError: If `points` is not floating point `(n, 3)`, `normals` not alike, `sensor`
            neither alike nor `(3,)`, `counts` not `(n,)` and positive, or `sample` not `(k, 3)`.
        ParameterError: If `sensor` is not finite.
        DataError: If fewer than 50 points are left, or they lie on a line, in a plane or along a
            curve.
    """
    _check(points, normals)
    _check_means(points, counts, sample)
    cloud = points.detach().cpu().double().numpy()
    finite = np.isfinite(cloud).all(1)
    missing = np.zeros(len(cloud), dtype=bool)
    directions = None
    if normals is not None:
        directions = normals.detach().cpu().double().numpy()
        length = np.linalg.norm(directions, axis=1, keepdims=True)
        missing = finite & ~(np.isfinite(length) & (length > 0.0))[:, 0]
        finite &= ~missing
        directions = directions / np.where(length > 0.0, length, 1.0)
    rows = np.flatnonzero(finite)
    single = rows[_first_of_each(cloud[rows])]
    rest = single[~_strays(cloud[single])]
    strays = len(single) - len(rest)
    _check_count(len(rest), len(cloud))
    low, high = cloud[rest].min(0), cloud[rest].max(0)
    centre = low + 0.5 * (high - low)
    scale = float(np.linalg.norm(cloud[rest] - centre, axis=1).max())
    unit = (cloud[rest] - centre) / scale
    _check_solid(unit)
    notes = _words(len(cloud), missing, len(cloud) - len(rows), len(rows) - len(single), strays)
    seen = None if sensor is None else _sensors("surface", sensor, points)[rest]
    seen = None if seen is None else (seen - centre) / scale
    turned = None if directions is None else directions[rest]
    sizes, raw_noise = np.ones(len(unit), dtype=np.int64), None
    if counts is not None:
        sizes = counts.cpu().numpy().astype(np.int64)[rest]
    if sample is not None:
        raw_noise = _raw_noise(sample.detach().cpu().double().numpy(), len(sample)) / scale
    if most is not None and len(unit) > most:
        if raw_noise is None:
            raw_noise = _raw_noise(unit, most)
        total, means = int(sizes.sum()), averaged(unit, turned, most, sizes)
        if seen is not None:
            seen = seen[cKDTree(unit).query(means.points)[1]]
        unit, turned, sizes = means.points, means.normals, means.counts
        notes += (
            f"{total:,} points were averaged in {len(unit):,} cells of side "
            f"{scale * means.width:.3g}",
        )
    return Cloud(
        points=unit,
        normals=turned,
        counts=sizes,
        rows=rest,
        centre=torch.from_numpy(centre),
        scale=scale,
        strays=strays,
        notes=notes,
        sensors=seen,
        raw_noise=raw_noise,
    )


def _raw_noise(points: Floats, most: int) -> float:
    """Return the noise of points too many to look at all, by at most `most` drawn evenly."""
    some = points[np.random.default_rng(0).choice(len(points), most, replace=False)]
    return noise_level(some, cKDTree(some)).noise


def _check_means(points: Tensor, counts: Tensor | None, sample: Tensor | None) -> None:
    if counts is not None and (counts.shape != points.shape[:1] or bool((counts < 1).any())):
        message = (
            f"surface: `counts` must be {len(points)} positive numbers, one for each of `points`, "
            f"got {tuple(counts.shape)}{'' if counts.shape != points.shape[:1] else ' with 0'}."
        )
        raise ShapeError(message)
    if sample is None:
        return
    check_points("surface", sample, "sample")
    if sample.dim() != 2 or sample.shape[1] != 3 or len(sample) < FEWEST:
        message = (
            f"surface: `sample` must be at least {FEWEST} points (k, 3), got "
            f"{tuple(sample.shape)}. Leave it out."
        )
        raise ShapeError(message)


def _sensors(where: str, sensor: Tensor, points: Tensor) -> Floats:
    """Return from where each point was seen, `(n, 3)`."""
    if sensor.shape not in ((3,), points.shape):
        message = (
            f"{where}: `sensor` must be one place (3,), or one for each of `points` "
            f"{tuple(points.shape)}, got {tuple(sensor.shape)}."
        )
        raise ShapeError(message)
    places = sensor.detach().cpu().double().expand(points.shape).numpy()
    if not np.isfinite(places).all():
        row = int(np.flatnonzero(~np.isfinite(places).all(1))[0])
        message = f"{where}: `sensor` must be finite, got {places[row].tolist()} (row {row})."
        raise ParameterError(message)
    return places


def _check(points: Tensor, normals: Tensor | None) -> None:
    check_points("surface", points)
    if points.dim() != 2 or points.shape[1] != 3:
        message = (
            f"surface: `points` must have the shape (n, 3), got {tuple(points.shape)}. "
            "For points in the plane use `reconstruction.curve`."
        )
        raise ShapeError(message)
    if normals is not None:
        check_points("surface", normals, "normals")
        if normals.shape != points.shape:
            message = (
                "surface: `normals` must have the shape of `points`, "
                f"{tuple(points.shape)}, got {tuple(normals.shape)}."
            )
            raise ShapeError(message)


def _check_count(left: int, count: int) -> None:
    if left < FEWEST:
        message = (
            f"surface: `points` must hold at least {FEWEST} different finite points, "
            f"got {left} (of {count} rows). Scan more densely, or join the scans of the object."
        )
        raise DataError(message)


def _check_solid(unit: Floats) -> None:
    """Refuse points on a line, in a plane, or along a curve."""
    spread = np.linalg.svd(unit - unit.mean(0), compute_uv=False) / np.sqrt(len(unit))
    if spread[1] < FLAT:
        message = (
            "surface: `points` must not all lie on a straight line "
            f"(they do, within {spread[1]:.1e} of their radius): they determine no "
            "surface. Check the columns of the file."
        )
        raise DataError(message)
    if spread[-1] < FLAT:
        message = (
            "surface: `points` must not all lie in a plane "
            f"(they do, within {spread[-1]:.1e} of their radius): they enclose no volume. "
            "For their outline use `levelset reconstruct --curve`."
        )
        raise DataError(message)
    if _is_thread(unit):
        message = (
            "surface: `points` must lie on a surface, but nearly every point's neighbours lie on "
            "a line: this is a curve. Use `levelset reconstruct --curve`."
        )
        raise DataError(message)


def _is_thread(unit: Floats) -> bool:
    """Return whether points grow in number like the distance, not like its square."""
    some = unit[:: max(1, len(unit) // 1000)]
    distance, _ = cKDTree(unit).query(some, 33)
    return bool(np.median(distance[:, 32] / distance[:, 8]) > THREAD)


def rows_words(chosen: Booleans, rows: Integers | None = None) -> str:
    """Return the first rows that are chosen, in words, by their numbers in the input."""
    first = np.flatnonzero(chosen)
    first = first if rows is None else rows[first]
    return f"rows: {', '.join(map(str, first[:SHOWN].tolist()))}"


def _first_of_each(points: Floats) -> Integers:
    """Return ascending rows of the first of each point."""
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    # ten times as fast as np.unique along an axis; 0.0 and -0.0 are one point
    order = np.lexsort(points.T + 0.0)
    ordered = points[order]
    new = np.r_[True, (ordered[1:] != ordered[:-1]).any(1)]
    return np.sort(np.minimum.reduceat(order, np.flatnonzero(new)))


def _strays(points: Floats) -> Booleans:
    if len(points) < FEWEST:
        return np.zeros(len(points), dtype=bool)
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    core = np.quantile(distance, CORE)
    stray: Booleans = distance > FAR * core
    if stray.any():
        gap, _ = cKDTree(points).query(points[stray], 6)
        stray[stray] = (gap[:, 5] > LONELY * core) | (distance[stray] > HUGE * core)
    return stray


def _words(
    count: int, missing: Booleans, dropped: int, repeated: int, apart: int
) -> tuple[str, ...]:
    notes = []
    if lacking := int(missing.sum()):
        notes.append(
            f"{lacking:,} of {count:,} normals are zero or not finite (first {rows_words(missing)})"
            ": left out with their points"
        )
    if dropped > lacking:
        notes.append(f"{dropped - lacking:,} of {count:,} rows hold NaN or infinity: left out")
    if repeated:
        notes.append(f"{repeated:,} of {count:,} rows repeat an earlier point: left out")
    if apart:
        notes.append(f"{apart:,} of {count:,} points lie far from all others: left out")
    return tuple(notes)
