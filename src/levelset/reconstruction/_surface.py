"""From raw points to a surface."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Result
from levelset.errors import NotConvergedError, ParameterError, ShapeError
from levelset.networks import SplineGrid
from levelset.reconstruction._cloud import Cloud, prepare
from levelset.reconstruction._doubt import doubted, doubted_as, share_doubtful
from levelset.reconstruction._fit import fit
from levelset.reconstruction._flat_lids import flat_lids
from levelset.reconstruction._grid import REACH
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._meshes._mesh import Mesh, colours_at
from levelset.reconstruction._meshing import (
    SKETCH,
    as_network,
    closed_mesh,
    covered,
    opened,
    settled,
    value_and_slope,
)
from levelset.reconstruction._notes import DOUBTFUL, cloud_words, handle_words, lid_words
from levelset.reconstruction._orientation import OrientedPoints, orient
from levelset.reconstruction._paper import train_paper
from levelset.reconstruction._settings import Fast, Paper, Recipe
from levelset.reconstruction._topology import Witnesses, borne_out

__all__ = ["Surface", "surface"]

MOST_POINTS = 200_000
"""Larger clouds are averaged in cells, as many as this: the finest grid resolves no more."""
_DEFAULT = Fast()
Lids = Literal["smooth", "flat"]

# Cells a side of the field that a preview shows.
_COARSE = 32
# The least noise that the fit assumes, in cells.
_LEAST_NOISE = 0.04
# The share of the points whose noise decides on the finest grid.
_MOST = 0.9


@dataclass(frozen=True, eq=False, repr=False)
class Surface(Result):
    """A surface through a cloud of points, in the units and at the place of the cloud.

    Attributes:
        mesh: The surface as triangles, in the units of the points. Its scalar `doubt` says from
            0 to 1 what the points leave open: 1 where none is near and on handles that may be
            none, else what the side of the nearest points lacks of certainty.
        sketch: The same at 96 cells along the longest side, to look at.
        network: The field, negative inside, in the unit frame: `values` takes your own units.
        history: The course of the fit, one entry a stage or epoch.
        points: The points used, `(n, 3)`, in their own units: finite, each once; of more than
            200,000 their means in small cells.
        residuals: Distance of each to the surface, to first order, `(n,)`, negative inside.
        noise: Estimated standard deviation of the noise of the scan's points, a coordinate; their
            means have less. Where it differs from place to place, which `notes` says, that of the
            median point, or of the calmer parts of points that were averaged.
        unsure: Share of the points whose side was unsure before the fit; NaN with `Paper` or with
            normals of your own.
        outliers: Points that the surface does not follow.
        notes: What the user should know, in sentences.
        doubtful: Share of the area whose doubt is 0.4 or more.
        colours: Red, green and blue at the points used, 0 to 1, `(n, 3)`, if colours were given.
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
    doubtful: float
    centre: Tensor
    scale: float
    colours: Tensor | None = None

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
            unit = as_network(self.network, (points - self.centre.to(points)) / self.scale)
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
            "doubtful": self.doubtful,
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
    colours: Tensor | None = None,
    lids: Lids = "smooth",
    sensor: Tensor | None = None,
    counts: Tensor | None = None,
    sample: Tensor | None = None,
) -> Surface:
    r"""Return the surface that raw points were taken from, as a network and as a mesh.

    No normals are needed, and no option must be tuned: the noise is estimated, points that lie off
    the surface are left out, which side is outside is decided for all points together, and the
    smoothness follows from the noise, place by place.
    [`Fast`][levelset.reconstruction.Fast] says how;
    [`Paper`][levelset.reconstruction.Paper] trains the published network by the published loss.

    The mesh is closed, unless `closed=False`, and `notes` says where it closes holes, or that the
    points bound no volume. Holes are bridged as smoothly as the rest bends, or with `lids="flat"`
    by the flattest surface across their rim, as the base of an object that stood on a table. With
    `closed=False` it ends where the points end, to within about their spacing. A surface with one
    side only, as a Möbius strip, is refused. Separate objects all stay, from ten points on. A
    handle, as a bridge across a gap, is taken away where a ring around it has no points, where
    normals of the points on both sides of it stand along its axis, or where it is no larger than
    the noise, and left where they stand across; `notes` names those that are unclear.

    Ctrl-C during the fit ends it, and the field fitted so far becomes the mesh.

    Cost: with `Fast` about 8 seconds on one core for 30,000 points and 11 for 60,000, 1 to 2 of
    them at 256 cells for the mesh, and 0.8 GB. With `Paper` about half a CPU-day for 30,000 points.

    Args:
        points: The cloud, `(n, 3)`, in any units, at least 50 points. Rows with NaN and
            duplicates are dropped, which `notes` says.
        settings: `Fast()`, the default, or `Paper()`, with their options.
        normals: Unit vectors that point outwards, `(n, 3)`; `None` to estimate them. Those that
            point against the ones around are turned, those askew to the points around replaced,
            and those of length 0 left out with their points, which `notes` says; it also says
            when most of a closed surface point inwards, as of a room.
        seconds: Most wall-clock time for the fit; `None` for the method's own.
        resolution: Cells of the mesh along the longest side.
        closed: Whether to close what the points leave open. Else the mesh is cut where they end,
            and holes wider than four spacings stay.
        out: Folder for checkpoints; `None` for none.
        resume: Go on from the checkpoint in `out`, if there is one.
        generator: Draws the seed of `Paper`'s training; `Fast` draws nothing.
        progress: Called with a `Step` as the fit goes on.
        preview: Called with a coarse mesh, of a field of 32 cells, before the fit proper.
        colours: Red, green and blue of each point, 0 to 1, `(n, 3)`, which the mesh gets by local
            averaging.
        lids: How holes are closed, `smooth` or `flat`. The network keeps its smooth lids.
        sensor: From where the points were seen, `(3,)`, or each of them, `(n, 3)`, in their
            units: the outside is on that side. It settles what the points leave unsure, as thin
            plates and open sheets. Not needed with `normals`.
        counts: How many points of a scan each is the mean of, `(n,)`, as
            [`read_points`][levelset.datasets.read_points] says of a file too large for memory.
        sample: Some points of that scan as they are, `(k, 3)`, which show its noise.

    Returns:
        The network, the mesh and their quality.

    Raises:
        ShapeError: If `points`, `normals`, `colours`, `sensor`, `counts` or `sample` have another
            shape or dtype.
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
    if colours is not None and colours.shape != points.shape:
        message = (
            "surface: `colours` must have a row of three for each of `points` "
            f"{tuple(points.shape)}, got {tuple(colours.shape)}."
        )
        raise ShapeError(message)
    if seconds is not None:
        settings = replace(settings, seconds=seconds)
    history: list[Step] = []
    start = time.perf_counter()
    cloud = prepare(points, normals, MOST_POINTS, sensor, counts, sample)
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
    unsure = oriented.unsure if isinstance(settings, Fast) and normals is None else math.nan
    mesh, sketch, words = _meshes(network, cloud, oriented, unsure, resolution, closed, lids)
    value, slope = value_and_slope(network, unit)
    residuals = value / slope.clamp(min=1e-3)
    near = float((residuals.abs() <= 2.0 * torch.from_numpy(oriented.spread)).double().mean())
    on_step(Step("done", 1, 1, 0.0, 0.0, float(residuals.abs().median()), near))
    used = cloud.to_world(unit)
    mesh, sketch = _placed(mesh, cloud), _placed(sketch, cloud)
    if colours is not None:
        mesh, sketch = (part.coloured(points, colours) for part in (mesh, sketch))
    return Surface(
        mesh=mesh,
        sketch=sketch,
        network=network,
        history=tuple(history),
        points=used,
        residuals=cloud.scale * residuals,
        noise=cloud.scale * (cloud.raw_noise or oriented.noise),
        unsure=unsure,
        outliers=int(cloud.counts[oriented.outlier].sum()) + cloud.strays,
        notes=cloud_words(cloud, oriented, unsure) + words,
        doubtful=share_doubtful(sketch),
        centre=cloud.centre,
        scale=cloud.scale,
        colours=None if colours is None else colours_at(used, points, colours),
    )


def _meshes(
    network: nn.Module, cloud: Cloud, oriented: OrientedPoints, unsure: float, resolution: int,
    closed: bool, lids: Lids,
) -> tuple[Mesh, Mesh, tuple[str, ...]]:  # fmt: skip
    """Return the mesh, the coarse one for pages, both in the unit frame, and what to say."""
    unit, witnesses = torch.from_numpy(cloud.points), Witnesses(oriented)
    mesh, unclear, removed = settled(network, unit, resolution, witnesses)
    words = handle_words(unclear, removed, cloud)
    if not len(mesh.faces):
        message = "the fit has no surface inside the box of the points. Allow more `seconds`."
        raise NotConvergedError(f"surface: {message}")
    sketch = mesh
    if resolution > SKETCH:
        sketch = borne_out(closed_mesh(network, unit, SKETCH), witnesses)
    footprint = covered(network, oriented)
    beyond = footprint.of(sketch)
    sketch = doubted(sketch, beyond, None if math.isnan(unsure) else oriented, unclear)
    mesh = sketch if resolution <= SKETCH else doubted_as(mesh, sketch)
    if not closed:
        parts = (opened(part, footprint) for part in (mesh, sketch))
        mesh, sketch = (borne_out(part, witnesses) for part in parts)
    else:
        if not unsure > DOUBTFUL:  # else thin walls look like holes
            words += lid_words(sketch, beyond, cloud, lids)
        if lids == "flat":
            mesh, sketch = (flat_lids(part, footprint.of(part)) for part in (mesh, sketch))
    return mesh, sketch, words


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
        spread = np.maximum(oriented.spread, _LEAST_NOISE * 2 * REACH / cells)
        points = replace(oriented, spread=spread)
        network = fit(points, cells=cells, seconds=settings.seconds, progress=progress)
        # Smoothing flattens the field as a whole; its slope at the points should be 1.
        _, slope = value_and_slope(network, torch.from_numpy(cloud.points))
        with torch.no_grad():
            network.coefficients.div_(slope.median())
        return network

    if preview is not None:
        coarse = closed_mesh(field(_COARSE, None), torch.from_numpy(cloud.points), SKETCH)
        preview(_placed(coarse, cloud))
    spacing = float(np.median(oriented.spacing[~oriented.outlier]))
    return field(
        Recipe().cells_for(spacing, float(np.quantile(oriented.spread, _MOST)), settings.grid),
        on_step,
    )


def _placed(mesh: Mesh, cloud: Cloud) -> Mesh:
    """Return a mesh of the unit frame in the units of the cloud."""
    return replace(mesh, vertices=cloud.to_world(mesh.vertices))
