"""A training on disk: one file an epoch, whole or absent, and checked before it is believed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from levelset._tools.files import write_whole
from levelset.errors import RunError
from levelset.training._data import checksum

__all__ = [
    "Checkpoint",
    "Epoch",
    "Settings",
    "read_checkpoint",
    "restore",
    "save_weights",
    "snapshot",
]

Epoch: TypeAlias = tuple[float, float, float | None, float]
"""Loss, accuracy on the batches, accuracy on held-out points or none, seconds."""

Settings: TypeAlias = dict[str, int | float | str | None]
"""What a training was asked for, by the names of the arguments."""

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a training needs to go on as if it had never stopped.

    Attributes:
        settings: What was asked for, and fingerprints of data and model: the same on resuming.
        seed: Of all random numbers of the run; an epoch's own follow from it and its index.
        epochs: The epochs done.
        tensors: State of the model (`model.*`) and moments of the optimiser (`optimizer.*`).
    """

    settings: Settings
    seed: int
    epochs: tuple[Epoch, ...]
    tensors: dict[str, Tensor]

    def write(self, path: Path) -> None:
        """Write the checkpoint as one safetensors file, in place of the one before."""
        head = {k: v for k, v in vars(self).items() if k != "tensors"} | {"format": _FORMAT}
        text = json.dumps(head, allow_nan=False)
        metadata = {"training": text, "sha256": checksum(text, self.tensors)}
        _write(path, self.tensors, metadata)


def snapshot(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of the state of a model and its optimiser, on the CPU, by name."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    return _copied(tensors)


def restore(tensors: dict[str, Tensor], model: nn.Module, optimizer: optim.Optimizer) -> None:
    """Put a snapshot back, bit for bit."""
    weights = {}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "model":
            weights[rest] = tensor
        else:
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
    model.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state of a model as a safetensors file, whole."""
    _write(path, _copied(model.state_dict()), None)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file.

    Raises:
        RunError: If the file is damaged, or is no checkpoint of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error
    text = metadata.get("training", "")
    if metadata.get("sha256") != checksum(text, tensors):
        raise _damaged(path, "its content does not match its own checksum")
    head = json.loads(text)
    if head.pop("format") != _FORMAT:
        raise _damaged(path, "it was written by another version of levelset")
    epochs = tuple(tuple(epoch) for epoch in head["epochs"])
    return Checkpoint(head["settings"], head["seed"], epochs, tensors)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
    # Not by `save_file`: its files are readable by their owner alone, whatever the umask, and a
    # full disk is not an OSError there.
    content = save(tensors, metadata)
    write_whole(path, lambda partial: partial.write_bytes(content))


def _copied(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}


def _damaged(path: Path, reason: str) -> RunError:
    message = (
        f"train: the checkpoint {path} cannot be believed: {reason}. "
        "Delete it to train from the start, or choose another `out`."
    )
    return RunError(message)
