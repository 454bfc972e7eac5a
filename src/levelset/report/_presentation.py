"""What a page shows of one measure: its cards, sentences, rows side by side, and sections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levelset.auditing._result import Audit
from levelset.report._images import Pictures
from levelset.report._write import Section

__all__ = ["Presentation", "comparison_row"]


def _nothing(*audits: object) -> list[Any]:
    del audits
    return []


@dataclass(frozen=True)
class Presentation:
    """What a page shows of one measure.

    Attributes:
        measure: The name of the measure.
        cards: Returns the headline numbers of an audit that made it: name, value, what it means.
        sections: Returns the sections about audits that all made it.
        sentences: Returns its results for one audit in words.
        rows: Returns rows of the table that compares audits, see `comparison_row`.
        differences: Returns, in words, how an audit (second) differs from the first of all.
        explained: Returns sections that explain it, at the end of the page.
    """

    measure: str
    cards: Callable[[Audit], list[dict[str, str]]]
    sections: Callable[[Sequence[Audit], Pictures | None], list[Section]]
    sentences: Callable[[Audit], list[str]] = _nothing
    rows: Callable[[Sequence[Audit]], list[dict[str, Any]]] = _nothing
    differences: Callable[[Audit, Audit, Sequence[Audit]], list[str]] = _nothing
    explained: Callable[[Sequence[Audit]], list[Section]] = _nothing

    def by(self, audits: Sequence[Audit]) -> bool:
        """Return whether all of the audits made the measure."""
        return all(self.measure in audit.measures for audit in audits)


def comparison_row(
    name: str, values: Sequence[float | None], form: Callable[..., str]
) -> dict[str, Any]:
    """Return one row; the largest value is the best, unless all are equal as they are shown."""
    shown = ["none" if value is None else form(value) for value in values]
    best = max((value for value in values if value is not None), default=None)
    apart = len(set(shown)) > 1
    cells = [{"value": text, "note": "", "best": apart and text == form(best)} for text in shown]
    return {"name": name, "cells": cells}
