"""The section about one input: the share of each class as noise grows, with copies above."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from levelset._display.figures import class_names
from levelset._display.palette import CLASS_COLOURS
from levelset._tools.arguments import checked
from levelset._typing import Points
from levelset.errors import ShapeError
from levelset.report._figures import blank, short
from levelset.report._images import data_uri
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["class_frequencies"]

CURVES = len(CLASS_COLOURS)
"""Classes drawn apart in a picture of frequencies, the most frequent; the rest as one."""


@checked
def class_frequencies(
    frequencies: Tensor,
    sigmas: Tensor,
    *,
    classes: Sequence[str] | None = None,
    copies: Points | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    name: str = "one input",
) -> Section:
    """Return a section with the share of each class as the noise grows, and copies above.

    Args:
        frequencies: Shares `(s, k)`, from
            [`class_frequencies`][levelset.boundary.class_frequencies].
        sigmas: The noise of each row, `(s,)`, rising.
        classes: Names of the classes; `None` for their numbers.
        copies: Noisy copies to show above, `(m, *d)`, pictures of one or three channels, at m
            noises equally spaced from the first of `sigmas` to the last.
        bounds: The values of the copies that are shown black and white.
        name: What the input is called.

    Raises:
        MissingExtraError: If plotly is not installed.
        ShapeError: If rows, noises and names do not match, or copies are no pictures.
    """
    names = class_names("report.class_frequencies", frequencies, sigmas, classes)
    figure = _frequencies(frequencies, sigmas, names)
    if copies is not None and len(copies):
        _show_copies(figure, copies, bounds, float(sigmas[0]), float(sigmas[-1]))
    text = (
        f"Share of each class among noisy copies of {name}, as the noise grows. The class without "
        "noise is drawn thick."
    )
    return Section(f"Classes around {name}", text, figure)


def _frequencies(frequencies: Tensor, sigmas: Tensor, names: Sequence[str]) -> "Figure":
    figure = blank("Noise, standard deviation", "Share of the copies")
    shares = frequencies.double().cpu()
    first = int(shares[0].argmax())
    largest = shares.amax(0).argsort(descending=True, stable=True)
    shown = sorted(int(i) for i in largest[:CURVES] if shares[:, int(i)].any())
    x = sigmas.double().tolist()
    mode = "lines" if len(x) > 1 else "markers"
    for colour, i in zip(CLASS_COLOURS, shown, strict=False):
        figure.add_scatter(
            x=x, y=shares[:, i].tolist(), mode=mode, name=short(names[i]),
            line={"color": colour, "width": 4 if i == first else 1.8},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    rest = 1.0 - shares[:, shown].sum(1)
    if bool((rest > 1e-9).any()):
        figure.add_scatter(
            x=x, y=rest.tolist(), mode=mode, name="other classes",
            line={"color": "#888888", "width": 1.5, "dash": "dot"}, hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(hovermode="x unified", height=460)
    figure.update_yaxes(tickformat=".0%", range=[0.0, 1.02])
    return figure


def _show_copies(
    figure: "Figure", copies: Tensor, bounds: tuple[float, float], low: float, high: float
) -> None:
    """Put pictures in a row above the curves, each over its own noise, none beyond the axis."""
    sources = [data_uri(picture, bounds) for picture in copies]
    if None in sources:
        message = (
            "report.class_frequencies: `copies` must be pictures, (m, h, w), (m, 1, h, w) or "
            f"(m, 3, h, w), got {tuple(copies.shape)}."
        )
        raise ShapeError(message)
    if high > low:
        width = (high - low) / max(len(copies) - 1, 4)
        places = np.linspace(low, high, len(copies)).tolist()
    else:  # one noise: side by side about it
        width = 0.1 * (low or 1.0)
        places = [low + width * (i - 0.5 * (len(copies) - 1)) for i in range(len(copies))]
    for place, source in zip(places, sources, strict=True):
        figure.add_layout_image(
            source=source, xref="x", yref="paper", x=place, y=1.0,
            sizex=0.9 * width, sizey=0.2, xanchor="center", yanchor="top",
        )  # fmt: skip
    ends = [min(low, places[0]) - width / 2, max(high, places[-1]) + width / 2]
    figure.update_xaxes(range=ends)
    figure.update_yaxes(domain=[0.0, 0.76])
    figure.update_layout(height=560)
