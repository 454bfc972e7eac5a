"""Lines cut back to where there are points near them."""

import numpy as np
from scipy.spatial import cKDTree

from levelset._typing import Booleans, Floats

__all__ = ["far_from", "trimmed"]


_STRAY = 0.03  # lines with less than this share of the whole length near points are left out


def far_from(points: Floats, lines: list[Floats], closed: list[bool]) -> Floats:
    """Return the distances of points from lines, `(n,)`: to the nearest of their straight pieces.

    The pieces that meet at the 3 nearest corners are compared, so corners should be closer
    together than the lines are to one another.
    """
    starts, ends = [], []
    for line, ring in zip(lines, closed, strict=True):
        following = np.roll(line, -1, 0) if ring else np.concatenate([line[1:], line[-1:]])
        starts.append(line)
        ends.append(following)
    a, b = np.concatenate(starts), np.concatenate(ends)
    before = np.arange(len(a))
    first = 0
    for line, ring in zip(lines, closed, strict=True):
        rows = np.arange(first, first + len(line))
        before[rows] = np.roll(rows, 1)
        if not ring:
            before[rows[0]] = rows[0]
        first += len(line)
    corners = cKDTree(a).query(points, min(3, len(a)))[1].reshape(len(points), -1)
    pieces = np.concatenate([corners, before[corners]], 1)
    base, way = a[pieces], (b - a)[pieces]
    square = np.maximum((way**2).sum(-1), 1e-300)
    share = np.clip(((points[:, None] - base) * way).sum(-1) / square, 0.0, 1.0)
    return np.linalg.norm(points[:, None] - base - share[..., None] * way, axis=-1).min(1)


def trimmed(
    lines: list[Floats], closed: list[bool], points: Floats, *, near: float, gap: float
) -> tuple[list[Floats], list[bool]]:
    """Return what of some lines lies near points, with gaps kept where they are short.

    Args:
        lines: The lines, `(m, d)` each.
        closed: Which of them are closed.
        points: The cloud, `(n, d)`.
        near: Distance within which there must be a point of the cloud.
        gap: The longest part without one that is kept between two parts with some, as a share
            of a line.
    """
    tree = cKDTree(points)
    found: list[tuple[float, Floats, bool]] = []
    for line, ring in zip(lines, closed, strict=True):
        good = tree.query(line)[0] <= near
        if good.any():
            found += _kept(line, ring, good, gap)
    total = sum(length for length, _, _ in found)
    found = sorted((one for one in found if one[0] >= _STRAY * total), key=lambda one: -one[0])
    return [line for _, line, _ in found], [ring for _, _, ring in found]


def _kept(line: Floats, ring: bool, good: Booleans, gap: float) -> list[tuple[float, Floats, bool]]:
    """Return the lengths, points and kinds of the parts of one line that stay."""
    if ring and not good.all():
        # Cut open inside the longest part without points, so that no other part is cut.
        doubled = np.concatenate([good, good])
        runs = _runs(~doubled)
        start, stop = max(runs, key=lambda run: run[1] - run[0])
        shift = ((start + stop) // 2) % len(line)
        line, good = np.roll(line, -shift, 0), np.roll(good, -shift)
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0.0], steps.cumsum()])
    runs = _runs(good)
    allowed = gap * along[-1]
    parts = [runs[0]]
    for run in runs[1:]:
        if along[run[0]] - along[parts[-1][1] - 1] <= allowed:
            parts[-1] = (parts[-1][0], run[1])
        else:
            parts.append(run)
    if ring and len(parts) == 1:
        missing = along[-1] - along[parts[0][1] - 1] + along[parts[0][0]]
        if good.all() or missing <= allowed:
            return [(float(along[-1]), line, True)]
    return [
        (float(along[stop - 1] - along[start]), line[start:stop], False)
        for start, stop in parts
        if stop - start > 1
    ]


def _runs(flags: Booleans) -> list[tuple[int, int]]:
    """Return the starts and stops of the runs of true."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(),
                    strict=True))  # fmt: skip
