"""The sections about distances: curves, histograms, borders, the closest inputs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from levelset._display.figures import closest, distances
from levelset._tools.medians import median
from levelset._tools.norms import norm_name
from levelset.auditing._result import Audit
from levelset.report import _figures
from levelset.report._images import Pictures
from levelset.report._presentation import Presentation, comparison_row
from levelset.report._render import Html, figure_html, grid_html, render
from levelset.report._views import norms_of, views
from levelset.report._words import inputs, norm_words, share, signed
from levelset.report._write import Section

__all__ = ["DISTANCE"]

GALLERY = 24
"""Inputs in the gallery of each model and norm."""


def _cards(audit: Audit) -> list[dict[str, str]]:
    summary, cards = audit.summary(), []
    for norm in audit.norms:
        middle = summary.get(f"distance_{norm_name(norm)}_median")
        if middle is None:
            value, note = "none", "no input classified right has a witness"
        else:
            tenth = _quantile(audit, norm, 0.1)
            value = f"{middle:.3g}"
            note = f"one in ten changes class within {tenth:.3g}"
        cards.append({"name": f"Median distance, {norm_words(norm)}", "value": value, "note": note})
    return cards


def _sentences(audit: Audit) -> list[str]:
    summary, words = audit.summary(), []
    for norm in audit.norms:
        middle = summary.get(f"distance_{norm_name(norm)}_median")
        if middle is not None:
            words.append(
                f"In {norm_words(norm)} a tenth of those have another class within "
                f"{_quantile(audit, norm, 0.1):.3g}, half within {middle:.3g}, nine tenths within "
                f"{_quantile(audit, norm, 0.9):.3g}."
            )
    return words


def _compared(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    summaries = [audit.summary() for audit in audits]
    rows = []
    for norm in _common(audits):
        words = norm_words(norm)
        for kind in ("median", "min"):
            key = f"distance_{norm_name(norm)}_{kind}"
            name = f"{'Median' if kind == 'median' else 'Smallest'} distance, {words}"
            rows.append(comparison_row(name, [s.get(key) for s in summaries], "{:.3g}".format))
        for radius in _radii(audits, norm):
            rows.append(_robust_row(audits, norm, radius))
    return rows


def _differences(first: Audit, other: Audit, audits: Sequence[Audit]) -> list[str]:
    return [
        words
        for norm in _common(audits)
        for words in _norm_difference(first, other, norm, _radii(audits, norm)[1])
    ]


def _norm_difference(first: Audit, other: Audit, norm: float, radius: float) -> list[str]:
    key = f"distance_{norm_name(norm)}_median"
    a, b = first.summary().get(key), other.summary().get(key)
    if a is None or b is None:
        return []
    times = f", {b / a:.2f} times" if a > 0 else ""
    at = torch.tensor([radius], dtype=torch.float64)
    robust = [float(audit.robustness(norm, at).accuracy[0]) for audit in (other, first)]
    return [
        f"Its median {norm_words(norm)} distance is {b:.3g} against {a:.3g}{times}; at radius "
        f"{radius:g} it keeps {share(robust[0])} right against {share(robust[1])} "
        f"({signed(100.0 * (robust[0] - robust[1]))} points)."
    ]


def _robust_row(audits: Sequence[Audit], norm: float, radius: float) -> dict[str, Any]:
    at = torch.tensor([radius], dtype=torch.float64)
    curves = [audit.robustness(norm, at) for audit in audits]
    row = comparison_row(
        f"Accuracy at {norm_words(norm)} radius {radius:g}",
        [float(curve.accuracy[0]) for curve in curves],
        share,
    )
    for cell, curve in zip(row["cells"], curves, strict=True):
        cell["note"] = f"{100.0 * float(curve.low[0]):.1f} to {share(float(curve.high[0]))}"
    return row


def _radii(audits: Sequence[Audit], norm: float) -> list[float]:
    """Return half, once and twice the median distance over all audits, rounded to one digit."""
    pooled = torch.cat([distances(audit, norm) for audit in audits])
    middle = median(pooled) if len(pooled) else 1.0
    return [float(f"{factor * (middle or 1.0):.1g}") for factor in (0.5, 1.0, 2.0)]


def _common(audits: Sequence[Audit]) -> list[float]:
    return [norm for norm in audits[0].norms if all(norm in audit.norms for audit in audits)]


def _quantile(audit: Audit, norm: float, level: float) -> float:
    return float(distances(audit, norm).quantile(level))


def _sections(audits: Sequence[Audit], pictures: Pictures | None) -> list[Section]:
    return [
        _robustness(audits),
        _distances(audits),
        _scatter(audits),
        _borders(audits),
        _closest(audits, pictures),
    ]


def _outside(audit: Audit) -> str:
    """Return how many inputs the figures of distances show, and why not the others."""
    summary = audit.summary()
    wrong = len(audit) - int(summary["correct"])
    words = [
        f"“{audit.name}”: {wrong:,} of {inputs(len(audit))} "
        f"{'is' if wrong == 1 else 'are'} classified wrong: distance 0, not drawn."
    ]
    for norm in audit.norms:
        missed = int(summary[f"missed_{norm_name(norm)}"])
        left = f", {missed:,} without a witness" if missed else ""
        words.append(f"{norm_words(norm)}: {int(summary['correct']) - missed:,} drawn{left}.")
    return " ".join(words)


def _robustness(audits: Sequence[Audit]) -> Section:
    words = "Accuracy against the size of the perturbation"
    text = (
        "Share of the inputs that are classified right and for which no input of another class was "
        "found within the radius. It is an upper bound of the robust accuracy: a better search can "
        "only lower it. Bands are exact 95 % intervals (Clopper-Pearson) for each radius by "
        "itself: they say how far the share may lie from that of all inputs of this kind."
    )
    return Section("Robustness", text, _each_norm(audits, _figures.robustness, words))


def _distances(audits: Sequence[Audit]) -> Section:
    text = "How far the inputs that are classified right lie from the nearest witness."
    counted = [_outside(audit) for audit in audits]
    figures = _each_norm(audits, _figures.distances, "Histogram of the distances")
    return Section("Distances", "\n\n".join([text, *counted]), figures)


def _each_norm(
    audits: Sequence[Audit], draw: Callable[[Sequence[Audit], float], Any], words: str
) -> Html:
    """Return a figure of each norm beside one another."""
    return grid_html([
        figure_html(draw(audits, norm), f"{words} in {norm_words(norm)}")
        for norm in norms_of(audits)
    ])  # fmt: skip


def _scatter(audits: Sequence[Audit]) -> Section:
    text = (
        "Each dot is an input. The margin is the score of the label less the best other score: "
        "above 0 where the input is classified right. Open dots are classified wrong. Point at a "
        "dot to see the input; click to keep it."
    )
    content = views(
        "margin",
        audits,
        lambda audit, norm: figure_html(
            _figures.scatter(audit, norm),
            f"Distance in {norm_words(norm)} against margin, {audit.name}",
        ),
        inspector=True,
    )
    return Section("Margin and distance", text, content)


def _borders(audits: Sequence[Audit]) -> Section:
    count = len(audits[0].classes)
    text = (
        "How many inputs of each predicted class (row) have their nearest witness in each other "
        "class (column); inputs classified wrong are left out. Click a cell to list its inputs."
    )
    if count > _figures.MATRIX_CLASSES:
        text += (
            f" Of the {count:,} classes the {_figures.MATRIX_CLASSES} with most borders are shown."
        )
    content = views(
        "borders",
        audits,
        lambda audit, norm: figure_html(
            _figures.borders(audit, norm),
            f"Which class borders which in {norm_words(norm)}, {audit.name}",
        ),
    )
    return Section("Borders", text, content)


def _closest(audits: Sequence[Audit], pictures: Pictures | None) -> Section:
    text = "The inputs classified right that lie closest to another class, closest first."
    if pictures is not None:
        text += (
            " Beside each: its witness, and the difference of the two, blue where the witness is "
            "darker (lower) and red where it is brighter (higher). Each difference has its own "
            "scale, written below it."
        )
    content = views("closest", audits, lambda audit, norm: _gallery(audits, audit, norm, pictures))
    return Section("Closest inputs", text, content)


def _gallery(audits: Sequence[Audit], audit: Audit, norm: float, pictures: Pictures | None) -> Html:
    distance = audit.distance(norm)
    pictured = set() if pictures is None else set(pictures.rows.tolist())
    cells = [
        {
            "row": row,
            "index": int(audit.columns["index"][row]),
            "label": audit.classes[int(audit.columns["label"][row])],
            "nearest": audit.classes[int(audit.nearest_class(norm)[row])],
            "distance": f"{float(distance[row]):.3g}",
            "pictured": row in pictured,
        }
        for row in closest(audit, norm, GALLERY)
    ]
    place = audits.index(audit)
    words = norm_words(norm)
    return render("gallery.html.jinja", cells=cells, audit=place, norm=norm_name(norm), words=words)


def _reading(audits: Sequence[Audit]) -> list[Section]:
    unconverged = [
        f"{audit.name}, {norm_words(norm)}: {int((~mask.bool()).sum()):,}"
        for audit in audits
        for norm in audit.norms
        if (mask := audit.columns.get(f"converged_{norm_name(norm)}")) is not None
    ]
    low, high = audits[0].bounds
    content = render("reading.html.jinja", unconverged=unconverged, low=low, high=high)
    return [Section("How to read this page", "", content)]


DISTANCE = Presentation(
    "distance", _cards, _sections, _sentences, _compared, _differences, explained=_reading
)
