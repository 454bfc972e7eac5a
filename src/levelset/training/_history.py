"""Loss, accuracy and time of each epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.results import Rows
from levelset._typing import Summary

__all__ = ["History"]


@dataclass(frozen=True, eq=False, repr=False)
class History(Rows):
    """The course of one training, one row an epoch, `t` of them, in float64 on the CPU.

    Attributes:
        loss: Mean of the loss over the training points, `(t,)`, each as its batch met it.
        accuracy: Share of the training points classified right, `(t,)`, each as its batch met it,
            so before the epoch's later steps, and in training mode.
        held_out: Share of the held-out points classified right at the end of the epoch, `(t,)`, in
            evaluation mode; NaN where none were held out.
        seconds: Wall-clock time of the epoch, `(t,)`, held-out points included.
    """

    loss: Tensor
    accuracy: Tensor
    held_out: Tensor
    seconds: Tensor

    def summary(self) -> Summary:
        """Return the last epoch's numbers and the time of all, ready for JSON."""
        numbers: Summary = {"epochs": len(self)}
        if len(self):
            numbers["loss"] = float(self.loss[-1])
            numbers["accuracy"] = float(self.accuracy[-1])
            if not math.isnan(self.held_out[-1]):
                numbers["held_out"] = float(self.held_out[-1])
        numbers["seconds"] = float(self.seconds.sum())
        return numbers

    def columns(self) -> dict[str, list[float | None]]:
        """Return every column as a list, NaN as none, ready for JSON."""
        return {
            name: [None if math.isnan(x) else x for x in column.tolist()]
            for name, column in vars(self).items()
        }

    @classmethod
    @checked
    def of(cls, epochs: Sequence[tuple[float, float, float | None, float]]) -> "History":
        """Return the history of epochs, each as (loss, accuracy, held out or none, seconds)."""
        table = [[math.nan if x is None else x for x in row] for row in epochs]
        columns = torch.tensor(table, dtype=torch.float64).reshape(len(epochs), 4)
        return cls(*(column.clone() for column in columns.unbind(1)))
