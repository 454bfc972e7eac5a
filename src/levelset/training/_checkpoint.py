"""A training on disk: one checkpoint an epoch, written whole and verified when it is read."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from levelset._tools.arguments import checked
from levelset._tools.digests import checksum
from levelset._tools.files import make_folder, remove_leftovers, write_json, write_whole
from levelset._tools.random import draw_seed
from levelset._tools.results import Result
from levelset._typing import Summary
from levelset.errors import ParameterError, RunError
from levelset.training._history import Epoch, History, read_epoch
from levelset.training._logs import EventFiles, write_csv
from levelset.training._starts import Starts

__all__ = ["Checkpoint", "Options", "Store"]

Options: TypeAlias = dict[str, int | float | str | None]
"""Options of a training, by the names of the arguments."""

_FORMAT = 2


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Result):
    """All that a training needs to go on as if it had never stopped, on the CPU.

    Attributes:
        settings: Options of the training, and fingerprints of data and model: the same on resuming.
        seed: Of all random numbers of the run; an epoch's own follow from it and its index.
        epochs: The numbers of each epoch done, ready for JSON.
        tensors: State of the model (`model.*`), moments of the optimiser (`optimizer.*`), and
            further tensors of a training, by other names.
    """

    settings: Options
    seed: int
    epochs: tuple[dict[str, Any], ...]
    tensors: dict[str, Tensor]

    def summary(self) -> Summary:
        """Return how far the training is, and how much is kept, ready for JSON."""
        numbers = sum(tensor.numel() for tensor in self.tensors.values())
        return {"epochs": len(self.epochs), "tensors": len(self.tensors), "numbers": numbers}

    @classmethod
    @checked
    def of(
        cls,
        model: nn.Module,
        optimizer: optim.Optimizer,
        *,
        settings: Options,
        seed: int,
        epochs: tuple[dict[str, Any], ...] = (),
        more: dict[str, Tensor] | None = None,
    ) -> "Checkpoint":
        """Return copies of the state of a model and its optimiser, and of other tensors."""
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        return cls(settings, seed, epochs, _copied(tensors | (more or {})))

    @classmethod
    @checked
    def read(cls, path: str | Path) -> "Checkpoint":
        """Return the checkpoint in a file.

        Raises:
            RunError: If the file is damaged, or is no checkpoint of this version.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                # An open file can't be iterated over, its keys can.
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise _damaged(path, str(error)) from error
        text = metadata.get("training", "")
        if metadata.get("sha256") != checksum(text, tensors):
            raise _damaged(path, "its content does not match its own checksum")
        head = json.loads(text)
        if head.pop("format") != _FORMAT:
            raise _damaged(path, "it was written by another version of levelset")
        return cls(head["settings"], head["seed"], tuple(head["epochs"]), tensors)

    @checked
    def write(self, path: str | Path) -> None:
        """Write the checkpoint as one safetensors file, in place of the one before."""
        head = {k: v for k, v in vars(self).items() if k != "tensors"} | {"format": _FORMAT}
        text = json.dumps(head, allow_nan=False)
        metadata = {"training": text, "sha256": checksum(text, self.tensors)}
        _write(Path(path), self.tensors, metadata)

    @checked
    def restore(self, model: nn.Module, optimizer: optim.Optimizer) -> None:
        """Put model and optimiser into this state, bit for bit.

        Raises:
            ParameterError: If the state is that of another model or optimiser.
        """
        weights = {}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            part, _, key = name.partition(".")
            if part == "model":
                weights[key] = tensor
            elif part == "optimizer":
                index, _, key = key.partition(".")
                state.setdefault(int(index), {})[key] = tensor
        try:
            model.load_state_dict(weights)
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        except (RuntimeError, ValueError) as error:
            message = (
                "Checkpoint.restore: `model` and `optimizer` must be of the kind that the "
                f"checkpoint was made of, got others: {error}"
            )
            raise ParameterError(message) from error


@dataclass(frozen=True)
class Store:
    """A folder with the checkpoint and logs, and at the end the weights, of one training.

    Attributes:
        folder: Made if it is not there.
        settings: Options of the training; a run is resumed with the same only.
        model: What is trained.
        optimizer: What trains it.
        tensorboard: Whether to write event files for TensorBoard.
        starts: Where the searches of losses ended.
    """

    folder: Path
    settings: Options
    model: nn.Module
    optimizer: optim.Optimizer
    tensorboard: bool
    starts: Starts

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
            RunError: If there is a run and `resume` is false, or it cannot be resumed.
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
        checkpoint = Checkpoint.read(self._checkpoint)
        self._refuse_others(checkpoint, None if generator is None else draw_seed(generator))
        self.restore(checkpoint)
        return checkpoint.seed, tuple(map(read_epoch, checkpoint.epochs))

    def keep(self, seed: int, epochs: tuple[Epoch, ...]) -> None:
        """Write the checkpoint after these epochs."""
        self.state(seed, epochs).write(self._checkpoint)

    def state(self, seed: int, epochs: tuple[Epoch, ...] = ()) -> Checkpoint:
        """Return the state of model, optimiser and searches after these epochs."""
        numbers = tuple(epoch.to_json() for epoch in epochs)
        return Checkpoint.of(
            self.model, self.optimizer, settings=self.settings, seed=seed, epochs=numbers,
            more=self.starts.tensors(),
        )  # fmt: skip

    def restore(self, state: Checkpoint) -> None:
        """Put model, optimiser and searches into a state."""
        state.restore(self.model, self.optimizer)
        self.starts.restore(state.tensors)

    def discard(self) -> None:
        """Remove the checkpoint of a run that took no step."""
        self._checkpoint.unlink(missing_ok=True)

    @contextmanager
    def logging(self, epochs: tuple[Epoch, ...]) -> Iterator[Callable[[tuple[Epoch, ...]], None]]:
        """Yield what writes the logs after an epoch; those of the epochs done are written first."""
        events = None
        if self.tensorboard:
            events = EventFiles(self.folder / "tensorboard", History.of(epochs))

        def write(epochs: tuple[Epoch, ...]) -> None:
            history = History.of(epochs)
            write_csv(self.folder / "log.csv", history)
            if events is not None:
                events.add(history)

        try:
            yield write
        finally:
            if events is not None:
                events.close()

    def last_good(self, epochs: int) -> str:
        """Return where the state after so many epochs is, as a sentence."""
        when = f"after epoch {epochs}" if epochs else "before the first epoch"
        return f"The last good checkpoint, {when}, is {self._checkpoint}."

    def finish(self, history: History) -> None:
        """Write the weights, and the history as JSON."""
        _write(self.folder / "weights.safetensors", _copied(self.model.state_dict()), None)
        write_json(self.folder / "history.json", history.columns())

    def _refuse_others(self, checkpoint: Checkpoint, seed: int | None) -> None:
        differing = [
            f"`{name}` was {checkpoint.settings.get(name)!r} and is now {value!r}"
            for name, value in self.settings.items()
            if checkpoint.settings.get(name) != value
        ]
        if seed is not None and seed != checkpoint.seed:
            differing.append("`generator` gives another seed")
        if differing:
            message = (
                f"train: the training in {self.folder} cannot be resumed: {'; '.join(differing)}. "
                "Give what was given before, or choose another `out`."
            )
            raise RunError(message)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
    # Not by `save_file`: its files are readable by their owner alone, whatever the umask, and a
    # full disk is not an OSError there.
    content = save(tensors, metadata)
    write_whole(path, lambda partial: partial.write_bytes(content))


def _copied(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}


def _damaged(path: str | Path, reason: str) -> RunError:
    message = (
        f"train: the checkpoint {path} cannot be believed: {reason}. "
        "Delete it to train from the start, or choose another `out`."
    )
    return RunError(message)
