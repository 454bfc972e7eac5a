"""The sections of a page about noise: persistence beside certificates, class by class."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from levelset.auditing._result import Audit
from levelset.boundary import Persistence
from levelset.errors import ParameterError, ShapeError
from levelset.report._figures import BINS, blank
from levelset.report._images import data_uri
from levelset.report._palette import CLASS_COLOURS, model_colours, translucent
from levelset.report._render import figure_html, grid_html
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["class_frequencies", "measured", "noise", "persistence"]

CURVES = 8
"""Classes drawn apart in a picture of frequencies, the most frequent; the rest as one."""

_MEANING = (
    "Persistence is the noise (standard deviation of each value of the input) at which the share "
    "of noisy copies that keep the prediction first falls to 70 %: an estimate, for the model as "
    "it is. The certified radius is a lower bound in L₂, and for another classifier, the one that "
    "answers what most noisy copies get: no perturbation within it changes that answer."
)


def measured(audits: Sequence[Audit]) -> bool:
    """Return whether all of the audits measured persistence."""
    return all("sigma_star" in audit.columns for audit in audits)


def noise(audits: Sequence[Audit]) -> list[Section]:
    """Return the sections about persistence of audits that measured it."""
    values = {audit.name: audit.columns["sigma_star"] for audit in audits}
    certified = {audit.name: audit.columns["certified_radius"] for audit in audits}
    figures = [
        figure_html(_histogram(values, "Persistence"), "Histogram of persistence"),
        figure_html(_histogram(certified, "Certified radius, L₂"), "Histogram of certified radii"),
    ]
    lines = [_left_out(name, column) for name, column in values.items()]
    columns: dict[str, list[object]] = {"class": list(audits[0].classes)}
    several = len(audits) > 1
    for audit in audits:
        end = f", {audit.name}" if several else ""
        members = [audit.columns["prediction"] == k for k in range(len(audit.classes))]
        columns |= _by_class(audit.columns, members, end)
    return [
        Section("Noise", "\n\n".join([_MEANING, *lines]), grid_html(figures)),
        Section("Noise by predicted class", "Medians over the inputs of each class.", columns),
    ]


def persistence(
    results: Persistence | Mapping[str, Persistence], *, classes: Sequence[str] | None = None
) -> list[Section]:
    """Return the sections of a page that compares persistence, as of natural and perturbed inputs.

    A histogram with one outline a result, and a table by class.

    Args:
        results: One result, or several by what the reader shall call them.
        classes: Names of the classes; `None` for their numbers.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
        ParameterError: If there is no result.
    """
    held = {"inputs": results} if isinstance(results, Persistence) else dict(results)
    if not held or not any(len(result) for result in held.values()):
        message = "report.persistence: `results` must hold at least one point, got none."
        raise ParameterError(message)
    figure = _histogram({name: result.sigma for name, result in held.items()}, "Persistence")
    gammas = sorted({result.gamma for result in held.values()})
    text = (
        f"The noise at which the share of copies that keep the class first falls to gamma = "
        f"{', '.join(f'{gamma:g}' for gamma in gammas)}."
    )
    lines = [_left_out(name, result.sigma) for name, result in held.items()]
    count = 1 + max(int(result.classes.max()) for result in held.values() if len(result))
    names = list(classes) if classes is not None else [str(k) for k in range(count)]
    columns: dict[str, list[object]] = {"class": list(names)}
    for name, result in held.items():
        members = [result.classes == k for k in range(len(names))]
        found = {"sigma_star": result.sigma, "certified_radius": result.certified_radius}
        columns |= _by_class(found, members, f", {name}" if len(held) > 1 else "")
    return [
        Section("Persistence", "\n\n".join([text, *lines]), figure),
        Section("Persistence by class", "Medians over the points of each class.", columns),
    ]


def class_frequencies(
    frequencies: Tensor,
    sigmas: Tensor,
    *,
    classes: Sequence[str] | None = None,
    copies: Tensor | None = None,
    name: str = "one input",
) -> Section:
    """Return a section with the share of each class as the noise grows, and copies underneath.

    Args:
        frequencies: Shares `(s, k)`, from
            [`class_frequencies`][levelset.boundary.class_frequencies].
        sigmas: The noise of each row, `(s,)`, rising.
        classes: Names of the classes; `None` for their numbers.
        copies: Noisy copies to show underneath, `(m, *d)`, pictures of one or three channels, at
            m noises equally spaced from the first of `sigmas` to the last.
        name: What the input is called.

    Raises:
        MissingExtraError: If plotly is not installed.
        ShapeError: If rows, noises and names do not match, or copies are no pictures.
    """
    s, k = frequencies.shape if frequencies.dim() == 2 else (-1, -1)
    if sigmas.shape != (s,) or (classes is not None and len(classes) != k):
        message = (
            "report.class_frequencies: `frequencies` must be (s, k) for `sigmas` (s,) and "
            f"`classes` of length k, got {tuple(frequencies.shape)}, {tuple(sigmas.shape)} and "
            f"{'none' if classes is None else len(classes)}."
        )
        raise ShapeError(message)
    names = [str(i) for i in range(k)] if classes is None else list(classes)
    figure = _frequencies(frequencies, sigmas, names)
    if copies is not None and len(copies):
        _show_copies(figure, copies, float(sigmas[0]), float(sigmas[-1]))
    text = (
        f"Share of each class among noisy copies of {name}, as the noise grows. The class without "
        "noise is drawn thick."
    )
    return Section(f"Classes around {name}", text, figure)


def _histogram(values: Mapping[str, Tensor], words: str) -> "Figure":
    figure = blank(words, "Inputs")
    finite = {name: column[column.isfinite()].double().cpu() for name, column in values.items()}
    top = max((float(column.max()) for column in finite.values() if len(column)), default=1.0)
    edges = np.linspace(0.0, top or 1.0, BINS + 1)
    for (name, column), colour in zip(finite.items(), model_colours(len(finite)), strict=True):
        counts = np.histogram(column.numpy(), edges)[0].tolist()
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
    figure.update_layout(hovermode="closest", showlegend=len(finite) > 1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def _left_out(name: str, sigma: Tensor) -> str:
    """Return how many inputs the histogram shows, and what became of the others."""
    never, always = int((sigma == 0).sum()), int(sigma.isinf().sum())
    words = [f"“{name}”: {len(sigma) - always:,} drawn"]
    if always:
        words.append(f"{always:,} keep their class under any noise tried, not drawn")
    if never:
        words.append(f"{never:,} lose it however little the noise, drawn at 0")
    return "; ".join(words) + "."


def _by_class(
    columns: Mapping[str, Tensor], members: Sequence[Tensor], end: str
) -> dict[str, list[object]]:
    def medians(name: str) -> list[object]:
        values = [columns[name].double()[rows] for rows in members]
        return [float(v.median()) if len(v) else "" for v in values]

    return {
        f"inputs{end}": [int(rows.sum()) for rows in members],
        f"persistence{end}": medians("sigma_star"),
        f"certified radius{end}": medians("certified_radius"),
    }


def _frequencies(frequencies: Tensor, sigmas: Tensor, names: Sequence[str]) -> "Figure":
    figure = blank("Noise, standard deviation", "Share of the copies")
    shares = frequencies.double().cpu()
    first = int(shares[0].argmax())
    largest = shares.amax(0).argsort(descending=True, stable=True)
    shown = sorted(int(i) for i in largest[:CURVES] if shares[:, int(i)].any())
    x = sigmas.double().tolist()
    for place, i in enumerate(shown):
        colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
        figure.add_scatter(
            x=x, y=shares[:, i].tolist(), mode="lines", name=html.escape(names[i]),
            line={"color": colour, "width": 4 if i == first else 1.8},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    rest = 1.0 - shares[:, shown].sum(1)
    if bool((rest > 1e-9).any()):
        figure.add_scatter(
            x=x, y=rest.tolist(), mode="lines", name="other classes",
            line={"color": "#888888", "width": 1.5, "dash": "dot"}, hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(hovermode="x unified", height=460)
    figure.update_yaxes(tickformat=".0%", range=[0.0, 1.02])
    return figure


def _show_copies(figure: "Figure", copies: Tensor, low: float, high: float) -> None:
    """Put pictures in a row below the axis, each under its own noise."""
    sources = [data_uri(picture) for picture in copies]
    if None in sources:
        message = (
            "report.class_frequencies: `copies` must be pictures, (m, h, w), (m, 1, h, w) or "
            f"(m, 3, h, w), got {tuple(copies.shape)}."
        )
        raise ShapeError(message)
    places = np.linspace(low, high, len(copies))
    width = 0.9 * (high - low) / max(len(copies) - 1, 1)
    for place, source in zip(places, sources, strict=True):
        figure.add_layout_image(
            source=source, xref="x", yref="paper", x=float(place), y=-0.2,
            sizex=width, sizey=0.22, xanchor="center", yanchor="top",
        )  # fmt: skip
    figure.update_layout(margin={"b": 170}, height=560)
