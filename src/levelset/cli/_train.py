"""`levelset train`: a classifier from labelled images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import levelset
from levelset.cli._options import Common, check_folder, read_images, show
from levelset.cli._progress import bar, log
from levelset.cli._threads import choose_threads
from levelset.cli._words import check_name, count

__all__ = ["TrainCommand"]


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Common):
    """Train a classifier on labelled images.

    Writes to OUT: weights.safetensors, history.json, and a checkpoint after each epoch. Press
    Ctrl-C at any time; --resume goes on, and ends with the same weights as an unbroken run.
    """

    data: str
    """A folder (IDX files, or a folder of images a class), a zip of one, .npz, .parquet,
    module:callable, or a name: digits, or a folder of LEVELSET_DATA."""
    network: str
    """A network of levelset.networks, with its arguments if it takes any: digits, lenet,
    convnet_4a, 'fc(784, 100, 10)', ..."""
    out: Path
    """Folder for checkpoints and weights."""
    loss: str = "cross_entropy"
    """What to minimise, with its options: cross_entropy, hinge, curvature, geometric_svm,
    'robust_distance(radius=0.3)', 'interval_bound(radius=0.1)', 'large_margin(radius=0.3)',
    'adversarial(radius=0.3)', 'trades(radius=0.3)', 'direct_margin(radius=0.3)'."""
    epochs: int = count(30)
    """How often each input is seen."""
    learning_rate: float = 3e-3
    """Of AdamW, before the schedule."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate goes: a short rise and half a cosine to 0, or constant."""
    batch_size: int | None = count(64)
    """Inputs a step."""
    limit: int | None = count(None)
    """Most inputs to train on, the first of them."""
    resume: bool = False
    """Go on with the run that OUT holds."""

    def run(self) -> None:
        """Load, train, write."""
        check_folder(self.out)
        device = self.place()
        check_name("--network", self.network, levelset.datasets._names.network_names())
        check_name("--loss", self.loss, levelset.training._losses.loss_names())
        loss = levelset.training.build_loss(self.loss)
        data = read_images(self.data, split="train", limit=self.limit).to(device)
        held_out = read_images(self.data, split="test").to(device)
        generator = self.generator()
        network = levelset.datasets.build_network(self.network)
        network = levelset.training.initialise(network, generator=generator).to(device)
        log(choose_threads(network, data.points[: self.batch_size], self.threads))
        with bar("Training") as progress:
            history = levelset.training.train(
                network,
                data,
                loss=loss,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                schedule=self.schedule,
                batch_size=self.batch_size or 64,
                held_out=held_out,
                out=self.out,
                resume=self.resume,
                generator=generator,
                progress=progress,
            )
        show(
            {**history.summary(), "weights": str(self.out / "weights.safetensors")}, json=self.json
        )
