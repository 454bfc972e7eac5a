"""The section of a page about a detector of perturbed inputs."""

import torch

from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset._typing import Labels
from levelset.boundary.detect import Roc
from levelset.errors import ParameterError
from levelset.report._figures import BINS, FEW, blank
from levelset.report._render import figure_html, grid_html
from levelset.report._write import Section

__all__ = ["detection"]


@checked
def detection(roc: Roc, ranks: Labels | None = None) -> list[Section]:
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
    text = (
        f"Area under the curve {roc.area:.3f} (95 % bootstrap interval {roc.low:.3f} to "
        f"{roc.high:.3f}): the chance that a perturbed input scores above a natural one. It holds "
        "for attacks like those shown; an attacker who knows the detector can do better."
    )
    if ranks is not None and bool((ranks < 0).any()):
        message = f"report.detection: `ranks` must be 0 or more, got {int(ranks.min())}."
        raise ParameterError(message)
    if ranks is not None and not len(ranks):
        text += " No perturbed input was ranked."
    elif ranks is not None:
        counts = torch.bincount(ranks.long().cpu())
        bars = blank("Rank of the original class", "Perturbed inputs")
        bars.add_bar(x=list(range(1, len(counts) + 1)), y=counts.tolist(), marker={"color": colour})
        bars.update_xaxes(dtick=1 if len(counts) <= BINS else None)
        bars.update_yaxes(dtick=1 if int(counts.max()) <= FEW else None)
        figures.append(figure_html(bars, "Rank of the original class"))
    return [Section("Detection", text, grid_html(figures))]
