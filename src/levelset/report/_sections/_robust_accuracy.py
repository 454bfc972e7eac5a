"""The section about robust accuracy: what withstands every attack within a radius."""

from collections.abc import Sequence
from typing import Any

import torch

from levelset._display.palette import model_colours
from levelset.auditing._measure import Radius
from levelset.auditing._measures import declared
from levelset.auditing._result import Audit
from levelset.report._images import Pictures
from levelset.report._presentation import Presentation, comparison_row
from levelset.report._render import render
from levelset.report._words import inputs, norm_words, share
from levelset.report._write import Section

__all__ = ["ROBUST_ACCURACY"]

_MEANING = (
    "Inputs that are classified right and that no attack within the radius moved into another "
    "class. A cascade of attacks tries each input: steps along the gradient, climbs of several "
    "losses, walks along the boundary, and a search that needs no gradient, so that gradients that "
    "are masked do not pass for robustness. The share is an upper bound of the robust accuracy: "
    "every broken input has a witness, and none that withstood is certified."
)


def _cards(audit: Audit) -> list[dict[str, str]]:
    cards = []
    for radius in audit.radii:
        accuracy, low, high = _numbers(audit, radius)
        note = f"withstand every attack; {100.0 * low:.1f} to {share(high)} with 95\u00a0%"
        cards.append(
            {"name": f"Robust accuracy, {_words(radius)}", "value": share(accuracy), "note": note}
        )
    return cards


def _sentences(audit: Audit) -> list[str]:
    return [
        f"{share(_numbers(audit, radius)[0])} withstand every attack within {_words(radius)}."
        for radius in audit.radii
    ]


def _compared(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    rows = []
    for radius in _common(audits):
        numbers = [_numbers(audit, radius) for audit in audits]
        row = comparison_row(
            f"Robust accuracy, {_words(radius)}", [accuracy for accuracy, _, _ in numbers], share
        )
        for cell, (_, low, high) in zip(row["cells"], numbers, strict=True):
            cell["note"] = f"{100.0 * low:.1f} to {share(high)}"
        rows.append(row)
    return rows


def _sections(audits: Sequence[Audit], pictures: Pictures | None) -> list[Section]:
    del pictures
    colours = model_colours(len(audits))
    rows = [
        _row(audit, colour, radius)
        for audit, colour in zip(audits, colours, strict=True)
        for radius in audit.radii
    ]
    return [Section("Robust accuracy", _MEANING, render("robust.html.jinja", rows=rows))]


def _row(audit: Audit, colour: str, radius: Radius) -> dict[str, str]:
    accuracy, low, high = _numbers(audit, radius)
    stands = int(audit.columns[f"robust_{radius}"].sum())
    return {
        "radius": _words(radius),
        "name": audit.name,
        "colour": colour,
        "stands": f"{stands:,} of {inputs(len(audit))}",
        "share": share(accuracy),
        "interval": f"{100.0 * low:.1f} to {share(high)}",
        "broken": _broken(audit, radius),
    }


def _broken(audit: Audit, radius: Radius) -> str:
    """Return how many inputs each attack broke, in words."""
    name = f"broken_by_{radius}"
    words = declared((), [radius])[name].words
    numbers = audit.columns[name]
    counts = torch.bincount(numbers[numbers >= 0], minlength=len(words)).tolist()
    broken = [f"{word} {count:,}" for word, count in zip(words, counts, strict=True) if count]
    return ", ".join(broken) or "none"


def _numbers(audit: Audit, radius: Radius) -> tuple[float, float, float]:
    """Return the share that stands, and the ends of its interval."""
    summary, name = audit.summary(), f"robust_accuracy_{radius}"
    low, high = summary[f"{name}_low"], summary[f"{name}_high"]
    return float(summary[name]), float(low), float(high)


def _common(audits: Sequence[Audit]) -> list[Radius]:
    return [radius for radius in audits[0].radii if all(radius in a.radii for a in audits)]


def _words(radius: Radius) -> str:
    return f"{norm_words(radius.norm)} {radius.size:.3g}"


ROBUST_ACCURACY = Presentation("robust_accuracy", _cards, _sections, _sentences, _compared)
