"""The work of an audit: its parts one after the other, each read from disk or else measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.cost import operations
from levelset._typing import Model, Progress
from levelset.auditing._answers import answers
from levelset.auditing._measure import Measure, Measured, Part, Settings
from levelset.auditing._parts import Parts
from levelset.auditing._plan import Meter, cut, expected_seconds

__all__ = ["Work"]


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
        progress: Told the inputs done and their number.
    """

    model: Model
    points: Tensor
    labels: Tensor
    logits: Tensor
    measures: tuple[Measure, ...]
    settings: Settings
    progress: Progress | None

    def run(self, store: Parts | None) -> list[Measured]:
        """Return all parts in order, each read or else measured and written."""
        seconds = self._seconds()
        whole = sum(seconds[m.name] for m in self.measures if m.limit is None)
        cuts = cut(len(self.points), self.points[0].numel(), whole)
        found: list[Measured | None] = [None] * len(cuts)
        if store is not None:
            store.refuse_strays(len(cuts))
            found = [store.read(k, self.points[rows]) for k, rows in enumerate(cuts)]
        meter = Meter(self.progress, self._rows(0, len(self.points)), seconds)
        for rows, part in zip(cuts, found, strict=True):
            if part is not None:
                meter.skip(self._rows(rows.start, rows.stop))
        meter.tell()
        parts = []
        for number, (rows, part) in enumerate(zip(cuts, found, strict=True)):
            parts.append(self._measure(rows, meter) if part is None else part)
            if part is None and store is not None:
                store.write(number, self.points[rows], parts[-1])
        return parts

    def _measure(self, rows: slice, meter: Meter) -> Measured:
        points, labels = self.points[rows], self.labels[rows]
        index = torch.arange(rows.start, rows.stop, device=points.device)
        measured = Measured(answers(self.logits[rows], labels, index))
        counts = self._rows(rows.start, rows.stop)
        for measure in self.measures:
            report = meter.watch(measure.name, counts[measure.name])
            part = Part(self.model, points, labels, rows.start, self.settings, measured, report)
            found = measure.measure(part)
            report(1.0)
            measured.columns.update(found.columns)
            measured.witnesses.update(found.witnesses)
        return measured

    def _seconds(self) -> dict[str, float]:
        """Return the seconds expected of each measure for one input."""
        points, size = self.points, self.points[0].numel()
        count, device = operations(self.model, points), points.device.type
        return {
            measure.name: expected_seconds(measure.evaluations(self.settings, size), count, device)
            for measure in self.measures
        }

    def _rows(self, start: int, stop: int) -> dict[str, int]:
        """Return how many inputs from `start` to `stop` each measure is made of."""
        return {measure.name: measure.rows(start, stop) for measure in self.measures}
