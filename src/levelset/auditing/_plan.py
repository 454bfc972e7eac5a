"""The progress of an audit."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from levelset._typing import Progress

__all__ = ["Meter", "Report"]

Report: TypeAlias = Callable[[float], None]
"""Takes the share of a measurement that is done, from 0 to 1."""

# Inputs by which sums of shares may miss their whole number.
_SLACK = 1e-3


class Meter:
    """Tells how far an audit is, in inputs, by the time that each measure takes.

    A measure counts with the seconds an input that it has taken so far. One that has not been
    made yet counts with those expected of it, in proportion to what the others took. So the hook
    moves within a part, and at an even pace; parts may be measured side by side.

    Args:
        progress: The hook, called when the number of inputs done grows.
        rows: Number of inputs for each measure.
        seconds: Expected of each measure for one input.
    """

    def __init__(
        self, progress: Progress | None, rows: Mapping[str, int], seconds: Mapping[str, float]
    ) -> None:
        self._progress, self._rows, self._expected = progress, dict(rows), dict(seconds)
        self._done = dict.fromkeys(rows, 0.0)
        self._taken = dict.fromkeys(rows, (0.0, 0.0))  # inputs, and the seconds that they took
        # The same of parts that are not finished, by their number and the measure.
        self._begun: dict[tuple[int, str], tuple[float, float]] = {}
        self._told = -1

    def skip(self, rows: Mapping[str, int]) -> None:
        """Count inputs that were measured before."""
        for name, count in rows.items():
            self._done[name] += count

    def hear(
        self, number: int, rows: Mapping[str, int], said: tuple[str, float, float] | None
    ) -> None:
        """Count the share of a measure that is done in a part, and the seconds that it took.

        Args:
            number: Of the part.
            rows: Its inputs, for each measure.
            said: Name of the measure, its share from 0 to 1, its seconds; `None` where the part
                begins anew.
        """
        if said is None:
            for name in rows:
                self._count(number, name, 0.0, 0.0)
            return
        name, share, seconds = said
        self._count(number, name, rows[name] * share, seconds)
        self.tell()

    def finish(self, number: int, rows: Mapping[str, int], seconds: Mapping[str, float]) -> None:
        """Count a part as done."""
        for name, count in rows.items():
            self._count(number, name, float(count), seconds[name])
            del self._begun[number, name]
        self.tell()

    def _count(self, number: int, name: str, inputs: float, seconds: float) -> None:
        """Put inputs and seconds of a part in the place of what was counted of it before."""
        before = self._begun.get((number, name), (0.0, 0.0))
        count, taken = self._taken[name]
        self._done[name] += inputs - before[0]
        self._taken[name] = count + inputs - before[0], taken + seconds - before[1]
        self._begun[number, name] = inputs, seconds

    def tell(self) -> None:
        """Call the hook, if there is news."""
        if self._progress is None:
            return
        total = max(self._rows.values())
        seconds = self._seconds()
        whole = sum(seconds[name] * rows for name, rows in self._rows.items())
        share = sum(seconds[name] * rows for name, rows in self._done.items()) / whole
        finished = all(self._done[name] >= rows - _SLACK for name, rows in self._rows.items())
        inputs = total if finished else min(int(total * share), total - 1)
        if inputs > self._told:
            self._told = inputs
            self._progress(inputs, total)

    def _seconds(self) -> dict[str, float]:
        """Return the seconds an input of each measure: as taken, or else as expected."""
        known = {name: (n, s) for name, (n, s) in self._taken.items() if n > 0 and s > 0}
        expected = sum(self._expected[name] * n for name, (n, _) in known.items())
        pace = sum(s for _, s in known.values()) / expected if expected else 1.0
        return {
            name: known[name][1] / known[name][0] if name in known else pace * seconds
            for name, seconds in self._expected.items()
        }
