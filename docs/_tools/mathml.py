"""For mkdocs: turns formulas into MathML, which browsers draw themselves, without scripts."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

__all__ = ["on_page_content"]

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Return the page with each formula of `pymdownx.arithmatex` as MathML."""
    for pattern, display in ((INLINE, "inline"), (BLOCK, "block")):
        content = pattern.sub(lambda match, d=display: _mathml(match[1], d), content)
    return content


def _mathml(source: str, display: str) -> str:
    math = convert(html.unescape(source).strip(), display=display)
    # Bars that enclose stand closer than the sign "divides", for which browsers take them.
    return math.replace(">&#x0007C;</mo>", ' lspace="0" rspace="0">&#x0007C;</mo>')
