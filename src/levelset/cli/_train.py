"""`levelset train`: a classifier from labelled images."""

import shlex
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import levelset
from levelset.cli._options import Common, check_folder, read_images, show
from levelset.cli._progress import bar, log, training
from levelset.cli._recorded import record_run
from levelset.cli._threads import choose_threads
from levelset.cli._words import UsageError, check_name, count, text

if TYPE_CHECKING:
    import torch
    from torch import nn

    from levelset.datasets import Images
    from levelset.training import Recipe
    from levelset.training._ranks import Ranks

__all__ = ["TrainCommand"]

_DEFAULTS: dict[str, Any] = {
    "loss": "cross_entropy",
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "epochs": 30,
    "batch_size": 64,
    "shift": 0,
}


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Common):
    """Train a classifier on labelled images.

    Writes to OUT: weights.safetensors, history.json, log.csv, and a checkpoint after each epoch.
    Press Ctrl-C at any time; --resume goes on, and ends with the same weights as an unbroken run.
    `levelset train --recipe list` shows the recipes with all their numbers.
    """

    data: str
    """A folder (IDX files, or a folder of images a class), a zip of one, .npz, .parquet,
    module:callable, or a name: digits, or a folder of LEVELSET_DATA."""
    out: Path
    """Folder for checkpoints, logs and weights."""
    network: str | None = None
    """A network of levelset.networks, with its arguments if it takes any: digits, lenet,
    convnet_4a, 'fc(784, 100, 10)', ...; by default that of the recipe."""
    recipe: str | None = None
    """Loss, optimiser, schedules, epochs and batch size of a published experiment, such as
    mnist-robust-distance; `list` shows all. Options beside it replace its numbers, but its loss."""
    loss: str | None = None
    """What to minimise, with its options: cross_entropy, hinge, curvature, geometric_svm,
    'robust_distance(radius=0.3)', 'interval_bound(radius=0.1)', 'large_margin(radius=0.3)',
    'adversarial(radius=0.3)', 'trades(radius=0.3)', 'direct_margin(radius=0.3)'; or a sum, as
    'interval_bound(radius=0.3) + 0.5 * robust_distance(radius=0.4)'. In place of a number,
    'ramp({0: 0.1, 50: 0.4})' changes with the epochs. By default cross_entropy."""
    epochs: int | None = count(None)
    """How often each input is seen; by default 30, or as in the recipe."""
    optimizer: Literal["adamw", "adam", "sgd", "momentum", "nesterov"] | None = None
    """What takes the steps; momentum and nesterov are SGD with a momentum of 0.9. By default adamw,
    or as in the recipe."""
    learning_rate: float | None = None
    """Before the schedule; by default 0.003, or as in the recipe."""
    weight_decay: float | None = None
    """On all parameters; by default 0.0001, or as in the recipe."""
    schedule: str | None = text("cosine", "constant", "steps", "ramp")
    """How the learning rate goes: cosine (a short rise and half a cosine to 0), constant,
    'steps({50: 0.5, 100: 0.25})' or 'ramp({0: 0.1, 5: 1})'. By default cosine, or as in the
    recipe."""
    clip_norm: float | None = None
    """Largest norm of a step's gradient, a longer one is shortened; by default no limit, or as in
    the recipe."""
    batch_size: int | None = count(None)
    """Inputs a step; by default 64, or as in the recipe."""
    shift: int | None = count(None, least=0)
    """Most pixels by which images are moved along each axis, at random, each time that one is seen;
    by default 0, or as in the recipe."""
    flip: bool = False
    """Reflect every second image left to right, at random; some recipes do by themselves."""
    statistics: Literal["running", "batch"] = "running"
    """What BatchNorm normalises by where level sets are sampled: its running statistics, or those
    of the batch."""
    precision: Literal["full", "bfloat16"] = "full"
    """In which the model is evaluated while it is trained: bfloat16 is faster on processors that
    multiply in it."""
    limit: int | None = count(None)
    """Most inputs to train on, the first of them."""
    record: bool = False
    """Keep the path of the weights in OUT, for `levelset explain`: plain cross-entropy in
    evaluation mode at a constant learning rate; a step takes 4 bytes a weight on disk."""
    tensorboard: bool = False
    """Write event files for TensorBoard to OUT/tensorboard too."""
    resume: bool = False
    """Go on with the run that OUT holds."""

    @staticmethod
    def answer(words: list[str]) -> str | None:
        """Return the recipes where the words ask for their list alone."""
        if words not in (["--recipe", "list"], ["--recipe=list"]):
            return None
        return "\n\n".join(map(_described, levelset.training.RECIPES))

    def execute(self) -> None:
        """Load, train, write: alone, or as one of the processes of `torchrun`."""
        with levelset.training._ranks.joined(self.device.partition(":")[0]) as ranks:
            self._execute(ranks)

    def _execute(self, ranks: "Ranks") -> None:
        check_folder(self.out)
        if self.tensorboard:
            levelset.training._logs.check_tensorboard()
        recipe = self._recipe()
        if self.record:
            self._check_recorded(recipe, ranks)
        device = self.place()
        data = read_images(self.data, split="train", limit=self.limit).to(device)
        held_out = read_images(self.data, split="test").to(device)
        generator = self.generator()
        network = levelset.datasets.build_network(recipe.network)
        network = levelset.training.initialise(network, generator=generator).to(device)
        threads = choose_threads(network, data.points[: recipe.batch_size], self.threads)
        if ranks.is_first:
            log(f"{ranks.count} processes. {threads}" if ranks.count > 1 else threads)
        if self.record:
            self._record(network, data, recipe, generator)
            return
        with training("Training") if ranks.is_first else nullcontext() as watch:
            history = levelset.training.train(
                network,
                data,
                held_out=held_out,
                out=self.out,
                resume=self.resume,
                tensorboard=self.tensorboard,
                statistics=self.statistics,
                precision=self.precision,
                generator=generator,
                watch=watch,
                **recipe.options(),
            )
        if ranks.is_first:
            numbers = {**history.summary(), "weights": str(self.out / "weights.safetensors")}
            show(numbers, json=self.json)

    def _check_recorded(self, recipe: "Recipe", ranks: "Ranks") -> None:
        """Refuse what a recording does not do."""
        left_out = {
            "--clip-norm": recipe.clip_norm is not None,
            "--precision": self.precision != "full",
            "--shift": recipe.shift > 0,
            "--flip": recipe.flip,
            "several processes": ranks.count > 1,
            "--statistics": self.statistics != "running",
            "--tensorboard": self.tensorboard,
        }
        names = [name for name, wanted in left_out.items() if wanted]
        if names:
            raise UsageError(
                f"--record does not go with {', '.join(names)}: leave one or the other out."
            )

    def _record(
        self, network: "nn.Module", data: "Images", recipe: "Recipe", generator: "torch.Generator"
    ) -> None:
        with bar("Recording") as progress:
            recording = record_run(
                network, data, recipe, out=self.out, resume=self.resume, generator=generator,
                progress=progress, written={"data": self.data, "limit": self.limit},
            )  # fmt: skip
        show({**recording.summary(), "run": str(self.out)}, json=self.json)

    def _recipe(self) -> "Recipe":
        """Return what is to be done: a recipe with the options beside it, or the options alone."""
        written = {name: getattr(self, name) for name in ("network", "clip_norm", *_DEFAULTS)}
        options = {name: value for name, value in written.items() if value is not None}
        if self.recipe is None:
            if self.network is None:
                raise UsageError("--network is needed, or a --recipe, which has one.")
            options = {"name": "", "source": "", **_DEFAULTS, **options}
            chosen = levelset.training.Recipe(**options, flip=self.flip)
        else:
            names = [one.name for one in levelset.training.RECIPES]
            if self.recipe not in names:
                check_name("--recipe", self.recipe, names)
            chosen = levelset.training.recipe(self.recipe)
            if self.loss is not None and self.loss != chosen.loss:
                message = (
                    f"--recipe and --loss contradict each other: {chosen.name} minimises "
                    f"{chosen.loss!r}, and --loss says {self.loss!r}. Leave one of them out; "
                    "`levelset train --recipe list` shows the numbers to go with a loss."
                )
                raise UsageError(message)
            chosen = replace(chosen, **options, flip=self.flip or chosen.flip)
        check_name("--network", chosen.network, levelset.datasets._names.network_names())
        if not chosen.loss.strip().startswith(("ramp(", "steps(")):  # the weight of the first term
            check_name("--loss", chosen.loss, levelset.training._losses.loss_names())
        return chosen


def _described(recipe: "Recipe") -> str:
    """Return a recipe as a paragraph: its name, its source, then its options as flags."""
    flags = [
        f"  --{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for name, value in recipe.summary().items()
        if name not in ("name", "source") and value is not None and value is not False
    ]
    return "\n".join([recipe.name, f"  {recipe.source}", *flags])
