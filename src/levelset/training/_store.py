"""The folder of a training: begun, resumed, kept up to date, finished."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn, optim

from levelset._tools.files import make_folder, remove_leftovers, write_json
from levelset.errors import RunError
from levelset.training._checkpoint import (
    Checkpoint,
    Epoch,
    Settings,
    read_checkpoint,
    restore,
    save_weights,
    snapshot,
)
from levelset.training._history import History
from levelset.training._loop import Loss
from levelset.training._randomness import draw_seed

__all__ = ["Store", "describe_loss", "describe_model"]


@dataclass(frozen=True)
class Store:
    """A folder with the checkpoint, and at the end the weights, of one training.

    Attributes:
        folder: Made if it is not there.
        settings: What was asked for; a run is resumed with the same only.
        model: What is trained.
        optimizer: What trains it.
    """

    folder: Path
    settings: Settings
    model: nn.Module
    optimizer: optim.Optimizer

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def begin(
        self, generator: torch.Generator | None, *, resume: bool
    ) -> tuple[int, tuple[Epoch, ...]]:
        """Return the seed and the epochs done; on resuming, put model and optimiser back.

        The checkpoint before the first epoch makes a run that is stopped within it start over from
        the same weights and seed.

        Raises:
            RunError: If there is a run and it shall not be resumed, or cannot be.
        """
        make_folder(self.folder)
        remove_leftovers(self.folder)
        if not self._checkpoint.exists():
            seed = draw_seed(generator)
            self.keep(seed, ())
            return seed, ()
        if not resume:
            message = (
                f"train: {self.folder} holds a training already. Give `resume=True` to go on with "
                "it, or choose another `out`."
            )
            raise RunError(message)
        found = read_checkpoint(self._checkpoint)
        self._refuse_others(found, None if generator is None else draw_seed(generator))
        restore(found.tensors, self.model, self.optimizer)
        return found.seed, found.epochs

    def keep(self, seed: int, epochs: tuple[Epoch, ...]) -> None:
        """Write the checkpoint after these epochs."""
        tensors = snapshot(self.model, self.optimizer)
        Checkpoint(self.settings, seed, epochs, tensors).write(self._checkpoint)

    def finish(self, history: History) -> None:
        """Write the weights, and the history as JSON."""
        save_weights(self.model, self.folder / "weights.safetensors")
        write_json(self.folder / "history.json", history.columns())

    def _refuse_others(self, found: Checkpoint, seed: int | None) -> None:
        differing = [
            f"`{name}` was {found.settings.get(name)!r} and is now {value!r}"
            for name, value in self.settings.items()
            if found.settings.get(name) != value
        ]
        if seed is not None and seed != found.seed:
            differing.append("`generator` gives another seed")
        if differing:
            message = (
                f"train: the training in {self.folder} cannot be resumed: {'; '.join(differing)}. "
                "Give what was given before, or choose another `out`."
            )
            raise RunError(message)


def describe_model(model: nn.Module) -> str:
    """Return the kind and size of a model, and a hash of the names and shapes of its state."""
    state = {k: (tuple(v.shape), str(v.dtype)) for k, v in model.state_dict().items()}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    digest = hashlib.sha256(repr((state, trained)).encode()).hexdigest()[:8]
    size = sum(p.numel() for p in model.parameters())
    return f"{type(model).__name__} with {size} parameters, layout {digest}"


def describe_loss(loss: Loss) -> str:
    """Return the name of a loss, with its options where it is a `functools.partial`."""
    if isinstance(loss, functools.partial):
        options = [repr(a) for a in loss.args] + [f"{k}={v!r}" for k, v in loss.keywords.items()]
        return f"{describe_loss(loss.func)}({', '.join(options)})"
    return getattr(loss, "__qualname__", type(loss).__qualname__)
