"""The section about singular values: those of samples of a boundary beside those of noise."""

from typing import TYPE_CHECKING

from levelset._display.palette import MODEL_COLOURS, translucent
from levelset._tools.arguments import checked
from levelset.boundary import Spectrum
from levelset.report._figures import blank
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["spectrum"]

_READ = (
    "The band is where singular values of noise of that size lie. What is below it is a direction "
    "that the samples lack: one, its normal, where the boundary is flat, and one more for each "
    "further facet that meets there. What is above it is a direction that they have too much of."
)


@checked
def spectrum(result: Spectrum, *, name: str = "an input", text: str = "") -> Section:
    """Return a section with the singular values in their order, and the band of those of noise.

    Args:
        result: From [`dimension`][levelset.boundary.dimension] or
            [`shared_directions`][levelset.boundary.shared_directions].
        name: What the samples lie near.
        text: What they are.

    Raises:
        MissingExtraError: If plotly is not installed.
    """
    words = (
        f"Of {len(result.values):,} singular values {result.degenerate:,} "
        f"{'lies' if result.degenerate == 1 else 'lie'} below the band of noise, and "
        f"{result.dominant:,} above."
    )
    paragraphs = [part for part in (text, words, _READ) if part]
    return Section(f"Singular values near {name}", "\n\n".join(paragraphs), _drawn(result))


def _drawn(result: Spectrum) -> "Figure":
    figure = blank("Place", "Singular value")
    values = result.values.double().cpu()
    places = list(range(1, len(values) + 1))
    colour = MODEL_COLOURS[0]
    ends = [1, max(len(values), 1)]
    high = min(result.high, 2.0 * float(values.max()) if len(values) else 1.0)
    figure.add_scatter(
        x=[*ends, *ends[::-1]], y=[result.low, result.low, high, high], fill="toself",
        mode="none", hoverinfo="skip", fillcolor=translucent(colour, 0.15), name="noise",
    )  # fmt: skip
    figure.add_scatter(
        x=places, y=values.tolist(), mode="lines", name="samples",
        line={"color": colour, "width": 2}, hovertemplate="%{x}: %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    outside = ((values > result.high) | (values < result.low)).nonzero().flatten().tolist()
    figure.add_scatter(
        x=[places[i] for i in outside], y=[float(values[i]) for i in outside], mode="markers",
        name="outside of it", marker={"color": colour, "size": 8},
        hovertemplate="%{x}: %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(height=380, showlegend=True)
    figure.update_yaxes(rangemode="tozero")
    return figure
