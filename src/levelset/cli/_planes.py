"""A plane of a classifier for a page: exact where that is feasible, else by its pixels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import levelset
from levelset.cli._progress import bar, busy, log
from levelset.errors import DataError, FieldError, LevelSetError

if TYPE_CHECKING:
    import torch

    from levelset import report
    from levelset.auditing import Audit
    from levelset.boundary import ExactSection, Section
    from levelset.boundary._sections._planes import View

__all__ = ["MAX_REGIONS", "RESOLUTION", "Route", "cut_plane", "notes_of", "planes_of"]

Route: TypeAlias = Literal["auto", "subdivision", "tracing", "certified", "sampling"]

MAX_REGIONS, RESOLUTION = 200_000, 192
"""Most linear regions that are computed, and pixels a side where a plane is sampled."""

# Of the singular values near an input: fewest samples, the spread of a coordinate in distances from
# the input to its witness over the root of their number (the default of `sample`), passes a sample,
# and when they are left out: coordinates, and seconds that are expected.
LEAST_DRAWS, SPREAD, PASSES = 400, 0.1, 12.0
MOST_COORDINATES, SECONDS = 2048, 30.0


def cut_plane(
    model: Any,
    plane: dict[str, Any],
    *,
    route: Route = "auto",
    max_regions: int = MAX_REGIONS,
    resolution: int = RESOLUTION,
    batch_size: int | None = None,
) -> "tuple[ExactSection | Section, Section | None]":
    """Return a plane, and its pixels where the boundary alone was traced."""

    def pixels() -> "Section":
        with bar("Sampling") as progress:
            return levelset.boundary.section(
                model, **plane, resolution=resolution, batch_size=batch_size, progress=progress
            )

    if route == "sampling":
        return pixels(), None
    try:
        with busy("Cutting"):
            exact = levelset.boundary.exact_section(
                model, **plane, route=route, max_regions=max_regions
            )
    except FieldError as error:
        if route != "auto":
            raise
        log(f"Sampled, since it cannot be computed: {error}")
        return pixels(), None
    return exact, None if len(exact.regions) else pixels()


def notes_of(view: "View", labels: Sequence[int], classes: Sequence[str]) -> list[str]:
    """Return what the model says of each point of a plane, with the labels of the first ones."""
    names = [classes[i] if i < len(classes) else str(i) for i in view.classes]
    notes = [f"classified as {name}" for name in names]
    for row, label in enumerate(labels):
        notes[row] += f", labelled {classes[label]}"
    return notes


def planes_of(
    model: "levelset.Classifier", audit: "Audit", indices: Sequence[int], *,
    batch_size: int | None, generator: "torch.Generator",
) -> "list[report.Section]":  # fmt: skip
    """Return the sections about inputs of an audit: a plane through each, the boundary near it."""
    from levelset.boundary._sections._planes import witness_view

    sections = []
    for index in indices:
        name, point = f"input {index}", audit.points[index]
        witness = audit.witnesses.get(2.0)
        nearest = None if witness is None else witness[index]
        if nearest is not None and not (nearest.isfinite().all() and (nearest != point).any()):
            nearest = None
        try:
            view = witness_view(
                model, point, name, witness=nearest, bounds=audit.bounds, generator=generator
            )
        except DataError as error:
            sections.append(levelset.report.Section(f"A plane through {name}", str(error)))
            continue
        plane = {"origin": view.origin, "u": view.u, "v": view.v, "extent": view.extent}
        result, pixels = cut_plane(model, plane, batch_size=batch_size)
        sections += levelset.report.section(
            result, pixels=pixels, marks=view.marks, points=view.points,
            notes=notes_of(view, [int(audit.columns["label"][index])], audit.classes),
            text=view.text, classes=audit.classes, bounds=audit.bounds, name=name,
        )  # fmt: skip
        sections += _near(model, view, name, batch_size, generator)
    return sections


def _near(
    model: Any, view: "View", name: str, batch_size: int | None, generator: "torch.Generator"
) -> "list[report.Section]":
    """Return the section about the singular values of the boundary near an input, where cheap."""
    from levelset._tools.cost import operations
    from levelset._tools.engines import expected_seconds

    point, witness = view.points
    draws = max(2 * point.numel(), LEAST_DRAWS)
    cost = expected_seconds(PASSES * draws, operations(model, view.points), point.device.type)
    if point.numel() > MOST_COORDINATES or cost > SECONDS or point.numel() < 2:
        return []
    try:
        with busy("Sampling the boundary"):
            cloud = levelset.boundary.sample(
                model, point, witness, draws=draws, method="newton", batch_size=batch_size,
                generator=generator,
            )  # fmt: skip
            samples = cloud.points[cloud.converged]
            spectrum = levelset.boundary.dimension(samples)
    except LevelSetError as error:
        log(f"No singular values near {name}: {error}")
        return []
    spread = SPREAD * float((witness - point).norm()) / math.sqrt(point.numel())
    text = (
        f"{len(samples):,} points of the boundary round the witness of {name}: a Gaussian cloud, "
        f"{spread:.3g} in each coordinate, moved onto it along the gradient."
    )
    return [levelset.report.spectrum(spectrum, name=name, text=text)]
