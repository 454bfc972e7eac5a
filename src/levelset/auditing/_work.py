"""The work of an audit: a part of the inputs at a time, by an engine, gathered into one table."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelset._tools.cost import operations
from levelset._tools.engines import Place, cut, engine_of, expected_seconds, threads_of
from levelset._typing import Model, Progress
from levelset.auditing._answers import answers
from levelset.auditing._measure import Measure, Measured, Part, Settings
from levelset.auditing._plan import Meter
from levelset.auditing._run import Parts

__all__ = ["Gathered", "Work"]


@dataclass(eq=False)
class Gathered:
    """Columns and witnesses of all inputs, filled part by part, each row at its place.

    Attributes:
        n: Inputs.
        device: Where the tensors lie.
        columns: By name, `(n,)` or `(n, q)`.
        witnesses: By norm, `(n, *d)`.
    """

    n: int
    device: torch.device
    columns: dict[str, Tensor] = field(default_factory=dict)
    witnesses: dict[float, Tensor] = field(default_factory=dict)

    def put(self, rows: slice, part: Measured) -> None:
        """Copy a part to its rows."""
        for name, values in part.columns.items():
            self._room(self.columns, name, values)[rows] = values
        for norm, points in part.witnesses.items():
            self._room(self.witnesses, norm, points)[rows] = points

    def _room(self, tensors: dict[Any, Tensor], key: Any, part: Tensor) -> Tensor:
        if key not in tensors:
            shape = (self.n, *part.shape[1:])
            tensors[key] = torch.empty(shape, dtype=part.dtype, device=self.device)
        return tensors[key]


class _Rows(NamedTuple):
    """What a worker needs to know of a part."""

    points: Tensor
    labels: Tensor
    logits: Tensor
    first: int


class _Answer(NamedTuple):
    """What comes of a part: its rows, and the seconds of each measure."""

    measured: Measured
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Measuring:
    """Measures a part, wherever it is: everything that is the same for all parts.

    Attributes:
        model: In evaluation mode.
        measures: What to measure, in order.
        settings: How.
        device: Type of the device to compute on.
    """

    model: Model
    measures: tuple[Measure, ...]
    settings: Settings
    device: str

    def __call__(self, rows: _Rows, tell: Callable[[Any], None]) -> _Answer:
        points, labels, logits = (
            values if values.device.type == self.device else values.to(self.device)
            for values in rows[:3]
        )
        index = torch.arange(rows.first, rows.first + len(points), device=points.device)
        measured, seconds = Measured(answers(logits, labels, index)), {}
        for measure in self.measures:
            begun = time.monotonic()

            def report(share: float, name: str = measure.name, begun: float = begun) -> None:
                tell((name, share, time.monotonic() - begun))

            part = Part(self.model, points, labels, rows.first, self.settings, measured, report)
            result = measure.measure(part)
            seconds[measure.name] = time.monotonic() - begun
            measured.columns.update(result.columns)
            measured.witnesses.update(result.witnesses)
        return _Answer(measured, seconds)


@dataclass(frozen=True)
class Work:
    """All that is measured, and on what: cut into parts, of which those on disk are not measured.

    Attributes:
        model: In evaluation mode.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        logits: What the model answers on them.
        measures: What to measure, in order.
        settings: How.
        place: Where.
        progress: Takes the inputs done and their number.
    """

    model: Model
    points: Tensor
    labels: Tensor
    logits: Tensor
    measures: tuple[Measure, ...]
    settings: Settings
    place: Place
    progress: Progress | None

    def run(self, store: Parts | None) -> Gathered:
        """Return all rows in order, each read or else measured and written."""
        seconds = self._seconds()
        whole = sum(seconds[m.name] for m in self.measures if m.limit is None)
        cuts = cut(len(self.points), self.points[0].numel(), whole)
        threads = threads_of(len(cuts), whole, self.model, self.points)
        gathered = Gathered(len(self.points), self.points.device)
        meter = Meter(self.progress, self._rows(slice(0, len(self.points))), seconds)
        missing = self._read(store, cuts, gathered, meter)
        engine = engine_of(
            "audit",
            self.place,
            pieces=len(cuts),
            threads=threads,
            device=self.points.device.type,
        )
        work = _Measuring(self.model, self.measures, self.settings, self.points.device.type)

        def listen(number: int, said: tuple[str, float, float] | None) -> None:
            meter.hear(number, self._rows(cuts[number]), said)

        results = engine.run(
            work, lambda number: self._piece(cuts[number]), missing, listen,
            finish=store is not None,
        )  # fmt: skip
        with closing(results):
            for number, (measured, taken) in results:
                rows = cuts[number]
                if store is not None:
                    store.write(number, self.points[rows], measured)
                gathered.put(rows, measured)
                meter.finish(number, self._rows(rows), taken)
        return gathered

    def _read(
        self, store: Parts | None, cuts: list[slice], gathered: Gathered, meter: Meter
    ) -> list[int]:
        """Gather the parts that are on disk; return the numbers of the others."""
        missing = []
        if store is not None:
            store.refuse_strays(len(cuts))
        for number, rows in enumerate(cuts):
            part = None if store is None else store.read(number, self.points[rows])
            if part is None:
                missing.append(number)
                continue
            gathered.put(rows, part)
            meter.skip(self._rows(rows))
        meter.tell()
        return missing

    def _piece(self, rows: slice) -> _Rows:
        return _Rows(self.points[rows], self.labels[rows], self.logits[rows], rows.start)

    def _seconds(self) -> dict[str, float]:
        """Return the seconds expected of each measure for one input."""
        points, size = self.points, self.points[0].numel()
        count, device = operations(self.model, points), points.device.type
        return {
            measure.name: expected_seconds(measure.evaluations(self.settings, size), count, device)
            for measure in self.measures
        }

    def _rows(self, rows: slice) -> dict[str, int]:
        """Return how many inputs of a part each measure is made of."""
        return {measure.name: measure.rows(rows.start, rows.stop) for measure in self.measures}
