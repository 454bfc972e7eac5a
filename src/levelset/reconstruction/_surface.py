"""From raw points to a surface."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Result
from levelset.errors import NotConvergedError, ParameterError
from levelset.networks import SplineGrid
from levelset.reconstruction._cloud import Cloud, prepare
from levelset.reconstruction._fit import fit
from levelset.reconstruction._grid import REACH
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._meshes._extract import extract_mesh
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._open import Footprint, cut_along, lids
from levelset.reconstruction._orientation import OrientedPoints, orient
from levelset.reconstruction._paper import train_paper
from levelset.reconstruction._settings import Fast, Paper
from levelset.reconstruction._topology import Handle, Witnesses, borne_out, settle_topology

__all__ = ["Surface", "surface"]

MOST_POINTS = 200_000
"""Larger clouds are averaged in cells, as many as this: the finest grid resolves no more."""
_DEFAULT = Fast()

SKETCH = 96
"""Cells along the longest side of the coarse mesh that pages show."""
# Share of points of unsure side from which on a note warns of them.
_DOUBTFUL = 0.1
# Shares of a closed surface without points: below the first nothing is said, above the second
# there is no volume.
_CLOSED, _UNBOUNDED = 0.03, 0.25
# Cells a side of the field that a preview shows.
_COARSE = 32
# The least noise that the fit assumes, in cells.
_LEAST_NOISE = 0.04
# Margin around the points, in the unit frame, and how many times it may double.
_MARGIN, _WIDER = 0.1, 4
# Cells between the walls of that box and those of the mesh's lattice.
_OUTER = 1.5


@dataclass(frozen=True, eq=False, repr=False)
class Surface(Result):
    """A surface through a cloud of points, in the units and at the place of the cloud.

    Attributes:
        mesh: The surface as triangles, in the units of the points.
        sketch: The same at 96 cells along the longest side, to look at.
        network: The field, negative inside, in the unit frame: `values` takes your own units.
        history: The course of the fit, one entry a stage or epoch.
        points: The points used, `(n, 3)`, in their own units: finite, each once; of more than
            200,000 their means in small cells.
        residuals: Distance of each to the surface, to first order, `(n,)`, negative inside.
        noise: Estimated standard deviation of the points' noise, a coordinate.
        unsure: Share of the points whose side was unsure before the fit; NaN with `Paper` or with
            normals of your own.
        outliers: Points that the surface does not follow.
        notes: What the user should know, in sentences.
        centre: Centre of the unit frame, `(3,)`, in units of the points.
        scale: Its unit, in units of the points.
    """

    _headline: ClassVar = (
        "points",
        "vertices",
        "faces",
        "genus",
        "watertight",
        "residual_median",
        "noise",
    )

    mesh: Mesh
    sketch: Mesh
    network: nn.Module
    history: tuple[Step, ...]
    points: Tensor
    residuals: Tensor
    noise: float
    unsure: float
    outliers: int
    notes: tuple[str, ...]
    centre: Tensor
    scale: float

    @checked
    def to_world(self, points: Tensor) -> Tensor:
        """Return points of the unit frame, `(n, 3)`, in the units of the cloud."""
        return points * self.scale + self.centre.to(points)

    @checked
    def values(self, points: Tensor) -> Tensor:
        """Return the field at points `(n, 3)` in the units of the cloud, as a length in them.

        Near the surface about the signed distance, negative inside; `(n,)`, float64.
        """
        with frozen(self.network):
            unit = _as_network(self.network, (points - self.centre.to(points)) / self.scale)
            values = Evaluator("values", self.network, None).values(unit).squeeze(1)
        return values.double() * self.scale

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        sizes = self.residuals.abs()
        return float(sizes.quantile(0.5)), float(sizes.quantile(0.95))

    def summary(self) -> dict[str, int | float | bool | None]:
        """Return the numbers of mesh and fit, ready for JSON; lengths in units of the points."""
        return {
            **self.mesh.summary(),
            "points": len(self.points),
            "residual_median": self._quantiles[0],
            "residual_95": self._quantiles[1],
            "noise": self.noise,
            "unsure": None if self.unsure != self.unsure else self.unsure,
            "outliers": self.outliers,
            "seconds": self.history[-1].seconds if self.history else 0.0,
        }


@checked
def surface(
    points: Tensor,
    *,
    settings: Fast | Paper = _DEFAULT,
    normals: Tensor | None = None,
    seconds: float | None = None,
    resolution: int = 256,
    closed: bool = True,
    out: str | Path | None = None,
    resume: bool = False,
    generator: torch.Generator | None = None,
    progress: Watch | None = None,
    preview: Callable[[Mesh], None] | None = None,
) -> Surface:
    r"""Return the surface that raw points were taken from, as a network and as a mesh.

    No normals are needed, and no option must be tuned: the noise is estimated, points that lie off
    the surface are left out, which side is outside is decided for all points together, and the
    smoothness follows from the noise. [`Fast`][levelset.reconstruction.Fast] says how;
    [`Paper`][levelset.reconstruction.Paper] trains the published network by the published loss.

    The mesh is closed, unless `closed=False`, and `notes` says where it closes holes, or that the
    points bound no volume. With `closed=False` it ends where the points end, to within about
    their spacing. A surface with one side only, as a Möbius strip, is refused. Separate objects
    all stay, from ten points on. A handle, as a bridge across a gap, is taken away where normals
    of the points near it stand along its axis, and left where they stand across; `notes` names
    those that are unclear.

    Ctrl-C during the fit ends it, and the field fitted so far becomes the mesh.

    Cost: with `Fast` about 15 seconds on one core for 30,000 points, half of it at 256 cells for
    the mesh, and 1 GB. With `Paper` about half a CPU-day for 30,000 points.

    Args:
        points: The cloud, `(n, 3)`, in any units, at least 50 points. Rows with NaN and
            duplicates are dropped, which `notes` says.
        settings: `Fast()`, the default, or `Paper()`, with their options.
        normals: Unit vectors that point outwards, `(n, 3)`; `None` to estimate them.
        seconds: Most wall-clock time for the fit; `None` for the method's own.
        resolution: Cells of the mesh along the longest side.
        closed: Whether to close what the points leave open. Else the mesh is cut where they end,
            and holes wider than four spacings stay.
        out: Folder for checkpoints; `None` for none.
        resume: Go on from the checkpoint in `out`, if there is one.
        generator: Draws the seed of `Paper`'s training; `Fast` draws nothing.
        progress: Called with a `Step` as the fit goes on.
        preview: Called with a coarse mesh, of a field of 32 cells, before the fit proper.

    Returns:
        The network, the mesh and their quality.

    Raises:
        ShapeError: If `points` or `normals` have another shape or dtype.
        DataError: If there are fewer than 50 points, or all lie in a plane or on a line.
        ParameterError: If an option is out of range, or `resume` comes without `out`.
        NotConvergedError: If the fit has no surface inside the box of the points.
        MissingExtraError: If scikit-image is not installed.
        RunError: If `out` cannot be written, or holds another run.

    Example:
        >>> import torch
        >>> from levelset.reconstruction import Fast, surface
        >>> ball = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
        >>> ball = 5 * ball / ball.norm(dim=1, keepdim=True)
        >>> result = surface(ball, settings=Fast(grid=32), resolution=32)
        >>> result.mesh.watertight, abs(result.mesh.vertices.norm(dim=1).mean() - 5) < 0.01
        (True, tensor(True))

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: sections 3.3 and 5.3.
    """
    if resume and out is None:
        message = "surface: `resume` needs the folder of the run, got out=None. Give `out`."
        raise ParameterError(message)
    if seconds is not None:
        settings = replace(settings, seconds=seconds)
    history: list[Step] = []
    start = time.perf_counter()
    cloud = prepare(points, normals, MOST_POINTS)
    on_step = _recorder(history, start, cloud.scale, progress)
    oriented, unit = orient(cloud), torch.from_numpy(cloud.points)
    if isinstance(settings, Fast):
        network = _spline_field(cloud, oriented, settings, on_step, preview)
    else:
        network, _ = train_paper(
            unit, settings, noise=oriented.noise, out=out, resume=resume, generator=generator,
            progress=on_step,
        )  # fmt: skip
    network.requires_grad_(False)
    witnesses = Witnesses(oriented)
    mesh, unclear, removed = _settled(network, unit, resolution, witnesses)
    words = _handle_words(unclear, removed, cloud)
    if not len(mesh.faces):
        message = "the fit has no surface inside the box of the points. Allow more `seconds`."
        raise NotConvergedError(f"surface: {message}")
    sketch = mesh
    if resolution > SKETCH:
        sketch = borne_out(_mesh(network, unit, SKETCH), witnesses)
    footprint = _footprint(network, oriented)
    unsure = oriented.unsure if isinstance(settings, Fast) and normals is None else math.nan
    if not closed:
        mesh, sketch = (borne_out(_opened(part, footprint), witnesses) for part in (mesh, sketch))
    elif not unsure > _DOUBTFUL:  # else thin walls look like holes
        words += _lid_words(sketch, footprint, cloud)
    value, slope = _value_and_slope(network, unit)
    residuals = value / slope.clamp(min=1e-3)
    near = float((residuals.abs() <= 2.0 * oriented.noise).double().mean())
    on_step(Step("done", 1, 1, 0.0, 0.0, float(residuals.abs().median()), near))
    return Surface(
        mesh=_placed(mesh, cloud),
        sketch=_placed(sketch, cloud),
        network=network,
        history=tuple(history),
        points=cloud.to_world(unit),
        residuals=cloud.scale * residuals,
        noise=cloud.scale * oriented.noise,
        unsure=unsure,
        outliers=int(cloud.counts[oriented.outlier].sum()) + cloud.strays,
        notes=_notes(cloud, unsure) + words,
        centre=cloud.centre,
        scale=cloud.scale,
    )


def _recorder(history: list[Step], start: float, scale: float, progress: Watch | None) -> Watch:
    """Return a hook that adds steps to a history, in units of the cloud, and passes them on."""

    def on_step(step: Step) -> None:
        spent = time.perf_counter() - start
        history.append(step._replace(seconds=spent, residual=scale * step.residual))
        if progress is not None:
            progress(history[-1])

    return on_step


def _spline_field(
    cloud: Cloud,
    oriented: OrientedPoints,
    settings: Fast,
    on_step: Watch,
    preview: Callable[[Mesh], None] | None,
) -> nn.Module:
    """Return the field of `Fast`."""

    def field(cells: int, progress: Watch | None) -> SplineGrid:
        # The grid does not resolve noise far below the width of a cell: it only takes longer.
        noise = max(oriented.noise, _LEAST_NOISE * 2 * REACH / cells)
        points = replace(oriented, noise=noise)
        network = fit(points, cells=cells, seconds=settings.seconds, progress=progress)
        # Smoothing flattens the field as a whole; its slope at the points should be 1.
        _, slope = _value_and_slope(network, torch.from_numpy(cloud.points))
        with torch.no_grad():
            network.coefficients.div_(slope.median())
        return network

    if preview is not None:
        coarse = _mesh(field(_COARSE, None), torch.from_numpy(cloud.points), SKETCH)
        preview(_placed(coarse, cloud))
    return field(settings.grid, on_step)


def _notes(cloud: Cloud, unsure: float) -> tuple[str, ...]:
    notes = [f"{note}." for note in cloud.notes]
    if unsure > _DOUBTFUL:
        notes.append(
            f"Which side is outside was unsure for {unsure:.0%} of the points: they are too noisy "
            "or too few for walls this thin, or lie on no surface. Look before you use it."
        )
    return tuple(notes)


def _handle_words(unclear: tuple[Handle, ...], removed: int, cloud: Cloud) -> tuple[str, ...]:
    notes = []
    if removed:
        notes.append(
            f"{removed} {'handle' if removed == 1 else 'handles'} that the points do not bear out "
            "were filled or cut."
        )
    for handle in unclear:
        place = _place_words(cloud, torch.from_numpy(handle.loop.middle))
        notes.append(
            f"The handle of radius {cloud.scale * handle.loop.radius:.3g} near {place} may be "
            "none: look at it."
        )
    return tuple(notes)


def _settled(
    network: nn.Module, points: Tensor, resolution: int, witnesses: Witnesses
) -> tuple[Mesh, tuple[Handle, ...], int]:
    """Return the closed mesh in the unit frame, unclear handles, and how many were removed."""

    def remesh() -> Mesh:
        return _mesh(network, points, resolution)

    if isinstance(network, SplineGrid):
        return settle_topology(network, witnesses, remesh)
    return borne_out(remesh(), witnesses), (), 0


class _Walled(nn.Module):
    """A field that is positive outside a box, so that its zero set is closed whatever it is."""

    centre: Tensor
    reach: Tensor

    def __init__(self, field: nn.Module, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.field = field
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)

    def forward(self, points: Tensor) -> Tensor:
        """Return the larger of the field and the signed distance from the box, `(n,)`."""
        beyond = ((points - self.centre.to(points)).abs() - self.reach.to(points)).amax(1)
        return torch.maximum(self.field(points).view(-1), beyond)


def _mesh(network: nn.Module, points: Tensor, resolution: int) -> Mesh:
    """Return the zero set in the unit frame, closed at the walls of a box if it reaches them."""
    low, high = _room(network, points)
    room = _OUTER * float((high - low).max()) / resolution
    bounds = torch.stack([low - room, high + room])
    return extract_mesh(_Walled(network, low, high), bounds=bounds, resolution=resolution)


def _placed(mesh: Mesh, cloud: Cloud) -> Mesh:
    """Return a mesh of the unit frame in the units of the cloud."""
    return Mesh(cloud.to_world(mesh.vertices), mesh.faces, mesh.normals)


def _footprint(network: nn.Module, oriented: OrientedPoints) -> Footprint:
    """Return the part of the surface that the points cover."""
    points = oriented.without_outliers()
    slope = _value_and_gradient(network, torch.from_numpy(points.points))[1]
    directions = torch.nn.functional.normalize(slope, dim=1).numpy()
    return Footprint(points.points, directions, points.spacing, points.noise)


def _opened(mesh: Mesh, footprint: Footprint) -> Mesh:
    """Return the part of a mesh that the points cover, cut where they end."""
    assert mesh.normals is not None, "extracted meshes have normals"
    return cut_along(mesh, footprint.beyond(mesh.vertices.numpy(), mesh.normals.numpy()))


def _lid_words(sketch: Mesh, footprint: Footprint, cloud: Cloud) -> tuple[str, ...]:
    """Return what to say of the parts of a closed surface that have no points."""
    parts = lids(sketch, footprint)
    share = sum(lid.area for lid in parts) / sketch.area
    if share > _UNBOUNDED:
        return (
            f"The points bound no volume: {share:.0%} of the closed surface lies where there are "
            "none, as on terrain, a wall or a view from one side, or on a plate too thin for its "
            "noise. `closed=False` (--open) leaves it open.",
        )
    if share < _CLOSED:
        return ()
    place = _place_words(cloud, torch.tensor(parts[0].middle, dtype=torch.float64))
    return (
        f"Holes were closed: {share:.0%} of the surface has no points near. The largest is about "
        f"{cloud.scale * parts[0].width:.3g} across, near {place}. `closed=False` (--open) leaves "
        "them open.",
    )


def _place_words(cloud: Cloud, place: Tensor) -> str:
    """Return a place of the unit frame `(3,)` in words, in units of the cloud."""
    return f"({', '.join(f'{x:.6g}' for x in cloud.to_world(place).tolist())})"


def _room(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of a box that the surface does not leave, if there is one."""
    margin = _MARGIN
    for _ in range(_WIDER):
        low, high = points.amin(0) - margin, points.amax(0) + margin
        walls = low + _walls() * (high - low)
        with frozen(network):
            values = Evaluator("surface", network, None).values(_as_network(network, walls))
        if bool((values > 0).all()):
            break
        margin *= 2.0
    return low, high


def _walls() -> Tensor:
    """Return points on the walls of the unit cube, `(m, 3)`."""
    line = torch.linspace(0.0, 1.0, 33, dtype=torch.float64)
    cube = torch.cartesian_prod(line, line, line)
    return cube[((cube == 0.0) | (cube == 1.0)).any(1)]


def _value_and_slope(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field and the size of its gradient at points of the unit frame, `(n,)` each."""
    value, gradient = _value_and_gradient(network, points)
    return value, gradient.norm(dim=1)


def _value_and_gradient(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field `(n,)` and its gradient `(n, 3)` at points of the unit frame."""
    with frozen(network):
        evaluator = Evaluator("surface", network, None)
        value, gradient = evaluator.value_and_jacobian(_as_network(network, points))
    return value[:, 0].double(), gradient[:, 0].double()


def _as_network(network: nn.Module, points: Tensor) -> Tensor:
    """Return points in the dtype and on the device of the network."""
    return points.to(next(network.parameters()))
