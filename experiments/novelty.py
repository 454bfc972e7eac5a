"""Does the path kernel tell inputs that are unlike the training points? Bell 2023, sections 15, 16.

784-100-10, trained on images of one data set. Scores of novelty: those of the Gaussian process with
the path kernel, one minus the largest softmax probability, and the boundary's own measures, the
distance and the persistence, both with their sign turned. Each tells the network's own test images
from those of another data set, and from their adversarial images by PGD. Prints the area under the
ROC curve of each. The first score, and the noise of the process, were chosen with a network trained
on Fashion-MNIST, MNIST being novel. Needs the folder of data that LEVELSET_DATA names.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import write_results
from sklearn.metrics import roc_auc_score
from torch import Tensor

from levelset.attacks import pgd
from levelset.boundary import distance, persistence
from levelset.datasets import read_images
from levelset.kernels import GaussianProcess, PathKernel, novelty
from levelset.networks import fc
from levelset.training import initialise, record


@dataclass(frozen=True)
class Config:
    """What is run."""

    data: str = "mnist"
    """A folder of LEVELSET_DATA with grey images of 28 x 28 pixels."""
    others: tuple[str, ...] = ("fashion-mnist", "cifar10")
    """Where novel images come from; those in colour are made grey and cut to 28 x 28 pixels."""
    train: int = 2000
    """Training images."""
    test: int = 200
    """Test images, and as many of each kind of novel ones."""
    steps: int = 100
    """Steps of gradient descent, all training images each."""
    learning_rate: float = 0.1
    """Of them."""
    radius: float = 0.1
    """Of the adversarial images, in the largest pixel."""
    seed: int = 0
    """Of all draws."""
    out: Path = Path("runs/novelty")
    """Folder for config.json and result.json."""
    quick: bool = False
    """A tenth of it."""


def grey(points: Tensor) -> Tensor:
    """Return images as grey ones of 28 x 28 pixels."""
    off = (points.shape[-1] - 28) // 2
    return points.mean(1, keepdim=True)[..., off : off + 28, off : off + 28]


def scores_of(kernel: PathKernel, points: Tensor, seed: int) -> dict[str, Tensor]:
    """Return the scores of novelty of some images, the higher the more novel."""
    model = kernel.recording.model
    process = GaussianProcess(kernel, count=len(kernel.points), noise=1e-3, stride=20)
    scores = {
        f"path kernel, {name}": novelty(process, points, score=name)
        for name in ("residual", "variance", "nearest", "sum")
    }
    scores["softmax"] = 1.0 - torch.softmax(kernel.outputs(points), 1).amax(1)
    near = distance(model, points, bounds=(0.0, 1.0), effort="quick")
    scores["distance to the boundary"] = -near.distance
    generator = torch.Generator().manual_seed(seed)
    lasting = persistence(model, points, tolerance=0.1, max_sigma=10.0, generator=generator)
    scores["persistence"] = -lasting.sigma
    return scores


def main(config: Config) -> dict[str, float]:
    """Run, print, write the result, and return it."""
    if config.quick:
        config = replace(config, train=200, test=20, steps=20)
    generator = torch.Generator().manual_seed(config.seed)
    train = read_images(config.data, split="train", limit=config.train)
    test = read_images(config.data, split="test", limit=config.test)
    network = initialise(fc(784, 100, 10), generator=generator)
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        recording = record(
            network, train.points, train.labels, steps=config.steps,
            learning_rate=config.learning_rate, folder=folder,
        )  # fmt: skip
        kernel = PathKernel(recording, train.points, train.labels)
        attack = pgd(
            network, test.points, test.labels, radius=config.radius, norm=float("inf"),
            bounds=(0.0, 1.0), generator=generator,
        )  # fmt: skip
        kinds = {f"adversarial, {config.radius:g}": attack.points[attack.success]}
        for name in config.others:
            kinds[name] = grey(read_images(name, split="test", limit=config.test).points)
        own = scores_of(kernel, test.points, config.seed)
        for kind, points in kinds.items():
            theirs = scores_of(kernel, points, config.seed)
            truth = torch.cat([torch.zeros(len(test)), torch.ones(len(points))])
            for name, values in own.items():
                area = roc_auc_score(truth, torch.cat([values, theirs[name]]))
                result[f"{kind}, {name}"] = float(area)
                print(f"{kind:<20} {name:<26} {area:.3f}", flush=True)
    write_results(config, result)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
