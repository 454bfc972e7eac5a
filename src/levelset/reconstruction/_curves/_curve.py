"""From raw points to curves."""

import math
import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from levelset._projection import project
from levelset._tools.arguments import checked
from levelset._tools.checks import check_points
from levelset._tools.random import draw_seed
from levelset._tools.results import Result
from levelset._typing import Booleans, Floats, Points
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.reconstruction._curves._clutter import clutter
from levelset.reconstruction._curves._field import CurveField
from levelset.reconstruction._curves._ordering import Path, branches, order_points
from levelset.reconstruction._curves._polylines import Polylines
from levelset.reconstruction._curves._smoothing import SmoothCurve, smooth_curve
from levelset.reconstruction._curves._trace import trace_curve
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._paper import train_paper
from levelset.reconstruction._settings import Fast, Paper

__all__ = ["Curve", "curve", "far_from", "fit_curves", "trimmed"]

_DEFAULT = Fast()
_FEWEST = 10
_RESOLUTION = 128  # of the lattice on which a trained network is traced
_NEAR = 6.0  # distances to the nearest other point within which a traced line has points near it
Fitted: TypeAlias = tuple[nn.Module, list[Floats], list[bool], float, tuple[Step, ...], Floats]
_STRAY = 0.03  # lines with less than this share of the whole length near points are left out


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Result):
    """Curves reconstructed from points.

    Attributes:
        network: The field in the unit frame, `(n, d)` to `(n, d - 1)`; its zero set holds the
            lines, and goes on where they end.
        lines: The curves, in the units of the points, longest first.
        history: The course of the fit, a `Step` a round.
        residuals: Distance of each point from the lines, `(n,)`; NaN for rows that are not finite.
        noise: Estimated standard deviation a coordinate of the points.
        centre: Of the unit frame, `(d,)`.
        scale: Length of the unit of that frame.
        notes: What was dropped or decided, in words.
    """

    _headline: ClassVar = ("points", "curves", "closed", "length", "residual_mean")

    network: nn.Module
    lines: Polylines
    history: tuple[Step, ...]
    residuals: Tensor
    noise: float
    centre: Tensor
    scale: float
    notes: tuple[str, ...]

    @checked
    def to_world(self, points: Points) -> Tensor:
        """Return points of the unit frame in the units of the input, `(n, d)`, in float64."""
        return self.centre + self.scale * points.double().cpu()

    def summary(self) -> dict[str, int | float]:
        """Return counts and sizes, ready for JSON."""
        return {
            "points": len(self.residuals),
            "curves": len(self.lines),
            "closed": sum(self.lines.closed),
            "length": float(self.lines.lengths.sum()),
            "noise": self.noise,
            "residual_mean": float(self.residuals.nanmean()),
            "residual_max": float(self.residuals.nan_to_num(0.0).max()),
        }


@checked
def curve(
    points: Points,
    *,
    settings: Fast | Paper = _DEFAULT,
    gap: float = 0.1,
    closed: bool | None = None,
    generator: torch.Generator | None = None,
    progress: Watch | None = None,
) -> Curve:
    r"""Reconstruct curves in space, or in the plane, from raw points without order or tangents.

    By default points strewn over the box are left out, and the others put in order (a short tour
    of their thinned cloud, which may leave a curve at its end) and smoothed by a penalised spline
    whose smoothness the noise decides. The splines are made the zero set of a
    [`CurveField`][levelset.reconstruction.CurveField]. With `Paper()` the paper's network with
    two outputs is trained by Eq. 13 with T = {0}, and its zero set is traced. That takes minutes
    for what the default does in less than a second, and parts of the curve can be missing: |F| is
    small there without a zero.

    Curves that cross, or come closer to each other than about four standard deviations of the
    noise, are separated by their directions, if at all. Where one ends on the middle of another,
    as at a T, the lines stay apart, and `notes` says where. In the plane a curve must not cross
    itself: a level set of one function cannot.

    Args:
        points: The cloud, `(n, 3)` or `(n, 2)`, in any units. Not modified.
        settings: `Fast()` or `Paper()`.
        gap: The longest gap without points that is closed, as a share of the whole curve.
        closed: Whether curves run back into themselves; `None` to close those whose ends are
            within a gap.
        generator: Draws one number, the seed of all; `None` for a new one of seed 0.
        progress: Called with a `Step` after each round.

    Returns:
        The field, and the lines in the units of the points.

    Raises:
        ShapeError: If the points are not `(n, 2)` or `(n, 3)`.
        DataError: If fewer than 10 different finite points are left, or no curve is found.
        ParameterError: If `gap` is not in [0, 0.5].

    Example:
        >>> import torch
        >>> from levelset.reconstruction import curve
        >>> turn = torch.linspace(0.0, 6.2, 200)
        >>> ring = torch.stack([turn.cos(), turn.sin(), (2.0 * turn).sin() / 3.0], 1)
        >>> result = curve(100.0 * ring)
        >>> result.lines.closed
        (True,)

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, sections 3.3 and 5.3,
          figure 3: curves as zero sets of fields with two values.
    """
    if not 0.0 <= gap <= 0.5:
        message = f"curve: `gap` must be a share from 0 to 0.5 of the curve, got {gap}."
        raise ParameterError(message)
    cloud = _prepared(points)
    seed, start = draw_seed(generator or torch.Generator().manual_seed(0)), time.perf_counter()

    def on_step(step: Step) -> None:
        if progress is not None:
            progress(step._replace(residual=cloud.scale * step.residual))

    if isinstance(settings, Paper):
        network, lines, rings, noise, history, forks = _by_training(
            cloud.points, settings, gap, closed, seed, on_step
        )
    else:
        network, lines, rings, noise, history, forks = _by_splines(
            cloud.points, gap, closed, seed, on_step
        )
    if not lines:
        message = (
            "curve: no curve was found near the points: nowhere are they much denser along a line. "
            "If they lie on a surface, use `surface`; if training was cut short, allow more "
            "`seconds`."
        )
        raise DataError(message)
    far = far_from(cloud.points, lines, rings)
    across = max(noise, 1e-12) * math.sqrt(cloud.points.shape[1] - 1)
    quality, spent = float((far <= 2.0 * across).mean()), time.perf_counter() - start
    loss = history[-1].loss if history else math.nan
    last = Step("tracing", 1, 1, spent, loss, float(np.median(far)), quality)
    on_step(last)
    return Curve(
        network,
        Polylines(tuple(cloud.to_world(line) for line in lines), tuple(rings)),
        tuple(step._replace(residual=cloud.scale * step.residual) for step in (*history, last)),
        cloud.by_row(cloud.scale * far),
        cloud.scale * noise,
        cloud.centre,
        cloud.scale,
        cloud.notes + tuple(_fork_words(cloud.to_world(fork)) for fork in forks),
    )


def _fork_words(place: Tensor) -> str:
    """Return what to say of a place where a curve branches."""
    words = ", ".join(f"{x:.4g}" for x in place.tolist())
    return f"a line ends on another near ({words}), as where curves branch: they stay apart"


def _by_splines(
    points: Floats, gap: float, closed: bool | None, seed: int, on_step: Watch
) -> Fitted:
    """Return the field and lines of smooth curves through the points in their order."""
    start = time.perf_counter()
    curves, forks = fit_curves(points, gap=gap, closed=closed, random=np.random.default_rng(seed))
    if not curves:
        return nn.Identity(), [], [], 0.0, (), np.zeros((0, points.shape[1]))
    network = CurveField(curves)
    lines = [_on_zero(network, one) for one in curves]
    sizes = np.array([len(one.rows) for one in curves])
    noise = float(
        np.sqrt((sizes * np.array([one.noise for one in curves]) ** 2).sum() / sizes.sum())
    )
    rounds = curves[0].errors
    spent = time.perf_counter() - start
    history = tuple(
        Step("fitting", k + 1, len(rounds), spent * (k + 1) / len(rounds), e * e, e, 0.0)
        for k, e in enumerate(rounds)
    )
    for step in history:
        on_step(step)
    return network, lines, [one.closed for one in curves], noise, history, forks


def _on_zero(network: nn.Module, smooth: SmoothCurve) -> Floats:
    """Return points along a curve, moved onto the zero set of its field."""
    places = smooth.evenly(8 * len(smooth.coefficients))
    projection = project(network, torch.from_numpy(smooth.at(places)).float(), tol=1e-6)
    return np.asarray(projection.points.double().numpy())


def _by_training(
    points: Floats, settings: Paper, gap: float, closed: bool | None, seed: int, on_step: Watch
) -> Fitted:
    """Return the paper's network trained on the points, and the part of its zero set near them."""
    network, steps = train_paper(
        torch.from_numpy(points).float(),
        settings,
        curve=points.shape[1] == 3,
        generator=torch.Generator().manual_seed(seed),
        progress=on_step,
    )
    corner = np.abs(points).max(0) + 0.1
    traced = trace_curve(network, bounds=(-corner, corner), resolution=_RESOLUTION)
    near = _NEAR * _spacing(points)
    lines, rings = trimmed(
        [line.numpy() for line in traced.lines], list(traced.closed), points,
        near=near, gap=0.0 if closed is False else gap,
    )  # fmt: skip
    far = far_from(points, lines, rings) if lines else np.zeros(1)
    noise = 1.4826 * float(np.median(far)) / math.sqrt(max(points.shape[1] - 1, 1))
    return network, lines, rings, noise, steps, np.zeros((0, points.shape[1]))


def _spacing(points: Floats) -> float:
    return float(np.median(cKDTree(points).query(points, 2)[0][:, 1]))


class _UnitPoints(NamedTuple):
    """Different finite points in their unit frame, and the way back."""

    points: Floats
    centre: Tensor
    scale: float
    finite: Tensor
    row: Tensor
    notes: tuple[str, ...]

    def to_world(self, points: Floats) -> Tensor:
        """Return points in the units of the input."""
        return torch.from_numpy(points) * self.scale + self.centre

    def by_row(self, values: Floats) -> Tensor:
        """Return the values of the points by the rows of the input, NaN for those dropped."""
        whole = torch.full((len(self.finite),), torch.nan, dtype=torch.float64)
        whole[self.finite] = torch.from_numpy(values)[self.row]
        return whole


def _prepared(points: Tensor) -> _UnitPoints:
    """Return the finite points, each once, in their unit frame."""
    check_points("curve", points)
    if points.dim() != 2 or points.shape[1] not in (2, 3):
        message = f"curve: `points` must be (n, 3) or (n, 2), got {tuple(points.shape)}."
        raise ShapeError(message)
    world = points.detach().double().cpu()
    finite = world.isfinite().all(1)
    different, row = torch.unique(world[finite], dim=0, return_inverse=True)
    notes = []
    if not bool(finite.all()):
        notes.append(f"{int((~finite).sum())} rows with NaN or infinity were dropped")
    if len(different) < len(row):
        notes.append(f"{len(row) - len(different)} duplicates were dropped")
    if len(different) < _FEWEST:
        message = (
            f"curve: `points` must hold at least {_FEWEST} different finite points, got "
            f"{len(different)} of {len(points)} rows."
        )
        raise DataError(message)
    strewn = torch.from_numpy(clutter(different.numpy()))
    if strays := int(strewn.sum()):
        notes.append(
            f"{strays} of {len(different)} points are strewn off all lines and were left out"
        )
    # far ones among them would leave no digits for the rest
    core = different[~strewn]
    centre = (core.amin(0) + core.amax(0)) / 2.0
    scale = float((core - centre).norm(dim=1).max())
    unit = ((different - centre) / scale).numpy()
    return _UnitPoints(unit, centre, scale, finite, row, tuple(notes))


def fit_curves(
    points: Floats, *, gap: float, closed: bool | None, random: np.random.Generator
) -> tuple[list[SmoothCurve], Floats]:
    """Return smooth curves through a cloud, longest first, and where one ends on another.

    Args:
        points: The cloud, `(n, d)`.
        gap: The longest gap that is closed, as a share of the whole curve.
        closed: Whether curves run back into themselves; `None` to decide by the gaps.
        random: Draws the points that take part in finding the order, if there are very many.

    Returns:
        The curves, and the places, `(b, d)`.
    """
    paths = order_points(points, gap=gap, closed=closed, random=random)
    if not paths:
        return [], np.zeros((0, points.shape[1]))
    far = np.stack([cKDTree(_densely(path)).query(points)[0] for path in paths])
    owner = far.argmin(0)
    smooth = [smooth_curve(points[owner == k], path) for k, path in enumerate(paths)]
    return [curve for curve in smooth if curve is not None], branches(paths)


def _densely(path: Path) -> Floats:
    """Return the nodes of a path with three more in each step."""
    ring = np.concatenate([path.nodes, path.nodes[:1]]) if path.closed else path.nodes
    shares = np.arange(4)[:, None, None] / 4.0
    rows = (1.0 - shares) * ring[:-1] + shares * ring[1:]
    return np.concatenate([rows.reshape(-1, ring.shape[1]), ring[-1:]])


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
    """Return the parts of lines that lie near points, across short gaps too.

    Args:
        lines: The lines, `(m, d)` each.
        closed: Which of them are closed.
        points: The cloud, `(n, d)`.
        near: Distance within which there must be a point of the cloud.
        gap: The longest part without a point that stays between two parts with some, as a
            share of a line.
    """
    tree = cKDTree(points)
    parts: list[tuple[float, Floats, bool]] = []
    for line, ring in zip(lines, closed, strict=True):
        good = tree.query(line)[0] <= near
        if good.any():
            parts += _kept(line, ring, good, gap)
    total = sum(length for length, _, _ in parts)
    parts = sorted((one for one in parts if one[0] >= _STRAY * total), key=lambda one: -one[0])
    return [line for _, line, _ in parts], [ring for _, _, ring in parts]


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
    """Return where runs of true start and stop."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(),
                    strict=True))  # fmt: skip
