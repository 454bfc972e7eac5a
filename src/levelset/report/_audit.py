"""The sections of a page about one audit, or about several side by side."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from levelset._display.figures import closest
from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset._tools.norms import norm_name
from levelset.auditing._result import Audit
from levelset.errors import DataError, ParameterError
from levelset.report import _figures, _words
from levelset.report._curvature import bent, curvatures
from levelset.report._images import Pictures, encode, pack
from levelset.report._noise import measured, noise
from levelset.report._render import Html, as_json, figure_html, grid_html, render
from levelset.report._write import Section

__all__ = ["audit"]

GALLERY = 24
"""Inputs in the gallery of each model and norm."""


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
        audits: One audit, or several of the same inputs; differences are told against the first.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        DataError: If an audit is empty, or audits are of different inputs or classes.
        MissingExtraError: If jinja2 or plotly is not installed.
        ParameterError: If no audit is given.

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
    held = [audits] if isinstance(audits, Audit) else list(audits)
    _check(held)
    about_noise = noise(held) if measured(held) else []
    about_noise += curvatures(held) if bent(held) else []
    pictures = pack(held)
    if not all(audit.norms for audit in held):
        return [_glance(held), *about_noise, _rows(held, pictures)]
    return [
        _glance(held),
        _robustness(held),
        _distances(held),
        *about_noise,
        _scatter(held),
        _borders(held),
        _closest(held, pictures),
        _rows(held, pictures),
        _reading(held),
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
        {"name": audit.name, "colour": colour, "cards": _words.cards(audit)}
        for audit, colour in zip(audits, model_colours(len(audits)), strict=True)
    ]
    several = len(audits) > 1
    rows = _words.comparison(audits) if several else []
    content = render("glance.html.jinja", groups=groups, rows=rows, several=several)
    told = _words.differences(audits) if several else [_words.sentence(audits[0])]
    return Section("At a glance", "\n\n".join(told), content)


def _robustness(audits: Sequence[Audit]) -> Section:
    figures = [
        figure_html(
            _figures.robustness(audits, norm),
            f"Accuracy against the size of the perturbation in {_figures.norm_words(norm)}",
        )
        for norm in _words.norms_of(audits)
    ]
    text = (
        "Share of the inputs that are classified right and for which no input of another class was "
        "found within the radius. It is an upper bound of the robust accuracy: a better search can "
        "only lower it. Bands are exact 95 % intervals (Clopper-Pearson) for each radius by "
        "itself: they say how far the share may lie from that of all inputs of this kind."
    )
    return Section("Robustness", text, grid_html(figures))


def _distances(audits: Sequence[Audit]) -> Section:
    figures = [
        figure_html(
            _figures.distances(audits, norm),
            f"Histogram of the distances in {_figures.norm_words(norm)}",
        )
        for norm in _words.norms_of(audits)
    ]
    text = "How far the inputs that are classified right lie from the nearest witness."
    counted = [_words.outside(audit) for audit in audits]
    return Section("Distances", "\n\n".join([text, *counted]), grid_html(figures))


def _scatter(audits: Sequence[Audit]) -> Section:
    text = (
        "Each dot is an input. The margin is the score of the label less the best other score: "
        "above 0 where the input is classified right. Open dots are classified wrong. Point at a "
        "dot to see the input; click to keep it."
    )
    content = _views(
        "margin",
        audits,
        lambda audit, norm: figure_html(
            _figures.scatter(audit, norm),
            f"Distance in {_figures.norm_words(norm)} against margin, {audit.name}",
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
    content = _views(
        "borders",
        audits,
        lambda audit, norm: figure_html(
            _figures.borders(audit, norm),
            f"Which class borders which in {_figures.norm_words(norm)}, {audit.name}",
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
    content = _views("closest", audits, lambda audit, norm: _gallery(audits, audit, norm, pictures))
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
    words = _figures.norm_words(norm)
    return render("gallery.html.jinja", cells=cells, audit=place, norm=norm_name(norm), words=words)


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
    book = {
        "classes": list(audits[0].classes),
        "audits": [_book(audit) for audit in audits],
        "pictures": None if pictures is None else pictures.content,
    }
    word = _search_word(audits[0].classes[int(audits[0].columns["label"][0])])
    content = render(
        "rows.html.jinja", book=as_json(book), choices=_choices(audits, "rows"), word=word,
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
    columns = {
        key: column
        for key, column in audit.columns.items()
        if column.dim() == 1 and not key.startswith("attack_")
    }
    return {
        "name": audit.name,
        "norms": [norm_name(norm) for norm in audit.norms],
        "columns": [{"name": key, **encode(column)} for key, column in columns.items()],
    }


def _reading(audits: Sequence[Audit]) -> Section:
    unconverged = [
        f"{audit.name}, {_figures.norm_words(norm)}: {int((~mask.bool()).sum()):,}"
        for audit in audits
        for norm in audit.norms
        if (mask := audit.columns.get(f"converged_{norm_name(norm)}")) is not None
    ]
    low, high = audits[0].bounds
    content = render("reading.html.jinja", unconverged=unconverged, low=low, high=high)
    return Section("How to read this page", "", content)


def _views(
    name: str,
    audits: Sequence[Audit],
    draw: Callable[[Audit, float], Html],
    *,
    inspector: bool = False,
) -> Html:
    """Return one view a model and norm, of which the page shows the chosen one."""
    views = [
        {"audit": place, "norm": norm_name(norm), "content": draw(audit, norm)}
        for place, audit in enumerate(audits)
        for norm in audit.norms
    ]
    choices = _choices(audits, name)
    return render("views.html.jinja", views=views, choices=choices, inspector=inspector)


def _choices(audits: Sequence[Audit], name: str) -> Html:
    norms = [(norm_name(norm), _figures.norm_words(norm)) for norm in _words.norms_of(audits)]
    models = list(zip([audit.name for audit in audits], model_colours(len(audits)), strict=True))
    return render("choices.html.jinja", norms=norms, models=models, name=name)
