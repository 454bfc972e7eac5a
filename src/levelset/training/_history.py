"""What is recorded of a training: each epoch's numbers, and how it fares meanwhile."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.results import Result, Rows
from levelset._typing import Summary
from levelset.errors import RunError

__all__ = ["Epoch", "Health", "History", "Watch", "read_epoch"]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The numbers of one epoch.

    Attributes:
        loss: Mean of the loss over the training points.
        accuracy: Share of the training points classified right.
        seconds: Wall-clock time.
        learning_rate: At the end.
        held_out: Share of the held-out points classified right; NaN where none were held out.
        converged: Share of the samples on their level set; NaN of losses without samples.
        distance: Median distance of a sample from its input; NaN of losses without samples.
        details: Means of the terms of the loss, and numbers that follow a schedule, by name.
    """

    loss: float
    accuracy: float
    seconds: float
    learning_rate: float = math.nan
    held_out: float = math.nan
    converged: float = math.nan
    distance: float = math.nan
    details: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers by name, NaN as none."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "details"}
        numbers = {name: None if math.isnan(x) else x for name, x in plain.items()}
        return {**numbers, "details": dict(self.details)}


def read_epoch(numbers: Mapping[str, Any]) -> Epoch:
    """Return the epoch that `Epoch.to_json` wrote."""
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in numbers.items()}
    return Epoch(**values)


_COLUMNS = tuple(f.name for f in fields(Epoch) if f.name != "details")


@dataclass(frozen=True, eq=False, repr=False)
class History(Rows):
    """The course of one training, one row an epoch, `t` of them, in float64 on the CPU.

    Attributes:
        loss: Mean of the loss over the training points, `(t,)`, each as its batch met it.
        accuracy: Share of the training points classified right, `(t,)`, each as its batch met it,
            so before the epoch's later steps, and in training mode.
        seconds: Wall-clock time of the epoch, `(t,)`, held-out points included.
        learning_rate: At the end of the epoch, `(t,)`.
        held_out: Share of the held-out points classified right at the end of the epoch, `(t,)`, in
            evaluation mode; NaN where none were held out.
        converged: Share of the samples of level sets that lie on them, `(t,)`; NaN of losses
            without samples.
        distance: Median distance of a sample from its input, `(t,)`, in the norm of the loss and
            the units of the points; NaN of losses without samples.
        details: Means of the terms of the loss, weights applied, and the numbers that follow a
            schedule at the end of the epoch, `(t, m)`; NaN where a term had the weight 0.
        names: What the columns of `details` are: `robust_distance.samples` is a term,
            `robust_distance: radius` follows a schedule.
    """

    loss: Tensor
    accuracy: Tensor
    seconds: Tensor
    learning_rate: Tensor
    held_out: Tensor
    converged: Tensor
    distance: Tensor
    details: Tensor
    names: tuple[str, ...]

    def summary(self) -> Summary:
        """Return the last epoch's numbers and the time of all, ready for JSON."""
        numbers: Summary = {"epochs": len(self)}
        for name in ("loss", "accuracy", "held_out", "converged", "distance"):
            column = getattr(self, name)
            if len(self) and not math.isnan(column[-1]):
                numbers[name] = float(column[-1])
        numbers["seconds"] = float(self.seconds.sum())
        return numbers

    def columns(self) -> dict[str, list[float | None]]:
        """Return every column as a list, those of `details` too, NaN as none, ready for JSON."""
        plain = {name: getattr(self, name) for name in _COLUMNS}
        table = plain | dict(zip(self.names, self.details.unbind(1), strict=True))
        return {
            name: [None if math.isnan(x) else x for x in column.tolist()]
            for name, column in table.items()
        }

    @classmethod
    @checked
    def read(cls, folder: str | Path) -> "History":
        """Return the history of the training in a folder, finished or not.

        Raises:
            RunError: If the folder has no `log.csv` of a training, or a damaged one.
        """
        path = Path(folder) / "log.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            table = [{k: float(v) if v else math.nan for k, v in row.items()} for row in rows]
            epochs = [
                Epoch(
                    **{name: row[name] for name in _COLUMNS},
                    details={k: v for k, v in row.items() if k not in ("epoch", *_COLUMNS)},
                )
                for row in table
            ]
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            message = (
                f"History.read: {path} is no log of a training: {error}. Give the `out` of "
                "`levelset train`."
            )
            raise RunError(message) from error
        return cls.of(epochs)

    @classmethod
    @checked
    def of(cls, epochs: Sequence[Epoch]) -> "History":
        """Return the history of some epochs."""
        names = tuple(dict.fromkeys(name for epoch in epochs for name in epoch.details))
        plain = [[getattr(epoch, name) for name in _COLUMNS] for epoch in epochs]
        details = [[epoch.details.get(name, math.nan) for name in names] for epoch in epochs]
        table = torch.tensor(plain, dtype=torch.float64).reshape(len(epochs), len(_COLUMNS))
        columns = dict(zip(_COLUMNS, (column.clone() for column in table.unbind(1)), strict=True))
        inner = torch.tensor(details, dtype=torch.float64).reshape(len(epochs), len(names))
        return cls(**columns, details=inner, names=names)


@dataclass(frozen=True, repr=False)
class Health(Result):
    """How a training fares after a step.

    Attributes:
        step: Steps done.
        steps: Steps of all epochs.
        epoch: The epoch at work, from 1.
        loss: Mean over the points of this epoch so far.
        converged: Share of this epoch's samples that lie on their level set; NaN of losses without
            samples.
        distance: Median distance of this step's samples from their inputs; NaN of losses without.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    converged: float
    distance: float


Watch: TypeAlias = Callable[[Health], None]
"""Called after each step of a training."""
