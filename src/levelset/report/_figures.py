"""The figures of an audit, in plotly: colours fixed here, theme and size left to the page."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from levelset._display.figures import distances as drawn_distances
from levelset._display.figures import edges_from_zero, robustness_curves
from levelset._display.palette import (
    CLASS_COLOURS,
    CLASS_SYMBOLS,
    RAMP,
    model_colours,
    translucent,
)
from levelset._typing import Floats
from levelset.auditing._result import Audit
from levelset.report._render import optional
from levelset.report._words import norm_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "BINS",
    "blank",
    "borders",
    "distances",
    "histogram",
    "robustness",
    "scatter",
    "short",
]

BINS = 40
LEGEND_CLASSES = 20
LONGEST_NAME = 18
MATRIX_CLASSES = 40
MANY_POINTS = 3000
FEW = 8
"""The largest count with a tick at each number; beyond it plotly's ticks are whole anyway."""


def robustness(audits: Sequence[Audit], norm: float) -> "Figure":
    """Draw accuracy against the size of the perturbation with its bands, one line a model."""
    figure = blank(f"Size of the perturbation, {norm_words(norm)}", "Accuracy")
    models = _measured(audits, norm)
    curves = robustness_curves([audit for audit, _ in models], norm, 101)
    for (audit, colour), curve in zip(models, curves, strict=True):
        x = curve.radius.tolist()
        low, high = curve.low.tolist(), curve.high.tolist()
        name = html.escape(audit.name)
        figure.add_scatter(
            x=x + x[::-1],
            y=high + low[::-1],
            fill="toself",
            mode="none",
            hoverinfo="skip",
            fillcolor=translucent(colour, 0.18),
            showlegend=False,
            legendgroup=name,
        )
        figure.add_scatter(
            x=x,
            y=curve.accuracy.tolist(),
            mode="lines",
            name=name,
            legendgroup=name,
            line={"color": colour, "width": 2.5},
            customdata=list(zip(low, high, strict=True)),
            hovertemplate="%{y:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})",
        )
    figure.update_layout(hovermode="x unified", showlegend=len(audits) > 1)
    figure.update_xaxes(hoverformat=".4~g", range=[0.0, float(curves[0].radius[-1])])
    figure.update_yaxes(tickformat=".0%", range=[0.0, 1.02])
    return figure


def distances(audits: Sequence[Audit], norm: float) -> "Figure":
    """Draw histograms of the distances of inputs classified right, one colour a model."""
    models = _measured(audits, norm)
    series = [(audit.name, colour, drawn_distances(audit, norm)) for audit, colour in models]
    figure = histogram(f"Distance to the witness, {norm_words(norm)}", series)
    figure.update_layout(showlegend=len(audits) > 1)
    return figure


def histogram(
    words: str,
    series: Sequence[tuple[str, str, Tensor]],
    edges: Floats | None = None,
) -> "Figure":
    """Draw a histogram, one outline a series: name, colour, finite values.

    Without edges they go from 0 to the largest value; all series share them.
    """
    figure = blank(words, "Inputs")
    columns = [column[column.isfinite()].double().cpu() for _, _, column in series]
    edges = edges_from_zero(columns, BINS) if edges is None else edges
    most = 0
    for (name, colour, _), column in zip(series, columns, strict=True):
        counts = np.histogram(column.numpy(), edges)[0].tolist()
        most = max(most, *counts)
        figure.add_scatter(
            x=edges.tolist(),
            y=[*counts, counts[-1]],
            mode="lines",
            fill="tozeroy",
            name=html.escape(name),
            fillcolor=translucent(colour, 0.25),
            line={"color": colour, "width": 2, "shape": "hv"},
            customdata=[*edges[1:].tolist(), float(edges[-1])],
            hovertemplate="%{x:.3~g} to %{customdata:.3~g}: %{y} inputs",
        )
    figure.update_layout(hovermode="closest", showlegend=len(series) > 1)
    figure.update_yaxes(rangemode="tozero", dtick=1 if most <= FEW else None)
    return figure


def scatter(audit: Audit, norm: float) -> "Figure":
    """Draw distance against margin, a point an input, colour and symbol by predicted class.

    Each point carries its row as `customdata`. Inputs without a witness have no point; those
    classified wrong lie at distance 0, drawn open. The last trace is empty: the page marks the
    pinned point with it.
    """
    figure = blank("Margin", f"Distance, {norm_words(norm)}")
    margin, distance = audit.columns["margin"].cpu(), audit.distance(norm).cpu()
    prediction, correct = audit.columns["prediction"].cpu(), audit.columns["correct"].bool().cpu()
    drawn = distance.isfinite() & margin.isfinite()
    kind = figure.add_scattergl if int(drawn.sum()) > MANY_POINTS else figure.add_scatter
    for place, (name, members) in enumerate(_groups(audit, prediction)):
        rows = (members & drawn).nonzero().flatten()
        rows = rows[correct[rows].int().argsort(descending=True, stable=True)]  # legend: the first
        colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
        symbol = CLASS_SYMBOLS[place // len(CLASS_COLOURS) % len(CLASS_SYMBOLS)]
        kind(
            x=margin[rows].numpy(),
            y=distance[rows].numpy(),
            mode="markers",
            name=name,
            customdata=rows.numpy().astype(np.int32),
            hoverinfo="none",
            marker={
                "size": 7,
                "opacity": 0.8,
                "color": colour,
                "line": {"color": colour, "width": 1.5},
                "symbol": [symbol if right else f"{symbol}-open" for right in correct[rows]],
            },
        )
    kind(
        x=[],
        y=[],
        mode="markers",
        hoverinfo="skip",
        showlegend=False,
        marker={"size": 16, "symbol": "circle-open", "line": {"width": 3}},
        meta="pin",
    )
    figure.update_layout(hovermode="closest", height=480, meta={"hover": "row"})
    top = _largest(distance) or 1.0
    figure.update_yaxes(range=[-0.04 * top, 1.05 * top])
    figure.update_layout(legend={"title": {"text": "predicted"}, "itemsizing": "constant"})
    return figure


def borders(audit: Audit, norm: float) -> "Figure":
    """Draw which class borders which: predicted class by row, class of the witness by column.

    Beyond 40 classes only those are drawn that take part in most borders.
    """
    counts = audit.borders(norm).cpu()
    busiest = (counts.sum(0) + counts.sum(1)).argsort(descending=True, stable=True)
    shown = busiest[:MATRIX_CLASSES].sort().values
    counts = counts[shown][:, shown]
    names = [short(audit.classes[int(i)]) for i in shown]
    z = [[int(v) if v else None for v in row] for row in counts.tolist()]
    figure = blank("Class of the nearest witness", "Predicted class")
    few = len(names) <= LEGEND_CLASSES
    figure.add_heatmap(
        z=z,
        customdata=[[[int(i), int(j)] for j in shown] for i in shown],
        text=[[f"{a} → {b}" for b in names] for a in names],
        texttemplate="%{z}" if few else None,
        xgap=1.5,
        ygap=1.5,
        zmin=0,
        zmax=max(int(counts.max()), 1),
        colorscale=[[0.0, RAMP[0]], [1.0, RAMP[1]]],
        meta="ramp",
        hoverongaps=False,
        hovertemplate="%{text}: %{z} inputs<extra></extra>",
        colorbar={
            "thickness": 10,
            "outlinewidth": 0,
            "title": {"text": "inputs"},
            "dtick": 1 if int(counts.max()) <= FEW else None,
        },
    )
    places = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
    figure.update_xaxes(**places, side="bottom", zeroline=False)
    figure.update_yaxes(**places, autorange="reversed", zeroline=False)
    height = min(820, max(420, 130 + 34 * len(names)))
    figure.update_layout(height=height, meta={"click": "border"}, hovermode="closest")
    return figure


def blank(x: str, y: str) -> "Figure":
    """Return an empty figure with these words at its axes."""
    figure = optional("plotly.graph_objects").Figure()
    figure.update_layout(
        template=None,
        height=400,
        margin={"l": 64, "r": 16, "t": 40, "b": 56},
        legend={"orientation": "h", "x": 0.0, "y": 1.02, "yanchor": "bottom"},
    )
    how = {"automargin": True, "zeroline": False, "exponentformat": "power"}
    figure.update_xaxes(title={"text": x}, **how)
    figure.update_yaxes(title={"text": y}, **how)
    return figure


def _groups(audit: Audit, prediction: Tensor) -> list[tuple[str, Tensor]]:
    """Return the classes of the legend, each with its members; the rest as one."""
    counts = torch.bincount(prediction.long(), minlength=len(audit.classes))
    largest = counts.argsort(descending=True, stable=True)[:LEGEND_CLASSES]
    named = [int(i) for i in largest.sort().values if counts[i]]
    groups = [(short(audit.classes[i]), prediction == i) for i in named]
    rest = ~torch.isin(prediction, torch.tensor(named, dtype=prediction.dtype))
    if rest.any():
        groups.append(("other classes", rest))
    return groups


def short(name: str) -> str:
    """Return the name of a class for figures: cut where long, with its markup as text."""
    return html.escape(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…")


def _largest(distance: Tensor) -> float:
    finite = distance[distance.isfinite()]
    return float(finite.max()) if len(finite) else 0.0


def _measured(audits: Sequence[Audit], norm: float) -> list[tuple[Audit, str]]:
    """Return the audits that hold a norm, each with the colour its place gives it everywhere."""
    colours = model_colours(len(audits))
    return [pair for pair in zip(audits, colours, strict=True) if norm in pair[0].norms]
