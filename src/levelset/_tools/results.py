"""The parents of results: they print from their summary; row-wise ones are cut by masks."""

import dataclasses
import html
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from levelset._tools.norms import norm_name
from levelset._typing import Summary

__all__ = ["Result", "Rows", "concatenate"]

T = TypeVar("T", bound="Rows")


class Result:
    """What prints from its summary: on one line, in a notebook as a table, in rich over lines.

    `_headline` names what the line shows, the whole summary where it is empty. A name stands for
    an attribute `(n, *d)`, shown by its shape, else for an entry of the summary, else for another
    attribute; what is absent or `None`, as a median over no inputs, is left out. `{norm}` in a
    name becomes the norm of the result.
    """

    _headline: ClassVar[tuple[str, ...]] = ()

    def summary(self) -> Mapping[str, int | float | str | None]:
        """Return the numbers of the result, ready for JSON."""
        return {k: v for k, v in vars(self).items() if isinstance(v, int | float | None)}

    def __repr__(self) -> str:
        """Return shapes and the numbers that matter on one line."""
        summary = self.summary()
        norm = norm_name(getattr(self, "norm", 2.0))
        facts = {}
        for name in (name.format(norm=norm) for name in self._headline or summary):
            value = getattr(self, name, None)
            whole = isinstance(value, Tensor) and value.dim() > 1
            fact = value if whole else summary.get(name, value)
            if fact is not None:
                facts[name] = fact
        inside = ", ".join(f"{name}={_text(fact)}" for name, fact in facts.items())
        return f"{type(self).__name__}({inside})"

    def _repr_html_(self) -> str:
        """Return the summary as a table, which notebooks show."""
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(_text(value))}</td></tr>"
            for name, value in self.summary().items()
        )
        return f"<table><caption>{html.escape(repr(self))}</caption>{rows}</table>"

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:
        """Yield the summary, which rich prints on as many lines as it takes."""
        yield from self.summary().items()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rows(Result):
    """A frozen dataclass whose tensors have one row per point; other attributes are shared."""

    def __len__(self) -> int:
        """Return the number of points."""
        return next(len(v) for v in vars(self).values() if isinstance(v, Tensor))

    def __getitem__(self: T, rows: Tensor | slice | list[int]) -> T:
        """Return the same result for a mask, slice or list of rows."""
        if isinstance(rows, int):
            message = "index a result with a mask, a slice or a list of rows, not one integer"
            raise TypeError(message)
        cut = {k: v[rows] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **cut)

    def summary(self) -> Summary:
        """Return the numbers that describe the whole result, ready for JSON."""
        return {"points": len(self)}


def concatenate(parts: list[T]) -> T:
    """Join results of consecutive rows into one."""
    first = parts[0]
    joined = {
        k: torch.cat([getattr(part, k) for part in parts])
        for k, v in vars(first).items()
        if isinstance(v, Tensor)
    }
    return dataclasses.replace(first, **joined)


def _text(value: object) -> str:
    """Return a number with four digits, a tensor as its shape, anything else as it prints."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
