"""What a measure of an audit is: its columns, how a part is measured, its lines of the summary."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from levelset._tools.norms import norm_name
from levelset._typing import Bounds, Model, Progress, Summary
from levelset.auditing._plan import Report
from levelset.boundary import Effort

__all__ = ["Column", "Kind", "Measure", "Measured", "Part", "Radius", "Settings", "of_norm"]

Kind: TypeAlias = Literal["integer", "number", "numbers", "class", "bool", "word"]

_TYPES: dict[Kind, str] = {
    "integer": "int64",
    "number": "float",
    "numbers": "list of float",
    "class": "int64",
    "bool": "bool",
    "word": "string",
}


def of_norm(name: str, norm: float) -> str:
    """Return the name of the column of one norm, such as `distance_2`."""
    return f"{name}_{norm_name(norm)}"


@dataclass(frozen=True)
class Radius:
    """Within what perturbations the model is attacked.

    Attributes:
        norm: Their norm.
        size: The largest, in the units of the inputs.
    """

    norm: float
    size: float

    def __repr__(self) -> str:
        """Return norm and size as columns are named, such as `inf_0.3`."""
        return f"{norm_name(self.norm)}_{self.size:g}"


@dataclass(frozen=True)
class Column:
    """A column of an audit, declared once: the table on disk, the docs and the page follow.

    Attributes:
        name: What it is called, on disk too.
        meaning: What a value says, and what stands where there is none.
        unit: Of its values; empty where they have none.
        kind: `integer`, `number`, `numbers` (several a row), `class` (a number of one), `bool`, or
            `word` (a number of one of `words` in memory, -1 for none; itself on disk).
        words: What a word may be.
        minor: Whether it is left out where there is little room, as on paper.
        norm: The norm it belongs to; `None` for all or none.
    """

    name: str
    meaning: str
    unit: str = ""
    kind: Kind = "number"
    words: tuple[str, ...] = ()
    minor: bool = False
    norm: float | None = None

    @property
    def type(self) -> str:
        """The type of its values on disk."""
        return _TYPES[self.kind]

    def of(self, norm: float) -> "Column":
        """Return the column of one norm."""
        return replace(self, name=of_norm(self.name, norm), norm=norm)

    def within(self, radius: Radius) -> "Column":
        """Return the column of one radius."""
        return replace(self, name=f"{self.name}_{radius}", norm=radius.norm)

    def numbers(self, words: Sequence[str | None]) -> Tensor:
        """Return words as numbers, -1 for none.

        Raises:
            ValueError: If a word is none of `words`.
        """
        places = [-1 if word is None else self.words.index(word) for word in words]
        return torch.tensor(places, dtype=torch.int64)

    def spelt(self, numbers: Tensor) -> list[str | None]:
        """Return numbers as words."""
        return [self.words[k] if k >= 0 else None for k in numbers.tolist()]


@dataclass(frozen=True, eq=False)
class Settings:
    """How to measure: the same for every part.

    Attributes:
        norms: In which norms; none where distance is not measured.
        bounds: Smallest and largest value of an input.
        effort: How long to search.
        batch_size: Most points an evaluation.
        seed: Of everything random.
        own: What single measures ask for, by name: as the caller gave it until `Measure.options`
            has decided, then as it is.
    """

    norms: tuple[float, ...]
    bounds: Bounds
    effort: Effort
    batch_size: int | None
    seed: int
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Measured:
    """Columns `(n,)`, or `(n, q)`, by name, and witnesses `(n, *d)` by norm."""

    columns: dict[str, Tensor]
    witnesses: dict[float, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the inputs of an audit, to be measured together.

    Attributes:
        model: In evaluation mode; returns logits `(m, k)`, or labels `(m,)`.
        points: The inputs, `(m, *d)`.
        labels: Their classes, `(m,)`.
        first: Number of the first among all inputs.
        settings: How to measure.
        before: What was measured of them before, the model's answers among it.
        report: Takes the share that is done.
    """

    model: Model
    points: Tensor
    labels: Tensor
    first: int
    settings: Settings
    before: Measured
    report: Report

    def generator(self, name: str, *, of_part: bool = False) -> torch.Generator:
        """Return the generator of a name: the same for all parts, or one of this part's own."""
        first = self.first if of_part else 0
        mixed = hashlib.sha256(f"{self.settings.seed}:{name}:{first}".encode()).digest()[:8]
        return torch.Generator().manual_seed(int.from_bytes(mixed, "little") >> 1)

    def progress(self, place: int = 0, places: int = 1) -> Progress:
        """Return the hook of one call out of several that make the measurement."""
        return lambda done, total: self.report((place + done / max(total, 1)) / places)


def _nothing(*arguments: object) -> dict[str, Any]:
    del arguments
    return {}


@dataclass(frozen=True)
class Measure:
    """A measurement that an audit can make of every input.

    Attributes:
        name: What callers ask for.
        columns: What it finds, in the order of the table; the first says that it was made.
        measure: Returns the columns of a part, and witnesses if it has any.
        evaluations: Forward passes expected for one input of a size, a gradient being three.
        summary: Returns the numbers of the whole from all columns and the settings of the run:
            `norms`, and what `options` returned.
        options: Returns its own settings, decided once for all inputs.
        each_norm: Whether it has its columns once for each norm.
        each_radius: Whether it has its columns once for each radius.
        further: What is measured too where all it `needs` is.
        needs: Names of the measures that come before.
        limit: How many of the first inputs are measured; `None` for all.
    """

    name: str
    columns: tuple[Column, ...]
    measure: Callable[[Part], Measured]
    evaluations: Callable[[Settings, int], float]
    summary: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Summary] = _nothing
    options: Callable[[Model, Tensor, Settings], dict[str, Any]] = _nothing
    each_norm: bool = False
    each_radius: bool = False
    further: tuple["Measure", ...] = ()
    needs: tuple[str, ...] = ()
    limit: int | None = None

    def named(self, norms: Sequence[float], radii: Sequence[Radius] = ()) -> list[Column]:
        """Return the columns by the names they have in an audit of these norms and radii."""
        columns = list(self.columns)
        if self.each_norm:
            columns = [column.of(norm) for norm in norms for column in self.columns]
        if self.each_radius:
            columns = [column.within(radius) for radius in radii for column in self.columns]
        return columns + [column for one in self.further for column in one.named(norms, radii)]

    def was_made(
        self, columns: Mapping[str, Tensor], norms: Sequence[float], radii: Sequence[Radius] = ()
    ) -> bool:
        """Return whether an audit with these columns made it."""
        named = self.named(norms, radii)
        return bool(named) and named[0].name in columns

    def rows(self, start: int, stop: int) -> int:
        """Return how many inputs from `start` to `stop` are measured."""
        last = stop if self.limit is None else min(stop, self.limit)
        return max(last - start, 0)
