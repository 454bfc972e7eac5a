"""The sections of a page about a plane of a classifier: regions, boundary and their numbers."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from levelset import boundary
from levelset._display.palette import MODEL_COLOURS, model_colours
from levelset._tools.arguments import checked
from levelset._typing import Floats, Integers, Points
from levelset.report._figures import blank
from levelset.report._images import data_uri
from levelset.report._render import Html, figure_html, render
from levelset.report._write import Section, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["section"]

_PIXELS = 720
# Regions beyond this number are drawn without the lines between them.
_MOST_WALLS = 20_000
# The share of the plane that a class must cover to have its name written on it.
_NAMED = 0.004


@checked
def section(
    result: boundary.ExactSection | boundary.Section,
    *,
    pixels: boundary.Section | None = None,
    marks: Mapping[str, Sequence[float]] | None = None,
    points: Points | None = None,
    notes: Sequence[str] = (),
    text: str = "",
    classes: Sequence[str] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    name: str = "",
) -> list[Section]:
    """Return the sections of a page: numbers, the plane to zoom into, classes and boundaries.

    With a `name` it is one section, numbers and plane, to stand on a page about more.

    Args:
        result: From [`exact_section`][levelset.boundary.exact_section] or
            [`section`][levelset.boundary.section].
        pixels: The same plane by sampling, to colour it where the boundary alone was traced.
        marks: Names of points to show, each with its coordinates (x, y).
        points: What the inputs among them look like, `(m, *d)`, in the order of the marks.
        notes: A line for each of them.
        text: What the plane is.
        classes: Names of the classes; numbers if empty.
        bounds: The values that are shown black and white.
        name: What the plane goes through, such as "input 3"; empty for a page of its own.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
    """
    page = _Page(result, pixels, dict(marks or {}), list(classes))
    pictures = Html("") if points is None else page.pictures(points, notes, bounds)
    about, glance = f"{text}\n\n{page.sentence()}", _joined(page.cards(), pictures)
    figure = figure_html(page.figure(), "Classes and their boundary")
    if name:
        words = f"{about}\n\n{_READ}"
        return [Section(f"A plane through {name}", words, _joined(glance, figure))]
    sections = [
        Section("At a glance", about, glance),
        Section("The plane", _READ, figure),
        Section("Classes", page.about_classes(), page.class_table()),
    ]
    if isinstance(result, boundary.ExactSection):
        if len(result.boundary):
            about = "Length in the units of the inputs; a segment lies in one linear region."
            sections.append(Section("Boundaries", about, page.boundary_table()))
        if len(result.regions):
            about = (
                "On each linear region the network is one affine map. Areas in square units of the "
                "inputs; where random lines cross, regions have 4 corners on average."
            )
            sections.append(Section("Linear regions", about, page.region_table()))
    return sections


_READ = (
    "Each class has a colour, the boundary between classes is black; thin white lines bound the "
    "linear regions where they are shown. Axes are in the units of the inputs. Drag to zoom, "
    "double-click to go back."
)


class _Page:
    """Draws the parts of the page."""

    def __init__(
        self, result: boundary.ExactSection | boundary.Section, pixels: boundary.Section | None,
        marks: dict[str, Sequence[float]], classes: list[str],
    ) -> None:  # fmt: skip
        self.result, self.marks, self.classes = result, marks, classes
        self.exact = result if isinstance(result, boundary.ExactSection) else None
        sampled = pixels if self.exact else result
        self.sampled = sampled if isinstance(sampled, boundary.Section) else None
        self.raster = self._raster()

    def _raster(self) -> Integers | None:
        """Return classes at pixels, rows upwards; `None` where the boundary alone is known."""
        if self.exact is not None and len(self.exact.regions):
            return self.exact.raster(_PIXELS).cpu().numpy()
        return None if self.sampled is None else self.sampled.classes.cpu().numpy()

    def called(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else str(label)

    def sentence(self) -> str:
        if self.exact is None:
            return (
                f"Sampled at {len(self.result.x)} by {len(self.result.x)} pixels: what is thinner "
                "than a pixel is not seen."
                if isinstance(self.result, boundary.Section)
                else ""
            )
        if self.exact.complete and len(self.exact.regions):
            return (
                "Computed exactly in float64, without sampling: all linear regions, and with them "
                "every piece of the boundary."
            )
        followed = "The boundary was followed exactly in float64, from region to region, "
        ties = (
            " Logits are equal on an area here; the boundary round it may be missing."
            if self.exact.tied
            else ""
        )
        if self.exact.complete:
            return (
                f"{followed}and is proven to be all there is, by bounds of the network in cells "
                f"that cover the plane. Colours are sampled.{ties}"
            )
        return (
            f"{followed}until it explains the class of every point of a lattice: a closed curve "
            "that fits between the points of the lattice may be missing. Colours are sampled."
            f"{ties}"
        )

    def cards(self) -> Html:
        summary = self.result.summary()
        cards = []
        if self.exact is not None:
            regions, whole = self.exact.linear_regions, len(self.exact.regions) > 0
            cards = [
                ("Linear regions", f"{regions:,}" if whole else f"about {_round(regions)}",
                 "all computed" if whole else "an estimate; they were not computed"),
                ("Boundary length", f"{summary['boundary_length']:.5g}", "units of the inputs"),
                ("Boundary segments", f"{summary['boundary_segments']:,}", "straight pieces"),
                ("Triple points", f"{summary['triple_points']:,}", "where three classes meet"),
                ("Proven complete", "yes" if summary["complete"] else "no",
                 "all is there" if summary["complete"] else "as far as the lattice reaches"),
            ]  # fmt: skip
        cards.insert(0, ("Classes", str(summary["classes_seen"]), "seen on the plane"))
        entries = [{"name": n, "value": v, "note": note} for n, v, note in cards]
        group = {"name": "", "colour": MODEL_COLOURS[0], "cards": entries}
        return render("glance.html.jinja", groups=[group], several=False, rows=[])

    def pictures(self, points: Tensor, notes: Sequence[str], bounds: tuple[float, float]) -> Html:
        cells = [
            {"picture": data_uri(point, bounds), "title": name, "of": name,
             "note": notes[row] if row < len(notes) else ""}
            for row, (point, name) in enumerate(zip(points, self.marks, strict=False))
        ]  # fmt: skip
        return render("thumbnails.html.jinja", title="", cells=cells)

    def figure(self) -> "Figure":
        figure = blank("First axis", "Second axis")
        (left, right), (bottom, top) = self.result.extent
        figure.update_layout(height=720, showlegend=True)
        figure.update_xaxes(range=[left, right], constrain="domain", showgrid=False)
        figure.update_yaxes(
            range=[bottom, top], scaleanchor="x", constrain="domain", showgrid=False
        )
        if self.raster is not None:
            figure.add_layout_image(
                source=_picture(self.raster, self.result.class_count), xref="x", yref="y", x=left,
                y=top, sizex=right - left, sizey=top - bottom, sizing="stretch", layer="below",
            )  # fmt: skip
        exact = self.exact
        if exact is not None and 1 < len(exact.regions) <= _MOST_WALLS:
            figure.add_scatter(
                **_broken(_walls(exact)), mode="lines", hoverinfo="skip", name="linear regions",
                line={"color": "rgba(255,255,255,0.55)", "width": 0.6},
            )  # fmt: skip
        if exact is not None and len(exact.boundary):
            figure.add_scatter(
                **_broken(exact.boundary.cpu().numpy()), mode="lines", hoverinfo="skip",
                name="boundary", line={"color": "#111111", "width": 2},
            )  # fmt: skip
        self._name_classes(figure)
        if self.marks:
            places = np.array(list(self.marks.values()), dtype=float)
            figure.add_scatter(
                x=places[:, 0].tolist(), y=places[:, 1].tolist(), mode="markers+text",
                text=[f"<b>{html.escape(name)}</b>" for name in self.marks],
                textposition="top center",
                textfont={"color": "#111111"}, showlegend=False, name="points",
                marker={"size": 10, "color": "#111111", "line": {"color": "white", "width": 2}},
                hovertemplate="%{text}: %{x:.4~g}, %{y:.4~g}<extra></extra>",
            )  # fmt: skip
        return figure

    def _name_classes(self, figure: "Figure") -> None:
        """Write the name of each class where it is widest."""
        if self.raster is None:
            return
        (left, right), (bottom, top) = self.result.extent
        rows, columns = self.raster.shape
        colours = model_colours(self.result.class_count)
        for label in np.unique(self.raster).tolist():
            mask = self.raster == label
            name = html.escape(self.called(label))
            figure.add_scatter(
                x=[None], y=[None], mode="markers", name=name,
                marker={"size": 12, "symbol": "square", "color": colours[label]},
            )  # fmt: skip
            if mask.mean() < _NAMED:
                continue
            depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            figure.add_annotation(
                x=left + (column + 0.5) / columns * (right - left),
                y=bottom + (row + 0.5) / rows * (top - bottom),
                text=f"<b>{name}</b>", showarrow=False, borderpad=3,
                font={"size": 16, "color": "#111111"}, bgcolor="rgba(255,255,255,0.75)",
            )  # fmt: skip

    def about_classes(self) -> str:
        if self.exact is not None and len(self.exact.regions):
            return "Areas are exact, in square units of the inputs."
        return "Areas by pixels, in square units of the inputs."

    def class_table(self) -> Table:
        areas = self._areas()
        if areas is None:
            labels = torch.unique(self.exact.sides).tolist() if self.exact is not None else []
            return {"class": [self.called(label) for label in labels]}
        labels = areas.nonzero().flatten().tolist()
        total = float(areas.sum())
        table = {
            "class": [self.called(label) for label in labels],
            "share": [f"{100 * float(areas[label]) / total:.2f}\u00a0%" for label in labels],
            "area": [f"{float(areas[label]):.5g}" for label in labels],
        }
        if self.exact is not None and len(self.exact.regions):
            linear, of = self.exact.linear, self.exact.classes
            table["linear regions"] = [
                f"{len(torch.unique(linear[of == label])):,}" for label in labels
            ]
        return table

    def _areas(self) -> Tensor | None:
        """Return the area of each class in the units of the inputs."""
        if self.exact is not None and len(self.exact.regions):
            return self.exact.class_areas * self.exact.area_unit
        return None if self.sampled is None else self.sampled.class_areas

    def boundary_table(self) -> Table:
        assert self.exact is not None
        pairs, number = torch.unique(
            self.exact.sides.sort(dim=1).values, dim=0, return_inverse=True
        )
        lengths = self.exact.lengths.new_zeros(len(pairs)).index_add(0, number, self.exact.lengths)
        order = lengths.argsort(descending=True).tolist()
        return {
            "between": [" and ".join(map(self.called, pairs[row].tolist())) for row in order],
            "length": [f"{float(lengths[row]):.5g}" for row in order],
            "segments": [f"{int((number == row).sum()):,}" for row in order],
        }

    def region_table(self) -> Table:
        assert self.exact is not None
        exact = self.exact
        areas = exact.areas.new_zeros(exact.linear_regions)
        areas = areas.index_add(0, exact.linear, exact.areas) * exact.area_unit
        levels = torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0]).to(areas)
        spread = areas.quantile(levels).tolist() if len(areas) < 2**24 else []
        corners = exact.regions.offsets.diff().double().mean()
        names = ("smallest", "5 % are below", "median", "95 % are below", "largest")
        return {
            "number": [
                "linear regions", "of one class each", "corners on average",
                *(f"area, {name}" for name, _ in zip(names, spread, strict=False)),
            ],
            "value": [
                f"{exact.linear_regions:,}", f"{len(exact.regions):,}", f"{float(corners):.2f}",
                *(f"{value:.3g}" for value in spread),
            ],
        }  # fmt: skip


def _joined(*parts: Html) -> Html:
    return Html("".join(part.markup for part in parts))


def _picture(raster: Integers, classes: int) -> str:
    """Return classes at pixels, rows upwards, as a picture with a pale colour each."""
    hexes = model_colours(classes)
    colours = np.array([[int(each[i : i + 2], 16) for i in (1, 3, 5)] for each in hexes])
    pale = (0.45 * 255 + 0.55 * colours).astype(np.uint8)
    image = Image.fromarray(raster[::-1].astype(np.uint8), mode="P")
    image.putpalette(pale.ravel().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _walls(exact: "boundary.ExactSection") -> Floats:
    """Return the edges of the regions, each once, `(m, 2, 2)`."""
    regions = exact.regions
    after = torch.arange(1, len(regions.corners) + 1)
    after[regions.offsets[1:].cpu() - 1] = regions.offsets[:-1].cpu()
    corners = regions.corners.cpu()
    edges = torch.stack([corners, corners[after]], 1).sort(dim=1).values
    return regions.vertices.cpu()[torch.unique(edges, dim=0)].numpy()


def _broken(segments: Floats) -> dict[str, list[float]]:
    """Return segments as one line, with a break wherever one does not begin where one ended."""
    segments = np.round(segments, 6)
    joined = (segments[1:, 0] == segments[:-1, 1]).all(1)
    ends = np.full((len(segments), 2, 2), np.nan)
    ends[:, 0] = segments[:, 1]
    shown = np.ones((len(segments), 2), dtype=bool)
    shown[:-1, 1] = ~joined
    starts = np.concatenate([[True], ~joined])
    whole = np.concatenate([segments[:, :1], ends], 1)
    keep = np.concatenate([starts[:, None], shown], 1)
    line = whole[keep]
    return {"x": line[:, 0].tolist(), "y": line[:, 1].tolist()}


def _round(count: int) -> str:
    """Return an estimate in words that claim no more than it knows."""
    about = float(f"{count:.2g}")
    return f"{about / 1e6:g} million" if count >= 1e6 else f"{about:,.0f}"
