"""One self-contained HTML page out of sections: text, figures, tables, fragments."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from levelset._tools.arguments import checked
from levelset._tools.files import make_folder, write_whole
from levelset.errors import ParameterError, ShapeError
from levelset.report._render import Html, figure_html, optional, render

__all__ = ["Content", "Section", "Table", "write"]

Table: TypeAlias = Mapping[str, Sequence[object]]
"""Columns by their headings, all of one length."""

Content: TypeAlias = Any
"""A plotly figure, a `Table`, an `Html` fragment, or `None`."""


_RESERVED = frozenset({"book", "content", "search-state"})
"""Names that other elements of the page bear."""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        title: Its heading, and its entry in the navigation.
        text: What the reader should know, plain text; an empty line parts paragraphs.
        content: A plotly figure, a table as a mapping of headings to columns, a fragment of
            `Html`, or `None`.
    """

    title: str
    text: str = ""
    content: Content = None

    def __repr__(self) -> str:
        """Return the title and what lies below it on one line."""
        content = (
            self.content if isinstance(self.content, Html | None) else type(self.content).__name__
        )
        return f"Section({self.title!r}, {len(self.text):,} characters, {content})"


@checked
def write(
    path: str | Path,
    sections: Sequence[Section | tuple[str, str, Content]],
    *,
    title: str,
    subtitle: str = "",
) -> None:
    """Write sections to one HTML file that needs no network and no other file.

    Scripts, styles, figures and pictures lie inside the file, plotly's script (4.8 MB) only where
    a section holds a figure. A content security policy in the page forbids every request. The
    bytes depend on the arguments (and the version of plotly) alone: no times, no random names.
    The file is written under another name and renamed, so nobody reads it half-written.

    A link to a section ends in its title, such as `#all-inputs`. What the reader chose (model,
    norm, pinned input, search, order) stands behind it in the address. Printing draws every
    figure, in light colours.

    Args:
        path: The file; its folder is created where absent.
        sections: Triples `(title, text, content)`, see [`Section`][levelset.report.Section].
        title: The heading of the page.
        subtitle: A line below it, such as when and how the results were made.

    Raises:
        MissingExtraError: If jinja2, or plotly for a figure, is not installed.
        ParameterError: If a content is none of a figure, a table, `Html`, `None`.
        ShapeError: If the columns of a table differ in length.
        RunError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from levelset import report
        >>> page = Path(tempfile.mkdtemp()) / "page.html"
        >>> report.write(page, [("Results", "One row.", {"norm": [2]})], title="A page")
        >>> "<h1>A page</h1>" in page.read_text(encoding="utf-8")
        True
    """
    filled = [Section(*section) for section in sections]
    names = anchors([section.title for section in filled])
    parts = [_part(number, *pair) for number, pair in enumerate(zip(filled, names, strict=True))]
    drawn = any("data-figure" in part["content"].markup for part in parts)
    plotly = Html(optional("plotly.offline").get_plotlyjs()) if drawn else Html("")
    page = render(
        "page.html.jinja", title=title, subtitle=subtitle, parts=parts, plotly=plotly
    ).markup
    target = Path(path)
    make_folder(target.parent)
    write_whole(target, lambda partial: partial.write_text(page, encoding="utf-8", newline="\n"))


def anchors(titles: Sequence[str]) -> list[str]:
    """Return a name for each section, for links: the words of its title, unique on the page.

    Example:
        >>> anchors(["At a glance", "Noise", "Noise"])
        ['at-a-glance', 'noise', 'noise-2']
    """
    names: list[str] = []
    for title in titles:
        words = "-".join(re.findall(r"\w+", title.lower())) or "section"
        name, count = words, 2
        while name in names or name in _RESERVED:
            name, count = f"{words}-{count}", count + 1
        names.append(name)
    return names


def _part(number: int, section: Section, name: str) -> dict[str, Any]:
    paragraphs = [text for text in (p.strip() for p in section.text.split("\n\n")) if text]
    content = _content(number, section.content, section.title)
    return {
        "name": name,
        "title": section.title,
        "paragraphs": paragraphs,
        "content": content,
    }


def _content(number: int, content: Content, title: str) -> Html:
    if content is None:
        return Html("")
    if isinstance(content, Html):
        return content
    if isinstance(content, Mapping):
        return _table(number, content)
    if hasattr(content, "to_json") and hasattr(content, "layout"):
        return figure_html(content, title)
    message = (
        f"report.write: `sections[{number}]` must hold a plotly figure, a table (a mapping of "
        f"headings to columns), an Html fragment or None, got {type(content).__name__}."
    )
    raise ParameterError(message)


def _table(number: int, table: Table) -> Html:
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        message = (
            f"report.write: the columns of the table in `sections[{number}]` must have one "
            f"length, got {lengths}."
        )
        raise ShapeError(message)
    rows = [[_cell(value) for value in row] for row in zip(*table.values(), strict=True)]
    return render("table.html.jinja", columns=list(table), rows=rows)


def _cell(value: object) -> tuple[str, bool]:
    """Return a value as it stands in a table, and whether it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value), False
    return (f"{value:.4g}" if isinstance(value, float) else str(value)), True
