"""Numbers that change while a network is trained: learning rates, radii, weights of terms."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_number, shown
from levelset.errors import ParameterError

__all__ = ["LearningRate", "Ramp", "Schedule", "Steps", "middle", "rate_factor"]

# The cosine schedule warms up over one in so many steps: AdamW's second moments need some steps
# before they are worth dividing by.
_WARM_UP = 20


class Schedule(ABC):
    """A number that follows the epochs of a training, by its values at some of them.

    Two schedules are equal if they are of one kind and have the same knots.

    Args:
        knots: The value at each of some times, in ascending order. A time is a number of epochs
            from 0, such as `50` or `2.5`, or a share of all of them, such as `"25%"`; all of one
            schedule in the same unit, 0 in either.

    Raises:
        ParameterError: If there is no knot, a time is neither, or not after the one before it, or
            a value is not finite.
    """

    def __init__(self, knots: Mapping[Any, int | float]) -> None:
        name = type(self).__name__
        if not isinstance(knots, Mapping) or not knots:
            message = (
                f"{name}: `knots` must be a dict of values by their times, such as "
                f"{{0: 0.1, 50: 0.4}}, got {shown(knots)}."
            )
            raise ParameterError(message)
        self.knots = dict(knots)
        times = [_time(name, time) for time in self.knots]
        units = {by_share for time, by_share in times if time > 0}  # 0 is the same in both
        if len(units) > 1:
            message = (
                f"{name}: the times of `knots` must be all numbers of epochs or all shares such as "
                f"'25%', got {list(self.knots)}."
            )
            raise ParameterError(message)
        self._by_share = True in units
        self._times = [time for time, _ in times]
        self._values = [check_number(name, f"knots[{t!r}]", v) for t, v in knots.items()]
        if self._times != sorted(set(self._times)):
            message = f"{name}: the times of `knots` must ascend, got {list(self.knots)}."
            raise ParameterError(message)
        if not all(map(math.isfinite, self._values)):
            message = f"{name}: the values of `knots` must be finite, got {self._values}."
            raise ParameterError(message)

    @abstractmethod
    def _between(self, time: float) -> float:
        """Return the value at a time in the unit of the knots."""

    @checked
    def at(self, epoch: float, epochs: int) -> float:
        """Return the value after `epoch` epochs, whole or not, out of `epochs`."""
        check_at_least_one("at", "epochs", epochs)
        return self._between(epoch / epochs if self._by_share else epoch)

    def __repr__(self) -> str:
        """Return the schedule as `build_loss` reads it."""
        return f"{type(self).__name__.lower()}({self.knots!r})"

    def __eq__(self, other: object) -> bool:
        """Return whether the other is of this kind and has the same knots."""
        return isinstance(other, Schedule) and repr(self) == repr(other)

    def __hash__(self) -> int:
        """Return a hash that equal schedules share."""
        return hash(repr(self))


class Ramp(Schedule):
    """A number that goes in a line from knot to knot, and is constant before and after them.

    Example:
        >>> from levelset.training import Ramp
        >>> weight = Ramp({0: 0.01, 50: 0.2})
        >>> [round(weight.at(epoch, 200), 3) for epoch in (0, 25, 50, 199)]
        [0.01, 0.105, 0.2, 0.2]
        >>> round(Ramp({"10%": 0.0, "30%": 0.4}).at(20, 100), 3)
        0.2
    """

    def _between(self, time: float) -> float:
        pairs = list(zip(self._times, self._values, strict=True))
        for (start, low), (end, high) in itertools.pairwise(pairs):
            if start <= time < end:
                return low + (high - low) * (time - start) / (end - start)
        return self._values[0] if time < self._times[0] else self._values[-1]


class Steps(Schedule):
    """A number that keeps the value of the last knot until the next; before the first it is 1.

    Example:
        >>> from levelset.training import Steps
        >>> factor = Steps({50: 0.5, 100: 0.25})
        >>> [factor.at(epoch, 200) for epoch in (0, 49.9, 50, 150)]
        [1.0, 1.0, 0.5, 0.25]
    """

    def _between(self, time: float) -> float:
        passed = [v for t, v in zip(self._times, self._values, strict=True) if t <= time]
        return passed[-1] if passed else 1.0


LearningRate: TypeAlias = Literal["cosine", "constant"] | Schedule
"""What the learning rate is multiplied by: a name, or values at some epochs."""


def rate_factor(schedule: LearningRate, step: int, steps: int, epochs: int) -> float:
    """Return what the learning rate is multiplied by at `step`, counted from 0, out of `steps`.

    `"cosine"` rises in a line over the first 20th of the steps towards 1, then falls along half a
    cosine to 0, which it would reach one step after the last. `"constant"` is 1 throughout. A
    `Schedule` is evaluated in the middle of the step.
    """
    if isinstance(schedule, Schedule):
        return schedule.at(middle(step, steps, epochs), epochs)
    if schedule == "constant":
        return 1.0
    warm_up = -(-steps // _WARM_UP)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def middle(step: int, steps: int, epochs: int) -> float:
    """Return the epochs done in the middle of a step: a ramp from 0 is above 0 in the first."""
    return (step + 0.5) * epochs / steps


def _time(name: str, time: Any) -> tuple[float, bool]:
    """Return a time as a number, and whether it is a share of the epochs."""
    text = time.strip() if isinstance(time, str) else ""
    try:
        number = float(text[:-1]) / 100.0 if text.endswith("%") else float(time)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(time, bool) or (isinstance(time, str) and not text.endswith("%")):
        number = math.nan
    if not (math.isfinite(number) and number >= 0) or (text and number > 1.0):
        message = (
            f"{name}: a time of `knots` must be a number of epochs from 0, or a share of all of "
            f"them such as '25%', got {shown(time)}."
        )
        raise ParameterError(message)
    return number, bool(text)
