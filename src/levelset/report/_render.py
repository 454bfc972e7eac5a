"""Fragments of HTML: templates of the package, with all text escaped, and JSON inside them."""

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levelset._tools.extras import optional as optional_module
from levelset._typing import Floats

if TYPE_CHECKING:
    from jinja2 import Environment
import html
import re
from collections.abc import Sequence

import numpy as np

__all__ = [
    "Html",
    "as_json",
    "captioned",
    "described",
    "figure_html",
    "grid_html",
    "optional",
    "render",
    "safe",
]

FLAT = frozenset({"scatter", "scattergl"})
SCENES = frozenset({"scatter3d", "mesh3d", "surface"})
LINES = 8
"""Most lines that are described one by one."""


@dataclass(frozen=True)
class Html:
    """A fragment of HTML used as it stands: its text is already escaped.

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
    return optional_module(module, "report", "report")


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
    """Return JSON safe inside a script element: `<` is escaped, NaN is refused."""
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


def described(figure: Any) -> str:
    """Return a sentence on each line or cloud of a plotly figure, and how it is read by keyboard.

    Args:
        figure: A `plotly.graph_objects.Figure`.
    """
    kinds = {trace.type for trace in figure.data}
    if kinds & SCENES:
        return "A scene in space. Arrow keys turn it, plus and minus zoom."
    axes = (figure.layout.xaxis, figure.layout.yaxis)
    names = [_plain(axis.title.text) for axis in axes]
    if "heatmap" in kinds:
        lines = [_cells(trace, names) for trace in figure.data if trace.type == "heatmap"]
    else:
        percent = [str(axis.tickformat or "").endswith("%") for axis in axes]
        traces = [trace for trace in figure.data if _is_read(trace)]
        lines = [_line(trace, names, percent) for trace in traces[:LINES]]
        if len(traces) > LINES:
            lines.append(f"{len(traces) - LINES} more.")
    return " ".join([*lines, "Arrow keys move from point to point."]) if lines else ""


def _is_read(trace: Any) -> bool:
    """Return whether a trace is a line or cloud of data points."""
    drawn = trace.type == "bar" or (trace.type in FLAT and trace.mode != "none")
    return drawn and trace.meta != "pin"


def _cells(trace: Any, names: Sequence[str]) -> str:
    counts = np.stack([np.nan_to_num(_numbers(row)) for row in trace.z or [[]]])
    if not counts.any() or trace.text is None:
        return "All cells are empty." if not counts.any() else ""
    i, j = np.unravel_index(int(counts.argmax()), counts.shape)
    return (
        f"{counts.shape[0]} rows ({names[1]}) by {counts.shape[1]} columns ({names[0]}). "
        f"Most: {_plain(trace.text[i][j])}, {counts[i, j]:,.0f}."
    )


def _line(trace: Any, names: Sequence[str], percent: Sequence[bool]) -> str:
    x, y = _numbers(trace.x), _numbers(trace.y)
    length = min(len(x), len(y))
    known = np.isfinite(x[:length]) & np.isfinite(y[:length])
    x, y = x[:length][known], y[:length][known]
    start = f"{_plain(trace.name)}: " if trace.name else ""
    if not len(x):
        return f"{start}no points."
    ranges = [
        f"{name} {_form(float(values.min()), share)} to {_form(float(values.max()), share)}"
        for name, values, share in zip(names, (x, y), percent, strict=True)
    ]
    return f"{start}{len(x):,} {'point' if len(x) == 1 else 'points'}, {', '.join(ranges)}."


def _numbers(values: Any) -> Floats:
    """Return numbers, NaN for none; nothing where they are words or dates."""
    items = [] if values is None else list(values)
    try:
        return np.array([np.nan if item is None else item for item in items], dtype=np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)


def _form(value: float, share: bool) -> str:
    return f"{100.0 * value:.3g} %" if share else f"{value:.3g}"


def _plain(text: str | None) -> str:
    """Return the words of a title or name without plotly's markup."""
    return html.unescape(re.sub(r"<br>.*", "", text or "", flags=re.DOTALL))
