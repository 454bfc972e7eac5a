"""What an audit found, in words and numbers: cards, sentences, the table that compares."""

from collections.abc import Sequence
from typing import Any

import torch

from levelset._display.figures import distances
from levelset._tools.medians import median
from levelset._tools.norms import norm_name
from levelset.auditing._result import Audit
from levelset.report._figures import norm_words

__all__ = [
    "cards",
    "comparison",
    "differences",
    "norms_of",
    "outside",
    "sentence",
    "share",
    "smoothings",
]

SMOOTHING_WORDS = (
    "the network's own second derivative",
    "a softplus of sharpness {} for each ReLU",
    "Gaussian noise of standard deviation {}",
    "central differences with step {}",
    "forward differences with step {}",
)
"""What stood for the second derivative, by the number in the column `curvature_smoothing`."""


def share(value: float) -> str:
    """Return a share in percent, such as `98.2 %`, that no line break parts."""
    return f"{100.0 * value:.1f}\u00a0%"


def norms_of(audits: Sequence[Audit]) -> list[float]:
    """Return every norm of any of the audits, in their order, once."""
    return list(dict.fromkeys(norm for audit in audits for norm in audit.norms))


def cards(audit: Audit) -> list[dict[str, str]]:
    """Return the headline numbers of one audit: name, value, what it means."""
    found = audit.summary()
    held = [
        {
            "name": "Accuracy",
            "value": share(found["accuracy"]),
            "note": f"{found['correct']:,} of {_inputs(len(audit))} classified right",
        }
    ]
    for norm in audit.norms:
        middle = found.get(f"distance_{norm_name(norm)}_median")
        if middle is None:
            value, note = "none", "no input classified right has a witness"
        else:
            tenth = _quantile(audit, norm, 0.1)
            value = f"{middle:.3g}"
            note = f"one in ten changes class within {tenth:.3g}"
        held.append({"name": f"Median distance, {norm_words(norm)}", "value": value, "note": note})
    if "sigma_star" in audit.columns:
        held.append(_noise_card(audit))
    if "curvature_mean" in audit.columns:
        held.append(_curvature_card(audit))
    return held


def _noise_card(audit: Audit) -> dict[str, str]:
    found = audit.summary()
    always = int(audit.columns["sigma_star"].isinf().sum())
    certified = found.get("certified_radius_median")
    note = "noise at which 70\u00a0% of the copies keep the prediction"
    if always:
        note += f", without the {always:,} that keep it under any noise tried"
    if certified is not None:
        note += (
            f"; under Gaussian noise of about that size the smoothed classifier's certified L₂ "
            f"radius is {certified:.3g} (95\u00a0% confidence)"
        )
    return {
        "name": "Median persistence",
        "value": f"{found['sigma_star_median']:.3g}" if "sigma_star_median" in found else "none",
        "note": note,
    }


def _curvature_card(audit: Audit) -> dict[str, str]:
    found = audit.summary()
    value, note = "none", "measured at no input"
    if found["curvature_found"]:
        value, largest, smallest = (
            f"{found[f'curvature_{name}_median']:.3g}".replace("-", "\u2212")
            for name in ("mean", "largest", "smallest")
        )
        note = (
            f"1 / unit of the inputs, by {'; '.join(smoothings(audit))}; median of the largest "
            f"{largest}, of the smallest {smallest}"
        )
    return {"name": "Median mean curvature", "value": value, "note": note}


def smoothings(audit: Audit) -> dict[str, torch.Tensor]:
    """Return what stood for the second derivative in an audit of curvature, and in which rows."""
    kinds, scales = (audit.columns[f"curvature_{name}"] for name in ("smoothing", "scale"))
    found = {}
    for kind, scale in sorted(set(zip(kinds.tolist(), scales.tolist(), strict=True))):
        rows = (kinds == kind) & (scales == scale)
        found[SMOOTHING_WORDS[kind].format(f"{scale:.3g}")] = rows
    return found


def sentence(audit: Audit) -> str:
    """Return the result of one audit as a reader would tell it."""
    found = audit.summary()
    words = [
        f"“{audit.name}”: {found['correct']:,} of {_inputs(len(audit))} "
        f"{'is' if found['correct'] == 1 else 'are'} classified right "
        f"({share(found['accuracy'])})."
    ]
    for norm in audit.norms:
        middle = found.get(f"distance_{norm_name(norm)}_median")
        if middle is not None:
            words.append(
                f"In {norm_words(norm)} a tenth of those have another class within "
                f"{_quantile(audit, norm, 0.1):.3g}, half within {middle:.3g}, nine tenths within "
                f"{_quantile(audit, norm, 0.9):.3g}."
            )
    return " ".join(words)


def outside(audit: Audit) -> str:
    """Return how many inputs the figures of distances show, and what became of the others."""
    found = audit.summary()
    wrong = len(audit) - int(found["correct"])
    words = [
        f"“{audit.name}”: {wrong:,} of {_inputs(len(audit))} "
        f"{'is' if wrong == 1 else 'are'} classified wrong: distance 0, not drawn."
    ]
    for norm in audit.norms:
        missed = int(found[f"missed_{norm_name(norm)}"])
        left = f", {missed:,} without a witness" if missed else ""
        words.append(f"{norm_words(norm)}: {int(found['correct']) - missed:,} drawn{left}.")
    return " ".join(words)


def comparison(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    """Return the rows of the table that compares audits: name, and per audit value and `best`."""
    summaries = [audit.summary() for audit in audits]
    rows = [_row("Accuracy", [s["accuracy"] for s in summaries], share)]
    for norm in _common(audits):
        words = norm_words(norm)
        for kind in ("median", "min"):
            key = f"distance_{norm_name(norm)}_{kind}"
            name = f"{'Median' if kind == 'median' else 'Smallest'} distance, {words}"
            rows.append(_row(name, [s.get(key) for s in summaries], "{:.3g}".format))
        for radius in _radii(audits, norm):
            rows.append(_robust_row(audits, norm, radius))
    return rows


def differences(audits: Sequence[Audit]) -> list[str]:
    """Return how each further audit differs from the first, in words with numbers."""
    first, told = audits[0], []
    for audit in audits[1:]:
        a, b = first.summary(), audit.summary()
        points = 100.0 * (b["accuracy"] - a["accuracy"])
        words = [
            f"“{audit.name}” against “{first.name}”: {share(b['accuracy'])} of the inputs are "
            f"classified right against {share(a['accuracy'])} ({_signed(points)} points)."
        ]
        for norm in _common(audits):
            words.extend(_norm_difference(first, audit, norm, _radii(audits, norm)[1]))
        told.append(" ".join(words))
    return told


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
        f"({_signed(100.0 * (robust[0] - robust[1]))} points)."
    ]


def _robust_row(audits: Sequence[Audit], norm: float, radius: float) -> dict[str, Any]:
    at = torch.tensor([radius], dtype=torch.float64)
    curves = [audit.robustness(norm, at) for audit in audits]
    row = _row(
        f"Accuracy at {norm_words(norm)} radius {radius:g}",
        [float(curve.accuracy[0]) for curve in curves],
        share,
    )
    for cell, curve in zip(row["cells"], curves, strict=True):
        cell["note"] = f"{100.0 * float(curve.low[0]):.1f} to {share(float(curve.high[0]))}"
    return row


def _row(name: str, values: Sequence[float | None], form: Any) -> dict[str, Any]:
    """Return one row; the largest value is the best, unless all are equal as they are shown."""
    shown = ["none" if value is None else form(value) for value in values]
    best = max((value for value in values if value is not None), default=None)
    apart = len(set(shown)) > 1
    cells = [{"value": text, "note": "", "best": apart and text == form(best)} for text in shown]
    return {"name": name, "cells": cells}


def _radii(audits: Sequence[Audit], norm: float) -> list[float]:
    """Return half, once and twice the median distance over all audits, rounded to one digit."""
    pooled = torch.cat([distances(audit, norm) for audit in audits])
    middle = median(pooled) if len(pooled) else 1.0
    return [float(f"{factor * (middle or 1.0):.1g}") for factor in (0.5, 1.0, 2.0)]


def _common(audits: Sequence[Audit]) -> list[float]:
    return [norm for norm in audits[0].norms if all(norm in audit.norms for audit in audits)]


def _quantile(audit: Audit, norm: float, level: float) -> float:
    return float(distances(audit, norm).quantile(level))


def _inputs(count: int) -> str:
    return f"{count:,} input" if count == 1 else f"{count:,} inputs"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\u2212")
