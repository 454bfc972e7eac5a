"""The section of a page about curvature."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from levelset.auditing._curvature import SMOOTHINGS
from levelset.auditing._result import Audit
from levelset.boundary import Curvature
from levelset.boundary.detect import Roc
from levelset.errors import ParameterError
from levelset.report._figures import BINS, blank
from levelset.report._palette import model_colours
from levelset.report._render import figure_html, grid_html
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["bent", "curvature", "curvatures", "detection"]

_MEANING = (
    "Curvature of the surface on which the prediction's score exceeds the runner-up's by as much "
    "as at the input, in 1 / (units of the inputs). It is positive where the surface bends round "
    "the runner-up. The largest and the smallest are the principal curvatures at the ends, the "
    "mean is over all. What stands for the second derivative sets the size: never compare numbers "
    "of different smoothings."
)
_KINDS = {
    "exact": "the network's own second derivative",
    "softplus": "ReLU replaced by a softplus of sharpness 5",
    "gaussian": "Gaussian noise of a tenth of the inputs' range",
}


def bent(audits: Sequence[Audit]) -> bool:
    """Return whether all of the audits measured curvature."""
    return all("curvature_mean" in audit.columns for audit in audits)


def curvatures(audits: Sequence[Audit]) -> list[Section]:
    """Return the section about curvature of audits that measured it."""
    figures = []
    for column, words in (
        ("curvature_mean", "Mean curvature"),
        ("curvature_largest", "Largest curvature"),
        ("curvature_smallest", "Smallest curvature"),
    ):
        values = {audit.name: audit.columns[column] for audit in audits}
        figures.append(figure_html(_histogram(values, words), f"Histogram: {words.lower()}"))
    lines = []
    for audit in audits:
        left = int(audit.columns["curvature_mean"].isnan().sum())
        kinds = {int(k) for k in audit.columns["curvature_smoothing"].tolist()}
        told = "; ".join(_KINDS[SMOOTHINGS[k]] for k in sorted(kinds))
        away = f" {left:,} inputs lie on no level set." if left else ""
        lines.append(f"“{audit.name}”: {told}.{away}")
    return [Section("Curvature", "\n\n".join([_MEANING, *lines]), grid_html(figures))]


def curvature(results: Curvature | Mapping[str, Curvature]) -> list[Section]:
    """Return the section of a page about curvatures: the ordered profile and the means.

    Args:
        results: One result, or several by what the reader shall call them, each with all principal
            curvatures.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
        ParameterError: If there is no point.
    """
    held = {"points": results} if isinstance(results, Curvature) else dict(results)
    if not held or not any(len(result) for result in held.values()):
        message = "report.curvature: `results` must hold at least one point, got none."
        raise ParameterError(message)
    profile = blank("Place of the principal curvature", "Mean over the points")
    for (name, result), colour in zip(held.items(), model_colours(len(held)), strict=True):
        profile.add_scatter(
            y=result.principal.double().mean(0).tolist(),
            mode="lines",
            name=html.escape(name),
            line={"color": colour},
        )
    profile.update_layout(showlegend=len(held) > 1)
    means = _histogram({name: result.mean for name, result in held.items()}, "Mean curvature")
    told = sorted({str(result.smoothing or "the exact Hessian") for result in held.values()})
    text = f"Principal curvatures in descending order, and their means, by {'; '.join(told)}."
    figures = [
        figure_html(profile, "Ordered principal curvatures"),
        figure_html(means, "Histogram of mean curvatures"),
    ]
    return [Section("Curvature", text, grid_html(figures))]


def detection(roc: Roc, ranks: Tensor | None = None) -> list[Section]:
    """Return the section of a page about a detector: its curve, and ranks of original classes.

    Args:
        roc: From `Detector.evaluate`, on inputs it was not fitted on.
        ranks: From `Detection.rank`, `(n,)`, of the original classes of perturbed inputs.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
    """
    colour = model_colours(1)[0]
    curve = blank("Natural inputs flagged", "Perturbed inputs flagged")
    x, y = roc.false_alarms.tolist(), roc.hits.tolist()
    curve.add_scatter(x=x, y=y, mode="lines", line={"color": colour}, name="detector")
    curve.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot"}, name="chance")
    figures = [figure_html(curve, "Perturbed against natural inputs flagged")]
    if ranks is not None:
        counts = torch.bincount(ranks.long().cpu())
        bars = blank("Rank of the original class", "Perturbed inputs")
        bars.add_bar(x=list(range(1, len(counts) + 1)), y=counts.tolist(), marker={"color": colour})
        figures.append(figure_html(bars, "Rank of the original class"))
    text = (
        f"Area under the curve {roc.area:.3f} (95 % bootstrap interval {roc.low:.3f} to "
        f"{roc.high:.3f}): the chance that a perturbed input scores above a natural one. It holds "
        "for attacks like those shown; an attacker who knows the detector can do better."
    )
    return [Section("Detection", text, grid_html(figures))]


def _histogram(values: Mapping[str, Tensor], words: str) -> "Figure":
    figure = blank(words, "Inputs")
    for (name, column), colour in zip(values.items(), model_colours(len(values)), strict=True):
        figure.add_histogram(
            x=column[column.isfinite()].double().tolist(),
            nbinsx=BINS,
            name=html.escape(name),
            opacity=0.7,
            marker={"color": colour},
        )
    figure.update_layout(barmode="overlay", showlegend=len(values) > 1)
    return figure
