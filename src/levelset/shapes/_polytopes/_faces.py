"""The faces of a solid, read from whatever describes it, and refused where they enclose none."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from levelset._tools.checks import shown
from levelset.errors import DataError, ShapeError
from levelset.shapes._polytopes._crossing import crossing_faces

__all__ = ["TITLE", "Faces", "numbers", "read_faces"]

TITLE = "polytope_network"
# Lengths below this share of the solid's extent are rounding.
PRECISION = 2e-13
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Faces:
    """Flat faces with their outward normals: segments for d = 2, triangles for d = 3.

    Attributes:
        corners: Of each face, `(f, d, d)`.
        normals: Unit vectors that point outwards, `(f, d)`.
        offsets: The numbers h of the planes n . x = h, `(f,)`.
        areas: Lengths or areas, `(f,)`.
        rows: The row of each in the caller's mesh, `(f,)`; faces without area are left out.
        tolerance: Lengths up to this are rounding.
    """

    corners: Floats
    normals: Floats
    offsets: Floats
    areas: Floats
    rows: Integers
    tolerance: float


def read_faces(solid: Any) -> Faces:
    """Return the faces of a closed mesh, or of closed polylines in the plane.

    Raises:
        ShapeError: If it is neither, or its rows do not fit together.
        DataError: If it is not finite, open, turned inside out, or cuts itself.
    """
    vertices, faces = _arrays(solid)
    _check_arrays(vertices, faces)
    # one number for vertices in one place; adding zero makes -0 and 0 one
    _, same = np.unique(vertices + 0.0, axis=0, return_inverse=True)
    _check_closed(faces, same.reshape(-1)[faces])
    corners = vertices[faces]
    found = _planes(corners, PRECISION * float(np.abs(corners).max()))
    _check_outward(found)
    _check_uncut(found)
    return found


def _check_uncut(faces: Faces) -> None:
    pairs = crossing_faces(faces.corners, faces.normals, faces.offsets, faces.tolerance)
    if len(pairs):
        named = ", ".join(f"{a} and {b}" for a, b in faces.rows[pairs[:3]])
        named += ", ..." if len(pairs) > 3 else ""
        message = (
            f"{TITLE}: no faces of `solid` may cut each other, but these do: {named} "
            f"({len(pairs)} in all). Make the union of its parts first."
        )
        raise DataError(message)


def _arrays(solid: Any) -> tuple[Floats, Integers]:
    if hasattr(solid, "lines") and hasattr(solid, "closed"):
        return _outlines(solid)
    if isinstance(solid, tuple | list):
        vertices, faces = (numbers(part) for part in solid)
    else:
        vertices, faces = numbers(solid.vertices), numbers(solid.faces)
    rows = np.nan_to_num(faces).astype(np.int64)
    if (rows != faces).any():
        raise ShapeError(f"{TITLE}: the faces of `solid` must be integers.")
    return vertices, rows


def numbers(values: Any) -> Floats:
    """Return a tensor, array or nested list as float64.

    Raises:
        ShapeError: If it is none of these, or ragged.
    """
    plain = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else values
    try:
        return np.array(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"{TITLE}: `solid` must be made of tensors or arrays, got {shown(values)}."
        raise ShapeError(message) from error


def _outlines(curves: Any) -> tuple[Floats, Integers]:
    """Return closed polylines as segments with the solid on their left: even-odd, as in fonts."""
    lines = [numbers(line) for line in curves.lines]
    if not lines or lines[0].shape[1] != 2:
        shape = f"(m, {lines[0].shape[1]})" if lines else "none"
        message = f"{TITLE}: the lines of `solid` must have the shape (m, 2), got {shape}."
        raise ShapeError(message)
    still_open = [row for row, closed in enumerate(curves.closed) if not closed]
    if still_open:
        message = (
            f"{TITLE}: `solid` must be closed, but {len(still_open)} of its {len(lines)} lines "
            f"are open (first: {', '.join(map(str, still_open[:3]))})."
        )
        raise DataError(message)
    parts, start = [], 0
    for row, line in enumerate(lines):
        around = [_winds(other, line[0]) for at, other in enumerate(lines) if at != row]
        hole = sum(around) % 2 == 1
        after = np.roll(line, -1, axis=0)
        left = float((line[:, 0] * after[:, 1] - line[:, 1] * after[:, 0]).sum()) > 0
        steps = np.arange(len(line)) + start
        segments = np.stack([steps, np.roll(steps, -1)], axis=1)
        parts.append(segments if left != hole else segments[:, ::-1])
        start += len(line)
    return np.concatenate(lines), np.concatenate(parts)


def _winds(line: Floats, point: Floats) -> bool:
    """Return whether a closed line runs around a point."""
    a, b = line, np.roll(line, -1, axis=0)
    spans = (a[:, 1] > point[1]) != (b[:, 1] > point[1])
    a, b = a[spans], b[spans]
    share = (point[1] - a[:, 1]) / (b[:, 1] - a[:, 1])
    return bool((a[:, 0] + share * (b[:, 0] - a[:, 0]) > point[0]).sum() % 2)


def _check_arrays(vertices: Floats, faces: Integers) -> None:
    d = vertices.shape[1] if vertices.ndim == 2 else 0
    if d not in (2, 3) or faces.ndim != 2 or faces.shape[1] != d:
        message = (
            f"{TITLE}: `solid` must have vertices (v, 2) and segments (f, 2), or vertices (v, 3) "
            f"and triangles (f, 3), got {vertices.shape} and {faces.shape}."
        )
        raise ShapeError(message)
    if not len(faces):
        raise DataError(f"{TITLE}: `solid` must have faces, got none.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        message = (
            f"{TITLE}: the faces of `solid` must name rows 0 to {len(vertices) - 1} of its "
            f"vertices, got {faces.min()} to {faces.max()}."
        )
        raise ShapeError(message)
    bad = ~np.isfinite(vertices[np.unique(faces)]).all(axis=1)
    if bad.any():
        message = (
            f"{TITLE}: `solid` must be bounded, got NaN or infinity in {int(bad.sum())} vertices."
        )
        raise DataError(message)


def _check_closed(faces: Integers, same: Integers) -> None:
    """Refuse faces that leave edges open, or run along one in the same direction.

    `same` holds the faces with one number for vertices in one place.
    """
    d = faces.shape[1]
    if d == 2:
        uses = np.bincount(same[:, 0], minlength=same.max() + 1).astype(np.int64)
        uses -= np.bincount(same[:, 1], minlength=same.max() + 1)
        loose = np.nonzero(uses)[0]
        names = [str(faces.reshape(-1)[same.reshape(-1) == number][0]) for number in loose[:3]]
        if len(loose):
            _refuse_open("corners", len(loose), names, same=False)
        return
    ends = same[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    named = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    kept = ends[:, 0] != ends[:, 1]
    ends, named = ends[kept], named[kept]
    forward = np.where(ends[:, 0] < ends[:, 1], 1, -1)
    _, first, edge = np.unique(
        np.sort(ends, axis=1), axis=0, return_index=True, return_inverse=True
    )
    edge = edge.reshape(-1)
    balance, uses = np.bincount(edge, forward), np.bincount(edge)
    loose = np.nonzero(balance != 0)[0]
    if len(loose):
        names = [f"{a}-{b}" for a, b in named[first[loose[:3]]]]
        _refuse_open("edges", len(loose), names, same=bool((uses[loose] % 2 == 0).all()))


def _refuse_open(what: str, count: int, names: list[str], *, same: bool) -> None:
    listed = ", ".join(names) + (", ..." if count > len(names) else "")
    if same:
        message = (
            f"{TITLE}: the faces of `solid` must run around it in one sense, but those on both "
            f"sides of {count} {what} do not (first, by vertices: {listed})."
        )
    else:
        message = (
            f"{TITLE}: `solid` must be closed, but {count} {what} are open (first, by vertices: "
            f"{listed}). Fill its holes first."
        )
    raise DataError(message)


def _planes(corners: Floats, tolerance: float) -> Faces:
    d = corners.shape[2]
    sides = corners - np.roll(corners, 1, axis=1)
    longest = np.linalg.norm(sides, axis=2).max(axis=1)
    if d == 2:
        along = corners[:, 1] - corners[:, 0]
        normals = np.stack([along[:, 1], -along[:, 0]], axis=1)
    else:
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    height = lengths if d == 2 else lengths / np.maximum(longest, np.finfo(float).tiny)
    rows = np.nonzero(height > tolerance)[0]
    normals = normals[rows] / lengths[rows, None]
    offsets = np.einsum("fd,fcd->f", normals, corners[rows]) / d
    return Faces(corners[rows], normals, offsets, lengths[rows] / (d - 1), rows, tolerance)


def _check_outward(faces: Faces) -> None:
    middle = faces.corners.reshape(-1, faces.corners.shape[2]).mean(axis=0)
    heights = faces.offsets - faces.normals @ middle
    volume = float((heights * faces.areas).sum()) / len(middle)
    if not volume > 0:
        kind = "triangles" if len(middle) == 3 else "segments"
        message = (
            f"{TITLE}: `solid` must be bounded, but its faces look inwards: the volume that they "
            f"enclose is {volume:.3g}. Turn its {kind} round, as with `faces.flip(1)`."
        )
        raise DataError(message)
