"""Fragments of HTML: templates of the package, with all text escaped, and JSON inside them."""

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levelset._tools import extras
from levelset.report._described import described

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Html", "as_json", "captioned", "figure_html", "grid_html", "optional", "render", "safe"]


@dataclass(frozen=True)
class Html:
    """A fragment of HTML that is taken as it stands; whoever makes it has escaped its text.

    Attributes:
        markup: The fragment.
    """

    markup: str

    def __repr__(self) -> str:
        """Return the length on one line."""
        return f"Html({len(self.markup):,} characters)"

    def __html__(self) -> str:
        """Return the fragment, as templates ask for it."""
        return self.markup


def optional(module: str) -> Any:
    """Import a module that the extra `report` brings, or say how to get it."""
    return extras.optional(module, "report", "report")


@functools.cache
def _environment() -> "Environment":
    jinja2 = optional("jinja2")
    return jinja2.Environment(
        loader=jinja2.PackageLoader("levelset.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> Html:
    """Fill one of the templates of this package; text is escaped, `Html` is not."""
    return Html(_environment().get_template(template).render(**values))


def as_json(content: object) -> Html:
    """Return JSON that no text inside can end: `<` stands as an escape, NaN is refused."""
    return safe(json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False))


def safe(text: str) -> Html:
    """Return JSON text such that it can stand inside a script element."""
    return Html(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def figure_html(figure: Any, label: str) -> Html:
    """Return a plotly figure as a fragment that the page draws once it is in view.

    Args:
        figure: A `plotly.graph_objects.Figure`.
        label: What a reader hears who does not see the figure.
    """
    height = figure.layout.height or 420
    content = safe(figure.to_json(validate=False))
    words = described(figure)
    return render(
        "figure.html.jinja", content=content, height=int(height), label=label, summary=words
    )


def captioned(fragment: Html, caption: str) -> Html:
    """Return a fragment with words above it."""
    return render("captioned.html.jinja", fragment=fragment, caption=caption)


def grid_html(fragments: list[Html]) -> Html:
    """Return fragments side by side where the page is wide enough, else one below the other."""
    return render("grid.html.jinja", fragments=fragments)
