"""The sections of a page about a reconstructed surface: scan, mesh and cuts, to turn."""

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from levelset._display.palette import MODEL_COLOURS, translucent
from levelset._tools.arguments import checked
from levelset.reconstruction import Mesh, Surface
from levelset.report._figures import BINS, blank
from levelset.report._render import captioned, figure_html, grid_html, optional, render
from levelset.report._words import share
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["surface"]

SHOWN_POINTS = 15_000
CUT = 120
_CLAY, _DOUBT = "#9DB7CE", "#D55E00"
_WORTH = 0.005  # of the area in doubt, from which on it is drawn
_LIGHT = {"ambient": 0.5, "diffuse": 0.75, "specular": 0.2, "roughness": 0.6, "fresnel": 0.1}
_FLAT = {"ambient": 1.0, "diffuse": 0.0, "specular": 0.0, "fresnel": 0.0}
_AXES = "xyz"
# From where the camera of a scene looks at its middle, and the angle that it sees.
_EYE, _VIEW = (0.7, 0.6, 1.5), math.pi / 4
# Blue inside, white on the surface, orange outside.
_SIDES = [[0.0, "#2A86C8"], [0.5, "#FFFFFF"], [1.0, "#D55E00"]]

_TURNING = (
    "Drag to turn, wheel or pinch to zoom, or Tab and the arrow keys. The views turn together."
)
_CUTS = (
    "The network on three planes through the middle: blue where it is negative (inside), orange "
    "where positive (outside), in units of the scan; the black line is the surface, the dots are "
    "scan points near the plane. On a good result colours are bands of even width."
)


@checked
def surface(result: Surface, *, name: str = "") -> list[Section]:
    """Return the sections of a page about a surface: numbers, scan, mesh, cuts, residuals.

    The mesh on the page is a coarser one, at most 96 cells along the longest side, so that it
    turns smoothly and the page stays small; the file written beside it has all of it.

    Args:
        result: From [`surface`][levelset.reconstruction.surface].
        name: What the scan is called.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
    """
    return [
        Section("At a glance", _sentence(result, name), _cards(result)),
        Section("Scan and mesh", _TURNING, _views(result)),
        Section("Cuts", _CUTS, figure_html(_cuts(result), "Three cuts through the network")),
        Section("How the points fit", _fitted(result), _residuals(result)),
    ]


def _sentence(result: Surface, name: str) -> str:
    summary = result.summary()
    closed = "a closed" if summary["watertight"] else "an open"
    pieces = "one piece" if summary["components"] == 1 else f"{summary['components']} pieces"
    called = f"“{name}”: " if name else ""
    lines = [
        f"{called}{summary['points']:,} points became {closed} surface in {pieces}, of "
        f"{summary['faces']:,} triangles.",
        *result.notes,
    ]
    return "\n\n".join(lines)


def _cards(result: Surface) -> Any:
    summary = result.summary()
    genus = summary.get("genus")
    cards = [
        ("Median distance of a point", f"{summary['residual_median']:.3g}", "units of the scan"),
        ("Noise", f"{summary['noise']:.3g}", "estimated standard deviation a coordinate"),
        ("Outliers", f"{summary['outliers']:,}", "points that the surface does not follow"),
        ("In doubt", share(result.doubtful), "of the area: no points near, or side unsure"),
        ("Area", _round(result.mesh.area), "square units"),
    ]
    if summary["unsure"] is not None:
        cards.append(("Orientation unsure", share(result.unsure), "share of points"))
    if genus is not None:
        cards.append(("Handles", str(genus), "genus of a closed surface"))
    entries = [{"name": n, "value": v, "note": note} for n, v, note in cards]
    group = {"name": "", "colour": MODEL_COLOURS[0], "cards": entries}
    return render("glance.html.jinja", groups=[group], several=False, rows=[])


def _views(result: Surface) -> Any:
    points, mesh = _some(result.points), result.sketch
    corners = np.concatenate([points.numpy(), mesh.vertices.numpy()]).astype(np.float32)
    colours = None if result.colours is None else _hex(_some(result.colours))
    scan = _turning(corners)
    scan.add_scatter3d(
        **_columns(points.numpy().astype(np.float32)),
        mode="markers",
        marker={"size": 1.6, "color": colours or MODEL_COLOURS[0], "opacity": 0.8},
        hoverinfo="skip",
    )
    clay = None if mesh.colours is None else _hex(mesh.colours)
    shown = [
        captioned(figure_html(scan, "The scan"), "Scan"),
        captioned(figure_html(_solid(mesh, corners, clay), "The mesh"), "Mesh"),
    ]
    if result.doubtful >= _WORTH:
        doubt = figure_html(_solid(mesh, corners, _tinted(mesh.scalars["doubt"])), "The doubt")
        shown.append(captioned(doubt, "Orange: no points near, or their side is unsure"))
    return grid_html(shown)


def _solid(mesh: Mesh, corners: np.ndarray, colours: list[str] | None) -> "Figure":
    """Return a scene with a mesh, in colours of its corners or in one of clay."""
    figure, faces = _turning(corners), mesh.faces.numpy().astype(np.int32)
    figure.add_mesh3d(
        **_columns(mesh.vertices.numpy().astype(np.float32)),
        i=faces[:, 0],
        j=faces[:, 1],
        k=faces[:, 2],
        **({"color": _CLAY} if colours is None else {"vertexcolor": colours}),
        lighting=_LIGHT,
        lightposition={"x": 200, "y": 400, "z": 300},
        hoverinfo="skip",
    )
    return figure


def _turning(corners: np.ndarray) -> "Figure":
    """Return an empty scene that holds some points and turns together with the others."""
    figure = _scene()
    figure.update_layout(meta={"camera": "scan and mesh"})
    _same_axes(figure, corners)
    return figure


def _hex(colours: Tensor) -> list[str]:
    """Return colours from 0 to 1, `(n, 3)`, as a page writes them."""
    whole = (255.0 * colours).round().long()
    return [f"#{code:06x}" for code in (whole @ torch.tensor([65536, 256, 1])).tolist()]


def _tinted(doubt: Tensor) -> list[str]:
    """Return the colour of clay, the more orange the more doubt, `(v,)`."""
    clay, orange = (
        torch.tensor([int(code[k : k + 2], 16) / 255.0 for k in (1, 3, 5)], dtype=torch.float64)
        for code in (_CLAY, _DOUBT)
    )
    return _hex(torch.lerp(clay, orange, doubt.unsqueeze(1)))


def _same_axes(figure: "Figure", points: np.ndarray) -> None:
    """Give a scene the axes that hold all of the points, of one size however flat they are.

    The camera stands where it sees all of them, however they are turned.
    """
    columns = _columns(points).items()
    ranges = {f"{name}axis": {"range": [float(c.min()), float(c.max())]} for name, c in columns}
    sides = np.ptp(points, axis=0)
    # The diagonal that a cube has; by plotly's own rule a flat scene outgrows its window.
    scale = 3.0**0.5 / np.linalg.norm(sides)
    ratio = np.maximum(sides * scale, 1e-3)
    aspect = {name: float(side) for (name, _), side in zip(columns, ratio, strict=True)}
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = scale * float(np.linalg.norm(points - middle, axis=1).max())
    away = radius / math.sin(_VIEW / 2) / math.hypot(*_EYE)
    eye = {name: away * side for name, side in zip(_AXES, _EYE, strict=True)}
    figure.update_layout(
        scene={
            **ranges,
            "aspectmode": "manual",
            "aspectratio": aspect,
            "camera": {"eye": eye},
        }
    )


def _cuts(result: Surface) -> "Figure":
    figure = _scene(height=560)
    low, high = result.points.amin(0), result.points.amax(0)
    middle, reach = (low + high) / 2, float((high - low).max()) * 0.55
    near = 0.01 * reach
    points = _some(result.points)
    for axis in range(3):
        grid, values = _plane(result, axis, middle, reach)
        top = 0.25 * reach
        figure.add_surface(
            **_columns(grid, (CUT, CUT)),
            surfacecolor=values,
            cmin=-top,
            cmax=top,
            colorscale=_SIDES,
            opacity=0.92,
            showscale=axis == 0,
            colorbar={"thickness": 10, "outlinewidth": 0, "title": {"text": "distance"}},
            lighting=_FLAT,
            hovertemplate="%{surfacecolor:.3g}<extra></extra>",
        )
        _outline(figure, grid, values)
        close = points[(points[:, axis] - middle[axis]).abs() < near]
        figure.add_scatter3d(
            **_columns(close.numpy().astype(np.float32)),
            mode="markers",
            marker={"size": 1.8, "color": "#111111"},
            hoverinfo="skip",
        )
    return figure


def _plane(
    result: Surface, axis: int, middle: Tensor, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a square `(CUT * CUT, 3)` and the field on it `(CUT, CUT)`."""
    line = torch.linspace(-reach, reach, CUT, dtype=torch.float64)
    first, second = torch.meshgrid(line, line, indexing="ij")
    grid = torch.zeros(CUT * CUT, 3, dtype=torch.float64)
    others = [k for k in range(3) if k != axis]
    grid[:, others[0]], grid[:, others[1]] = first.flatten(), second.flatten()
    grid += middle
    values = result.values(grid).reshape(CUT, CUT)
    return grid.numpy().astype(np.float32), values.numpy().astype(np.float32)


def _outline(figure: "Figure", grid: np.ndarray, values: np.ndarray) -> None:
    """Draw the zero line of a cut as one broken line in space."""
    measure = optional("skimage.measure")
    corner = grid.reshape(CUT, CUT, 3)
    step_a, step_b = corner[1, 0] - corner[0, 0], corner[0, 1] - corner[0, 0]
    parts = []
    for line in measure.find_contours(values, 0.0):
        parts += [corner[0, 0] + line[:, :1] * step_a + line[:, 1:] * step_b]
        parts += [np.full((1, 3), np.nan, np.float32)]
    if parts:
        figure.add_scatter3d(
            **_columns(np.concatenate(parts).astype(np.float32)),
            mode="lines",
            line={"color": "#111111", "width": 4},
            hoverinfo="skip",
        )


def _fitted(result: Surface) -> str:
    summary = result.summary()
    return (
        f"Distance of the scan points to the surface: half lie within "
        f"{summary['residual_median']:.3g}, 95 in 100 within {summary['residual_95']:.3g}; the "
        f"noise is estimated at {summary['noise']:.3g}."
    )


def _residuals(result: Surface) -> Any:
    residual = result.residuals.abs()
    top = float(residual.quantile(0.99)) if len(residual) else 1.0
    counts, edges = np.histogram(residual.numpy(), np.linspace(0.0, top or 1.0, BINS + 1))
    figure = blank("Distance of a point to the surface", "Points")
    figure.add_scatter(
        x=edges.tolist(),
        y=[*counts.tolist(), int(counts[-1])],
        mode="lines",
        fill="tozeroy",
        fillcolor=translucent(MODEL_COLOURS[0], 0.25),
        line={"color": MODEL_COLOURS[0], "width": 2, "shape": "hv"},
        hovertemplate="%{x:.3~g}: %{y} points<extra></extra>",
    )
    figure.update_layout(showlegend=False)
    shown = [figure_html(figure, "Histogram of the points' distances")]
    if len(result.history) > 1:
        shown.append(figure_html(_course(result), "The fit as it went on"))
    return grid_html(shown)


def _course(result: Surface) -> "Figure":
    figure = blank("Seconds", "Points within twice the noise")
    figure.add_scatter(
        x=[step.seconds for step in result.history],
        y=[step.quality for step in result.history],
        mode="lines+markers",
        line={"color": MODEL_COLOURS[0]},
        text=[html.escape(step.stage) for step in result.history],
        hovertemplate="%{text}: %{y:.1%}<extra></extra>",
    )
    figure.update_yaxes(tickformat=".0%")
    figure.update_layout(showlegend=False)
    return figure


def _scene(height: int = 460) -> "Figure":
    """Return an empty scene whose axes have one scale and no walls."""
    figure = optional("plotly.graph_objects").Figure()
    axis = {"showbackground": False, "visible": False}
    figure.update_layout(
        template=None,
        height=height,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        showlegend=False,
        scene={
            "aspectmode": "data",
            "xaxis": axis,
            "yaxis": axis,
            "zaxis": axis,
            "camera": {"up": {"x": 0, "y": 1, "z": 0}, "eye": dict(zip(_AXES, _EYE, strict=True))},
        },
    )
    return figure


def _columns(points: np.ndarray, shape: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    columns = [np.ascontiguousarray(points[:, k]) for k in range(3)]
    return {
        name: column if shape is None else column.reshape(shape)
        for name, column in zip(_AXES, columns, strict=True)
    }


def _round(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= value < 1e9 else f"{value:.4g}"


def _some(points: Tensor) -> Tensor:
    """Return at most so many points as a page can turn, evenly chosen."""
    return points[:: max(1, -(-len(points) // SHOWN_POINTS))]
