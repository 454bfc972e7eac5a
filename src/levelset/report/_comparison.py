"""Audits in one table, and trainings in one figure a number, side by side."""

import html
from collections.abc import Mapping, Sequence

import torch

from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset._tools.norms import norm_name
from levelset.auditing._result import Audit
from levelset.errors import DataError
from levelset.report._figures import FEW, blank
from levelset.report._render import figure_html, grid_html
from levelset.report._views import norms_of
from levelset.report._words import norm_words, share
from levelset.report._write import Section
from levelset.training import History

__all__ = ["comparison", "trainings"]

_NONE = "not measured"
# Robust accuracy is listed at this many radii, up to the largest median distance, in round numbers.
_RADII = 4
_STATED = ("points", "correct", "accuracy")


@checked
def comparison(audits: Sequence[Audit]) -> Section:
    """Return a table of audits, a column each: accuracy, distances, accuracy at some radii.

    The accuracy at a radius is the share of inputs classified right that have no witness within
    it: an upper bound of the robust accuracy, as every attack's. Where robust accuracy was
    measured by itself it stands below it. The audits may be of different inputs; the table says of
    how many.

    Args:
        audits: At least one.

    Raises:
        DataError: If there is none.
    """
    if not audits:
        message = "report.comparison: `audits` must hold at least one audit, got none."
        raise DataError(message)
    summaries = [audit.summary() for audit in audits]
    rows: dict[str, list[str]] = {
        "Inputs": [f"{len(audit):,}" for audit in audits],
        "Accuracy": [share(summary["accuracy"]) for summary in summaries],
    }
    for norm in norms_of(audits):
        key = f"distance_{norm_name(norm)}"
        for kind in ("median", "mean", "min"):
            words = f"Distance to the witness, {norm_words(norm)}, {kind}"
            rows[words] = [_shown(summary.get(f"{key}_{kind}")) for summary in summaries]
        medians = [summary.get(f"{key}_median") for summary in summaries]
        top = max((float(value) for value in medians if value is not None), default=0.0)
        for radius in _round_radii(top):
            words = f"Accuracy within {radius:g}, {norm_words(norm)}"
            at = torch.tensor([radius], dtype=torch.float64)
            rows[words] = [
                share(float(audit.robustness(norm, at).accuracy[0])) if norm in audit.norms
                else _NONE
                for audit in audits
            ]  # fmt: skip
    further = dict.fromkeys(key for summary in summaries for key in summary)
    for key in further:
        values = [summary.get(key) for summary in summaries]
        nothing = key.startswith("missed_") and not any(values)
        if not key.startswith("distance_") and key not in _STATED and not nothing:
            rows[key] = [_shown(value) for value in values]
    names = _distinct([audit.name for audit in audits])
    columns = zip(names, zip(*rows.values(), strict=True), strict=True)
    table = {"": list(rows), **{name: list(values) for name, values in columns}}
    text = (
        "Distances are over the inputs classified right that have a witness. Accuracy within a "
        "radius counts the inputs classified right without a witness in it: an upper bound."
    )
    return Section("Side by side", text, table)


@checked
def trainings(histories: Mapping[str, History]) -> Section:
    """Return figures of the course of some trainings, a line each.

    Args:
        histories: Of the trainings, by their names on the page.

    Raises:
        DataError: If there is none.
    """
    if not histories:
        message = "report.trainings: `histories` must hold at least one training, got none."
        raise DataError(message)
    colours = model_colours(len(histories))
    panels = {
        "loss": "Loss",
        "accuracy": "Accuracy on the batches",
        "held_out": "Accuracy on held-out inputs",
        "converged": "Share of samples that converged",
        "distance": "Median distance of a sample",
        "learning_rate": "Learning rate",
    }
    figures = []
    for name, words in panels.items():
        columns = {run: getattr(history, name) for run, history in histories.items()}
        if not any(column.isfinite().any() for column in columns.values()):
            continue
        figure = blank("Epoch", words)
        for (run, column), colour in zip(columns.items(), colours, strict=True):
            known = column.isfinite()
            figure.add_scatter(
                x=(known.nonzero().flatten() + 1).tolist(),
                y=column[known].tolist(),
                mode="lines+markers",
                name=html.escape(run),
                line={"color": colour, "width": 2},
                marker={"size": 5},
                hovertemplate="%{y:.4~g}",
            )
        longest = max(map(len, histories.values()))
        figure.update_layout(hovermode="x unified", showlegend=len(histories) > 1)
        figure.update_xaxes(dtick=1 if longest <= FEW else None)
        if name in ("accuracy", "held_out", "converged"):
            figure.update_yaxes(tickformat=".0%")
        figures.append(figure_html(figure, f"{words} by the epoch"))
    text = "Losses of different kinds are in different units: compare their course, not their size."
    return Section("Trainings", text, grid_html(figures))


def _shown(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _round_radii(top: float) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten, up to `top`, at most so many."""
    if not top > 0:
        return []
    sizes = [lead * 10.0**power for power in range(-12, 13) for lead in (1, 2, 5)]
    step = next((size for size in sizes if top / size < _RADII + 1), sizes[-1])
    return [float(f"{step * k:.6g}") for k in range(1, _RADII + 1) if step * k <= top * 1.5]


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names, those that come again with a number."""
    earlier = [list(names[:place]).count(name) for place, name in enumerate(names)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(names, earlier, strict=True)]
