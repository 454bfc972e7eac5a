"""One training by several processes: who does which rows, and how their numbers come together.

The processes are those of `torch.distributed`, as `torchrun` starts them. Each step is that of one
process: all shuffle alike, each takes its share of the rows, and the gradients are added up,
weighted by the rows. A loss is a mean over its inputs, whatever the number of samples it draws
about each, so that the sum is the gradient of the loss of the whole batch.
"""

import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from levelset._tools.random import rows_of_batch
from levelset.errors import LevelSetWarning, RunError

__all__ = ["Ranks", "joined", "warn_of_batches"]

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training.

    Attributes:
        rank: Its number, from 0.
        count: How many there are; 1 without `torch.distributed`.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Ranks":
        """Return this process among those that torch knows of."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return the rows of this process; their numbers differ by one at most."""
        return rows.tensor_split(self.count)[self.rank]

    @contextmanager
    def drawing(self, rows: Tensor) -> Iterator[None]:
        """Let starts of searches be those that one process would draw for the whole batch."""
        if self.count == 1:
            yield
            return
        first = sum(len(part) for part in rows.tensor_split(self.count)[: self.rank])
        with rows_of_batch(first, len(self.share(rows)), len(rows)):
            yield

    def gathered(self, value: T) -> list[T]:
        """Return what each process has, in the order of their numbers."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _talking():
            distributed.all_gather_object(values, value)
        return values

    def of_first(self, job: Callable[[], T]) -> T:
        """Do a job in the first process, and return its result, or raise its error, in all."""
        if self.count == 1:
            return job()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = job()
            except Exception as error:  # raised below, in all processes
                outcome[1] = error
        with _talking():
            distributed.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise an error of the block in all processes: else the others wait for this one.

        Where it is another one's, so is the message.
        """
        if self.count == 1:
            yield
            return
        own: Exception | None = None
        try:
            yield
        except Exception as error:  # raised below, in all processes
            own = error
        first = next((error for error in self.gathered(own) if error is not None), None)
        if own is not None:
            raise own
        if first is not None:
            raise first

    def add_up(
        self, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], weight: float
    ) -> list[Tensor | None]:
        """Return the sums of weighted gradients over all processes; `None` where none has one."""
        if self.count == 1:
            return list(gradients)
        has = self.gathered([gradient is not None for gradient in gradients])
        places = [k for k, flags in enumerate(zip(*has, strict=True)) if any(flags)]
        sums: list[Tensor | None] = [None] * len(gradients)
        for dtype in dict.fromkeys(parameters[k].dtype for k in places):
            alike = [k for k in places if parameters[k].dtype == dtype]
            parts = [
                torch.zeros_like(parameters[k]) if part is None else weight * part
                for k, part in ((k, gradients[k]) for k in alike)
            ]
            flat = torch.cat([part.detach().flatten() for part in parts])
            with _talking():
                distributed.all_reduce(flat)
            for k, part in zip(
                alike, flat.split_with_sizes([part.numel() for part in parts]), strict=True
            ):
                sums[k] = part.view_as(parameters[k])
        return sums

    def share_state(self, model: nn.Module) -> None:
        """Give all processes the parameters and buffers of the first."""
        if self.count > 1:
            with torch.no_grad(), _talking():
                for tensor in model.state_dict().values():
                    distributed.broadcast(tensor, src=0)


def warn_of_batches(model: nn.Module, ranks: Ranks) -> None:
    """Warn of layers that see a share of the batch only, so that the numbers follow it."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    layer = next((type(m).__name__ for m in model.modules() if isinstance(m, kinds)), None)
    if ranks.count > 1 and ranks.is_first and layer is not None:
        message = (
            f"train: {layer} of `model` sees, in each of {ranks.count} processes, that process's "
            "share of a batch: the weights are not those of one process."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=4)


@contextmanager
def _talking() -> Iterator[None]:
    """Say what it means that another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        message = (
            f"train: another process of this training has ended ({reason}). Start all of them "
            "again; with `resume=True` (--resume) they go on after the last epoch."
        )
        raise RunError(message) from error


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that `torchrun` has started, if it has, while the block runs.

    Args:
        device: Type of the device that the training computes on.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ
    if not started or distributed.is_initialized():
        yield Ranks.here()
        return
    # Functions of this module keep the group that there is when they are imported, as a default.
    # Its threads would outlive the interpreter, which now and then aborts: so import them before.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks.here()
    finally:
        distributed.destroy_process_group()
