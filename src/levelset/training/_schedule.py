"""How the learning rate changes from step to step."""

import math
from typing import Literal, TypeAlias

from levelset.errors import ParameterError

__all__ = ["Schedule", "check_schedule", "rate_factor"]

Schedule: TypeAlias = Literal["cosine", "constant"]

# The cosine schedule warms up over one in so many steps: AdamW's second moments need some steps
# before they are worth dividing by.
_WARM_UP = 20


def check_schedule(schedule: str) -> None:
    """Refuse a schedule of another name."""
    if schedule not in {"cosine", "constant"}:
        message = f"train: `schedule` must be 'cosine' or 'constant', got {schedule!r}."
        raise ParameterError(message)


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Return what the learning rate is multiplied by at `step`, counted from 0, out of `steps`.

    `"cosine"` rises in a line over the first 20th of the steps towards 1, then falls along half a
    cosine to 0, which it would reach one step after the last. `"constant"` is 1 throughout.
    """
    if schedule == "constant":
        return 1.0
    warm_up = -(-steps // _WARM_UP)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))
