"""`levelset section`: a plane of a classifier, exact where the network is piecewise linear."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import levelset
from levelset._tools.extras import check_extras, optional
from levelset._tools.files import make_folder, write_whole
from levelset.cli._options import Common, check_file, load_model, read_images, show
from levelset.cli._planes import MAX_REGIONS, RESOLUTION, Route, cut_plane, notes_of
from levelset.cli._progress import busy, log
from levelset.cli._threads import choose_threads
from levelset.cli._words import count, number
from levelset.errors import ParameterError

__all__ = ["SectionCommand"]

if TYPE_CHECKING:
    import torch

    from levelset.boundary import ExactSection, Section
    from levelset.boundary._sections._planes import View
    from levelset.datasets import Images

_PICTURES = (".svg", ".png", ".pdf")


@dataclass(frozen=True, kw_only=True)
class SectionCommand(Common):
    """Draw a plane of a classifier: its regions, its classes and its decision boundary.

    Writes OUT, a page that works offline, or a picture. One input gives the plane through it, the
    nearest point of another class, and a tangent; three inputs give the plane through them.
    """

    model: str
    """A .pt2 or TorchScript file, module:callable, or the name of a built-in network (digits)."""
    data: str
    """A folder, a zip, .npz, .parquet, module:callable, or a name, as for audit."""
    index: tuple[int, ...]
    """Which input, counted from 0, or which three."""
    out: Path
    """The page (.html) or picture (.svg, .png, .pdf) to write."""
    weights: Path | None = None
    """Weights for module:callable or a built-in network: .safetensors, or a state dict .pt."""
    split: Literal["train", "test"] = "test"
    """Which part of the data."""
    plane: Literal["tangent", "principal"] = "tangent"
    """For one input: a random direction along the boundary, or the one in which it bends most."""
    extent: str | None = None
    """Half the side of the square, in the units of the inputs; by default all marks fit in."""
    route: Route = "auto"
    """All linear regions, the boundary alone, the boundary with a proof that it is all, pixels, or
    the first of these that is feasible."""
    max_regions: int = count(MAX_REGIONS)
    """Most linear regions; beyond, the boundary alone is traced."""
    resolution: int = count(RESOLUTION)
    """Pixels a side where the plane is sampled."""

    def execute(self) -> None:
        """Load, cut, write."""
        page = self._is_page()
        check_extras("section", "report" if page else "plot")
        check_file(self.out)
        extent = None if self.extent is None else number("--extent", self.extent)
        device = self.place()
        data = read_images(self.data, split=self.split)
        points = self._inputs(data).to(device)
        model = load_model(self.model, self.weights)
        model = levelset.Classifier(model, bounds=data.bounds).to(device)
        log(choose_threads(model, points, self.threads))
        with busy("Choosing the plane"):
            view = self._view(model, points)
        plane = {"origin": view.origin, "u": view.u, "v": view.v, "extent": extent or view.extent}
        result, pixels = cut_plane(
            model, plane, route=self.route, max_regions=self.max_regions,
            resolution=self.resolution, batch_size=self.batch_size,
        )  # fmt: skip
        draw = self._page if page else self._picture
        draw(result, pixels, view, data)
        route = getattr(result, "route", "sampling")
        written = {"route": route, "page" if page else "picture": str(self.out)}
        show({**result.summary(), **written}, json=self.json)

    def _is_page(self) -> bool:
        if self.out.suffix.lower() in (".html", ".htm"):
            return True
        if self.out.suffix.lower() in _PICTURES:
            return False
        message = (
            f"--out {self.out} must end in .html for a page, or in .svg, .png or .pdf for a "
            "picture."
        )
        raise ParameterError(message)

    def _inputs(self, data: "Images") -> "torch.Tensor":
        outside = next((i for i in self.index if not 0 <= i < len(data)), None)
        if outside is not None:
            message = f"--index must lie in 0 to {len(data) - 1}, the inputs of {data.name!r}, "
            raise ParameterError(message + f"got {outside}.")
        if len(self.index) not in (1, 3) or len(set(self.index)) != len(self.index):
            message = (
                "--index must be one input, for the plane through it and its nearest boundary, or "
                f"three different ones, got {' '.join(map(str, self.index)) or 'none'}."
            )
            raise ParameterError(message)
        return data.points[list(self.index)]

    def _view(self, model: Any, points: "torch.Tensor") -> "View":
        from levelset.boundary._sections import _planes as planes

        names = [f"input {index}" for index in self.index]
        if len(points) == 3:
            return planes.three_inputs(model, points, names)
        choose = planes.witness_view if self.plane == "tangent" else planes.principal_view
        return choose(model, points[0], names[0], generator=self.generator())

    def _page(
        self, result: "ExactSection | Section", pixels: "Section | None", view: "View",
        data: "Images",
    ) -> None:  # fmt: skip
        with busy("Writing the page"):
            names, labels = data.classes, data.labels[list(self.index)].tolist()
            sections = levelset.report.section(
                result, pixels=pixels, marks=view.marks, points=view.points,
                notes=notes_of(view, labels, names),
                text=view.text, classes=names, bounds=data.bounds,
            )  # fmt: skip
            title = f"A plane of {self.model} through {data.name}"
            levelset.report.write(self.out, sections, title=title, subtitle=self.command())

    def _picture(
        self, result: "ExactSection | Section", pixels: "Section | None", view: "View",
        data: "Images",
    ) -> None:  # fmt: skip
        figures: Any = optional("matplotlib.figure", "plot", "section")
        figure = figures.Figure(figsize=(7.5, 7.0), layout="constrained")
        axes = figure.subplots()
        if pixels is not None:
            levelset.plots.section(pixels, axes)
        levelset.plots.section(result, axes, marks=view.marks, classes=data.classes)
        make_folder(self.out.parent)
        kind = self.out.suffix.lower()[1:]
        write_whole(self.out, lambda part: figure.savefig(part, format=kind, dpi=200))
