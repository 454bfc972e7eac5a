"""Processor threads: how they wait, and how many of them a network is worth."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["choose_threads", "wait_passively"]

# Threads that wait by spinning take the processor from those that work: beside one busy process
# an audit of digits on two threads took 3 to 9 times as long as on one. Asleep, they cost
# nothing there and nothing on an idle machine.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def wait_passively() -> None:
    """Let threads sleep while they wait, unless the user chose; before torch is imported."""
    for name, value in _WAITING.items():
        os.environ.setdefault(name, value)


def choose_threads(model: "nn.Module", points: "Tensor", wanted: int | None) -> str:
    """Set the number of processor threads, and return a line about it for the log.

    By default at most torch's own number, and one for each ten million operations of an
    evaluation. The choice follows from the model and the inputs alone, not from the load of the
    machine, so that the same command gives the same rows to the bit, and so does `--resume`.

    Args:
        model: What is evaluated.
        points: The inputs, `(n, *d)`.
        wanted: What `--threads` says; `None` to choose.
    """
    import torch

    from levelset._tools.cost import batch_operations, useful_threads

    if points.device.type != "cpu":
        return f"Computing on {points.device}."
    if wanted is None:
        batch, most = batch_operations(model, points), torch.get_num_threads()
        threads = useful_threads(model, points)
        torch.set_num_threads(threads)
        why = f" of {most}, for {batch / 1e6:.3g} million operations a batch" if most > 1 else ""
        return f"{_count(threads)}{why}; --threads sets another number."
    return f"{_count(wanted)}, as --threads says."


def _count(threads: int) -> str:
    return "1 processor thread" if threads == 1 else f"{threads} processor threads"
