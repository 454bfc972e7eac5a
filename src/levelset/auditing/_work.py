"""The work of an audit: its parts one after the other, each read from disk or else measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.cost import operations
from levelset._typing import Model, Progress
from levelset.auditing._answers import answers
from levelset.auditing._measures import (
    MEASURES,
    Measured,
    Policy,
    adversarial_persistence,
    persistence_cost,
)
from levelset.auditing._parts import Parts
from levelset.auditing._plan import Meter, cut, expected_seconds

__all__ = ["Work"]

# The measure of adversarial inputs, which distance and persistence bring together.
_ADVERSARIAL = "adversarial persistence"


@dataclass(frozen=True)
class Work:
    """All that is measured, and on what: cut into parts, of which those on disk are not measured.

    Attributes:
        model: In evaluation mode.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        logits: What the model answers on them.
        measures: What to measure, in order.
        policy: How.
        progress: Told the inputs done and their number.
    """

    model: Model
    points: Tensor
    labels: Tensor
    logits: Tensor
    measures: tuple[str, ...]
    policy: Policy
    progress: Progress | None

    def run(self, store: Parts | None) -> list[Measured]:
        """Return all parts in order, each read or else measured and written."""
        seconds = self._seconds()
        whole = sum(seconds[name] for name in self.measures)
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
        columns = answers(self.logits[rows], labels, index)
        witnesses: dict[float, Tensor] = {}
        counts = self._rows(rows.start, rows.stop)
        for name in self.measures:
            report = meter.watch(name, counts[name])
            run = MEASURES[name].run
            found = run(self.model, points, labels, self.policy, rows.start, report)
            report(1.0)
            columns.update(found.columns)
            witnesses.update(found.witnesses)
        measured = Measured(columns, witnesses)
        if self.policy.adversarial:
            report = meter.watch(_ADVERSARIAL, counts[_ADVERSARIAL])
            sigma = adversarial_persistence(self.model, points, measured, self.policy, report)
            report(1.0)
            columns["sigma_star_adversarial"] = sigma
        return measured

    def _seconds(self) -> dict[str, float]:
        """Return the seconds expected of each measure for one input."""
        points, size = self.points, self.points[0].numel()
        count, device = operations(self.model, points), points.device.type
        names = {name: MEASURES[name].evaluations for name in self.measures}
        if self.policy.adversarial:
            names[_ADVERSARIAL] = persistence_cost
        return {
            name: expected_seconds(evaluations(self.policy, size), count, device)
            for name, evaluations in names.items()
        }

    def _rows(self, start: int, stop: int) -> dict[str, int]:
        """Return how many inputs from `start` to `stop` each measure is made of."""
        rows = dict.fromkeys(self.measures, stop - start)
        if self.policy.adversarial:
            first = min(stop, self.policy.adversarial)
            rows[_ADVERSARIAL] = max(first - start, 0)
        return rows
