"""The sections of a page about one audit, or about several side by side."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset._tools.norms import norm_name
from levelset.auditing._measure import Column
from levelset.auditing._measures import declared
from levelset.auditing._result import Audit
from levelset.errors import DataError, ParameterError
from levelset.report._images import Pictures, encode, pack
from levelset.report._presentation import comparison_row
from levelset.report._render import as_json, render
from levelset.report._sections import SECTIONS
from levelset.report._views import choices
from levelset.report._words import inputs, share, signed
from levelset.report._write import Section

__all__ = ["audit"]


@checked
def audit(audits: Audit | Sequence[Audit]) -> list[Section]:
    """Return the sections of a page that shows one audit, or several side by side.

    The page holds the headline numbers, the robustness curves with their bands, histograms of the
    distances, noise and curvature where they were measured, distance against margin, which class
    borders which, the closest inputs beside their witnesses, and every row in a table to search,
    sort and download. The pictures of all rows are packed while they stay moderate in size (about
    2,500 inputs of 28 x 28 in two norms), closest first; the page says so where some are left out.
    Inputs that are no pictures are shown without.

    Cost: memory for the sheets of pictures, about 6 MB; a row takes about 40 bytes of the page
    a model and norm.

    Args:
        audits: One audit, or several of the same inputs, which are compared with the first.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        DataError: If an audit is empty, or audits are of different inputs or classes.
        MissingExtraError: If jinja2 or plotly is not installed.
        ParameterError: If there is no audit.

    Example:
        >>> import torch
        >>> from levelset import report
        >>> from levelset.auditing import Audit
        >>> columns = {
        ...     "index": torch.arange(2),
        ...     "label": torch.tensor([0, 1]),
        ...     "prediction": torch.tensor([0, 1]),
        ...     "correct": torch.tensor([True, True]),
        ...     "margin": torch.tensor([1.0, 2.0]),
        ...     "distance_2": torch.tensor([0.1, 0.2]),
        ...     "nearest_class_2": torch.tensor([1, 0]),
        ... }
        >>> points = torch.zeros(2, 3)
        >>> result = Audit(points, columns, {2.0: points + 0.1}, (2.0,), ("cat", "dog"))
        >>> [section.title for section in report.audit(result)][:3]
        ['At a glance', 'Robustness', 'Distances']
    """
    all_audits = [audits] if isinstance(audits, Audit) else list(audits)
    _check(all_audits)
    pictures = pack(all_audits)
    measured = [one for one in SECTIONS if one.by(all_audits)]
    return [
        _glance(all_audits),
        *(section for one in measured for section in one.sections(all_audits, pictures)),
        _rows(all_audits, pictures),
        *(section for one in measured for section in one.explained(all_audits)),
    ]


def _check(audits: Sequence[Audit]) -> None:
    if not audits:
        message = "report.audit: `audits` must hold at least one audit, got none."
        raise ParameterError(message)
    first = audits[0]
    for place, other in enumerate(audits):
        if not len(other):
            message = (
                "report.audit: `audits` must hold at least one input each, "
                f"got none in audits[{place}]. Audit at least one input."
            )
            raise DataError(message)
        if other.points.shape != first.points.shape or not all(
            torch.equal(other.columns[key].cpu(), first.columns[key].cpu())
            for key in ("index", "label")
        ):
            message = (
                "report.audit: `audits` must be of the same inputs, got others in "
                f"audits[{place}] ({other.name!r}) than in audits[0] ({first.name!r}). "
                "Audit both models on one data set with one `limit`, or write a page for each."
            )
            raise DataError(message)
        if other.classes != first.classes:
            message = (
                "report.audit: `audits` must have the same classes in the same order, got "
                f"{len(other.classes)} others in audits[{place}] ({other.name!r}). "
                "Give both models the same `classes`."
            )
            raise DataError(message)


def _glance(audits: Sequence[Audit]) -> Section:
    groups = [
        {"name": audit.name, "colour": colour, "cards": _cards(audit)}
        for audit, colour in zip(audits, model_colours(len(audits)), strict=True)
    ]
    several, measured = len(audits) > 1, [one for one in SECTIONS if one.by(audits)]
    accuracy = [audit.summary()["accuracy"] for audit in audits]
    compared = [comparison_row("Accuracy", accuracy, share)]
    compared += [row for one in measured for row in one.rows(audits)]
    rows = compared if several else []
    content = render("glance.html.jinja", groups=groups, rows=rows, several=several)
    sentences = [_difference(audit, audits) for audit in audits[1:]] or [_sentence(audits[0])]
    return Section("At a glance", "\n\n".join(sentences), content)


def _cards(audit: Audit) -> list[dict[str, str]]:
    """Return the headline numbers of one audit: name, value, what it means."""
    summary = audit.summary()
    note = f"{summary['correct']:,} of {inputs(len(audit))} classified right"
    accuracy = {"name": "Accuracy", "value": share(summary["accuracy"]), "note": note}
    return [accuracy, *(card for one in SECTIONS if one.by([audit]) for card in one.cards(audit))]


def _sentence(audit: Audit) -> str:
    """Return the result of one audit in a sentence."""
    summary = audit.summary()
    words = (
        f"“{audit.name}”: {summary['correct']:,} of {inputs(len(audit))} "
        f"{'is' if summary['correct'] == 1 else 'are'} classified right "
        f"({share(summary['accuracy'])})."
    )
    measured = [one for one in SECTIONS if one.by([audit])]
    return " ".join([words, *(text for one in measured for text in one.sentences(audit))])


def _difference(audit: Audit, audits: Sequence[Audit]) -> str:
    """Return a sentence with numbers on how an audit differs from the first."""
    first = audits[0]
    a, b = first.summary()["accuracy"], audit.summary()["accuracy"]
    words = (
        f"“{audit.name}” against “{first.name}”: {share(b)} of the inputs are classified right "
        f"against {share(a)} ({signed(100.0 * (b - a))} points)."
    )
    measured = [one for one in SECTIONS if one.by(audits)]
    further = (text for one in measured for text in one.differences(first, audit, audits))
    return " ".join([words, *further])


def _rows(audits: Sequence[Audit], pictures: Pictures | None) -> Section:
    norms = audits[0].norms
    example = f"distance_{norm_name(norms[0])}" if norms else "margin"
    text = (
        "Every input, a row each. Search by class names, by index, or by column: correct:no, "
        f"{example} < 0.5. Click a heading to sort."
    )
    if pictures is None:
        text += " The inputs are no pictures of one or three channels, so none are shown."
    elif len(pictures.rows) < len(audits[0]):
        first = "those closest to another class" if norms else "the"
        text += (
            f" To keep this file small it holds the pictures of {len(pictures.rows):,} of the "
            f"{len(audits[0]):,} inputs, {first} first."
        )
    if pictures is not None and pictures.shrunk:
        text += " Pictures are shown smaller than the inputs are."
    book: dict[str, Any] = {
        "classes": list(audits[0].classes),
        "audits": [_book(audit) for audit in audits],
        "pictures": None if pictures is None else pictures.content,
    }
    meanings = {
        column["name"]: column["about"]
        for audit in book["audits"]
        for column in audit["columns"]
        if "about" in column
    }
    word = _search_word(audits[0].classes[int(audits[0].columns["label"][0])])
    content = render(
        "rows.html.jinja", book=as_json(book), choices=choices(audits, "rows"), word=word,
        meanings=meanings.items(),
        number=example, example=f"label:{word} or {example} < 0.5",
    )  # fmt: skip
    return Section("All inputs", text, content)


def _search_word(name: str) -> str:
    """Return a class name as the search takes it: in quotation marks unless it is one word."""
    if re.fullmatch(r"\w[\w/.+-]*", name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _book(audit: Audit) -> dict[str, Any]:
    known = declared(audit.norms, audit.radii)
    return {
        "name": audit.name,
        "norms": [norm_name(norm) for norm in audit.norms],
        "columns": [
            {**_heading(known.get(name)), "name": name, **encode(values)}
            for name, values in audit.columns.items()
            if values.dim() == 1 and (name not in known or known[name].kind != "word")
        ],
    }


def _heading(column: Column | None) -> dict[str, Any]:
    """Return kind, meaning and norm of a column; nothing of one that is not declared."""
    if column is None:
        return {}
    about = f"{column.meaning} ({column.unit})" if column.unit else column.meaning
    norm = {} if column.norm is None else {"norm": norm_name(column.norm)}
    return {"kind": column.kind, "about": about, "minor": column.minor, **norm}
