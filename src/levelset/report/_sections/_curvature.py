"""The section about curvature: ordered profile, means and ends."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from levelset._display.figures import bin_edges
from levelset._display.palette import model_colours
from levelset._display.profiles import UNIT, Shown, broken, end_places, mean_profile, places
from levelset._tools.arguments import checked
from levelset.auditing._result import Audit
from levelset.boundary import Curvature
from levelset.errors import ParameterError
from levelset.report._figures import BINS, blank, histogram
from levelset.report._images import Pictures
from levelset.report._presentation import Presentation
from levelset.report._render import Html, figure_html, grid_html
from levelset.report._words import rounded
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["CURVATURE", "curvature"]

_MEANING = (
    "Curvature of the surface on which the prediction's score exceeds the runner-up's by as much "
    "as at the input, in 1 / unit of the inputs. It is positive where the surface bends round "
    "the runner-up. The ordered profile shows the principal curvatures in descending order, each "
    "place averaged over the inputs; the histograms show each input's mean over all places, its "
    "largest and its smallest. What stands for the second derivative sets the size: never compare "
    "numbers of different smoothings."
)


def _cards(audit: Audit) -> list[dict[str, str]]:
    summary = audit.summary()
    value, note = "none", "measured at no input"
    if summary["curvature_found"]:
        value, largest, smallest = (
            rounded(summary[f"curvature_{name}_median"]) for name in ("mean", "largest", "smallest")
        )
        note = (
            f"1 / unit of the inputs, by {_smoothing(audit)}; median of the largest {largest}, of "
            f"the smallest {smallest}"
        )
    return [{"name": "Median mean curvature", "value": value, "note": note}]


def _smoothing(audit: Audit) -> str:
    """Return the smoothing of the second derivative, in words."""
    used = audit.settings.get("smoothing")
    return "the network's own second derivative" if used is None else used.words


def _sections(audits: Sequence[Audit], pictures: Pictures | None) -> list[Section]:
    """Audits of one smoothing share their figures, those of another have their own."""
    del pictures
    lines = [_MEANING]
    if audits[0].points[0].numel() < 2:
        lines.append("The inputs are single numbers: their level sets are points, and do not bend.")
        return [Section("Curvature", "\n\n".join(lines))]
    groups: dict[str, list[tuple[str, str, dict[str, Tensor]]]] = {}
    for audit, colour in zip(audits, model_colours(len(audits)), strict=True):
        how = _smoothing(audit)
        lines.append(f"“{audit.name}”: by {how}.{_missing(audit)}")
        groups.setdefault(how, []).append((audit.name, colour, audit.columns))
    most = audits[0].points[0].numel() - 1
    below = "<br>by {}" if len(groups) > 1 else ""
    figures = [
        figure
        for how, group in groups.items()
        for figure in _figures(group, how, most, below.format(how))
    ]
    q = audits[0].columns["curvature_principal"].shape[1]
    if figures and q < most:
        lines.append(
            f"Of the {most:,} principal curvatures of each input the {q // 2} largest and the "
            f"{q // 2} smallest were measured; the profile leaves out those between."
        )
    return [Section("Curvature", "\n\n".join(lines), grid_html(figures) if figures else None)]


def _missing(audit: Audit) -> str:
    """Return how many inputs have no number, in words."""
    left = int((~audit.columns["curvature_mean"].isfinite()).sum())
    if not left:
        return ""
    what = "1 input has" if left == 1 else f"{left:,} inputs have"
    return (
        f" {what} no curvature: no level set passes (the two scores have the same gradient), or "
        "there is no second derivative but zero."
    )


def _figures(
    group: Sequence[tuple[str, str, dict[str, Tensor]]], how: str, most: int, below: str
) -> list[Html]:
    """Return profile and histograms of rows of one smoothing, if any, with words below the axes."""
    known = [part for part in group if bool(part[2]["curvature_mean"].isfinite().any())]
    if not known:
        return []
    at = [end_places(part[2]["curvature_principal"].shape[1], most) for part in known]
    lines = [
        (name, colour, mean_profile(columns["curvature_principal"], place))
        for (name, colour, columns), place in zip(known, at, strict=True)
    ]
    profile = _profile(lines, at, below)
    figures = [figure_html(profile, f"Ordered profile of the curvatures, by {how}")]
    for kind in ("mean", "largest", "smallest"):
        series = [(name, colour, columns[f"curvature_{kind}"]) for name, colour, columns in known]
        words = f"{kind.capitalize()} curvature"
        figures.append(
            figure_html(_histogram(words, series, below), f"{words}: histogram, by {how}")
        )
    return figures


@checked
def curvature(
    results: Curvature | Mapping[str, Curvature], *, ends: Shown = "all"
) -> list[Section]:
    """Return the section of a page about curvatures: the ordered profile and the means.

    Args:
        results: One result, or several by their names on the page.
        ends: Which principal curvatures they hold, as they were measured: `all`, the `top`, the
            `bottom`, or `both` ends, which the profile parts by a gap.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
        ParameterError: If there is no point, or a result holds other curvatures than `ends` says.
    """
    by_name = {"points": results} if isinstance(results, Curvature) else dict(results)
    if not by_name or not any(len(result) for result in by_name.values()):
        message = "report.curvature: `results` must hold at least one point, got none."
        raise ParameterError(message)
    at = [places("report.curvature", result, ends) for result in by_name.values()]
    colours = model_colours(len(by_name))
    smoothings = sorted(
        {str(result.smoothing or "the exact Hessian") for result in by_name.values()}
    )
    text = [
        f"Principal curvatures in descending order, and their means, by {'; '.join(smoothings)}."
    ]
    figures = []
    if any(bool(result.principal.isfinite().all(1).any()) for result in by_name.values()):
        lines = [
            (name, colour, mean_profile(result.principal, place))
            for (name, result), colour, place in zip(by_name.items(), colours, at, strict=True)
        ]
        figures.append(figure_html(_profile(lines, at), "Ordered profile of the curvatures"))
    else:
        text.append("No point has principal curvatures to show.")
    means = [
        (name, colour, by_name[name].mean) for name, colour in zip(by_name, colours, strict=True)
    ]
    if any(bool(mean.isfinite().any()) for _, _, mean in means):
        histogram = _histogram("Mean curvature", means)
        figures.append(figure_html(histogram, "Histogram of mean curvatures"))
    else:
        text.append("No point has a mean curvature to show.")
    return [Section("Curvature", "\n\n".join(text), grid_html(figures) if figures else None)]


def _profile(
    lines: Sequence[tuple[str, str, list[float]]],
    at: Sequence[Sequence[int | None]],
    below: str = "",
) -> "Figure":
    """Draw mean curvatures by their places, an axis without the gap where all have the same."""
    figure = blank(f"Place of the principal curvature{below}", f"Mean over the inputs ({UNIT})")
    ticks = broken(at)
    for (name, colour, values), place in zip(lines, at, strict=True):
        figure.add_scatter(
            x=list(range(len(place))) if ticks else list(place),
            y=[None if value != value else value for value in values],
            text=[f"place {p:,}" if p else "" for p in place],
            mode="lines" if len(place) > BINS else "lines+markers",
            connectgaps=False,
            name=html.escape(name),
            line={"color": colour},
            hovertemplate="%{text}: %{y:.3~g}",
        )
    figure.update_layout(showlegend=len(lines) > 1)
    if ticks:
        figure.update_xaxes(tickvals=ticks[0], ticktext=ticks[1])
    return figure


def _histogram(words: str, series: Sequence[tuple[str, str, Tensor]], below: str = "") -> "Figure":
    edges = bin_edges([column for _, _, column in series], BINS)
    return histogram(f"{words} ({UNIT}){below}", series, edges)


CURVATURE = Presentation("curvature", _cards, _sections)
