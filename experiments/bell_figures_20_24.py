"""Figures 20 to 24 of Bell 2023 on the path kernel, and what the kernel is good for.

Two Gaussian clouds (figures 20 and 21), then MNIST or Fashion-MNIST with a fully connected
network: agreement of kernel and network (23), neighbours by the kernel and by pixels (22), the
straight line from the start of the training to its end (24), wrong labels among the training
points, and how well the kernel tells inputs of the other data set from those of its own.
"""

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn import functional

from levelset.datasets import read_images
from levelset.kernels import GaussianProcess, GaussLegendre, PathKernel, novelty, suspects
from levelset.networks import fc
from levelset.training import initialise, record


@dataclass(frozen=True)
class Config:
    """What is run."""

    cloud: int = 2000
    """Points of each Gaussian cloud."""
    train: int = 2000
    """Training images."""
    test: int = 300
    """Test images, and as many of the other data set."""
    steps: int = 100
    """Steps of gradient descent, all training points each."""
    learning_rate: float = 0.1
    """Of them."""
    flipped: float = 0.1
    """Share of labels that are made wrong."""
    data: str = "mnist"
    """A folder of LEVELSET_DATA."""
    other: str = "fashion-mnist"
    """Where novel inputs come from."""
    seed: int = 0
    """Of all draws."""
    out: Path = Path("runs/bell_figures_20_24")
    """Folder for config.json and result.json."""
    quick: bool = False
    """A tenth of it."""


def clouds(config: Config, generator: torch.Generator) -> dict[str, float]:
    """Return agreement and kernel values on two Gaussians: figures 20 and 21."""
    centres = torch.tensor([[1.0, 4.0], [4.0, 1.0]]).double()
    labels = torch.arange(2 * config.cloud) % 2
    points = centres[labels] + torch.randn(len(labels), 2, generator=generator).double()
    network = initialise(fc(2, 32, 2), generator=generator).double()
    with tempfile.TemporaryDirectory() as folder:
        recording = record(
            network, points, labels, steps=config.steps, learning_rate=0.2, folder=folder
        )
        tests = centres[labels[:200]] + torch.randn(200, 2, generator=generator).double()
        result = {}
        for name, integral in (
            ("secant", "secant"), ("breakpoints", "breakpoints"), ("gauss 4", GaussLegendre(4)),
        ):  # fmt: skip
            prediction = PathKernel(recording, points, labels, integral=integral).predict(tests)
            result[f"figure 20, identity error, {name}"] = prediction.identity_error
        kernel = PathKernel(recording, points, labels)
        result["figure 20, asymmetry of Eq. 16"] = kernel.asymmetry(tests[:50])
        places = torch.tensor([[1.0, 4.0], [4.0, 1.0], [4.0, 15.0], [-8.0, -8.0]]).double()
        rows = torch.arange(0, len(points), max(len(points) // 500, 1))
        cosine = GaussianProcess(kernel, count=len(rows), stride=10).similarities(places)
        raw = kernel.gram(places, points[rows], stride=10)
        for place, one, two in zip(places.tolist(), raw.mean(1), cosine.mean(1), strict=True):
            result[f"figure 21, mean kernel at {place}"] = float(one)
            result[f"figure 21, mean cosine at {place}"] = float(two)
    return result


def line(kernel: PathKernel, fractions: Tensor) -> dict[str, list[float]]:
    """Return loss, accuracy, norm and alignment on the line from start to end: figure 24."""
    recording, columns = kernel.recording, ("loss", "accuracy", "norm", "alignment")
    start, end = recording.start(), recording.end()
    way = (end - start) / (end - start).norm()
    result: dict[str, list[float]] = {name: [] for name in columns}

    def mean_logit(weights: Tensor) -> Tensor:
        out = functional_call(recording.model, recording.named(weights), (kernel.points,))
        return out.gather(1, kernel.labels[:, None]).mean()

    for fraction in fractions.tolist():
        weights = torch.lerp(start, end, fraction)
        with torch.no_grad():
            out = functional_call(recording.model, recording.named(weights), (kernel.points,))
        _, slope = jvp(mean_logit, (weights,), (way,))
        numbers = (
            functional.cross_entropy(out, kernel.labels),
            (out.argmax(1) == kernel.labels).double().mean(), weights.norm(), slope,
        )  # fmt: skip
        for name, number in zip(columns, numbers, strict=True):
            result[name].append(float(number))
    return result


def images(config: Config, generator: torch.Generator) -> dict[str, object]:
    """Return agreement, neighbours, the line, and novelty on images: figures 22 to 24."""
    train = read_images(config.data, split="train", limit=config.train)
    test = read_images(config.data, split="test", limit=config.test)
    other = read_images(config.other, split="test", limit=config.test)
    network = initialise(fc(784, 100, 10), generator=generator)
    options = {"steps": config.steps, "learning_rate": config.learning_rate}
    with tempfile.TemporaryDirectory() as folder:
        recording = record(network, train.points, train.labels, folder=folder, **options)
        kernel = PathKernel(recording, train.points, train.labels)
        prediction = kernel.predict(test.points)
        near = kernel.neighbours(test.points[:100], k=1, stride=20)
        right = train.labels[near.indices[:, 0]] == test.labels[:100]
        right_pixels = train.labels[near.pixel_indices[:, 0]] == test.labels[:100]
        result: dict[str, object] = {
            "accuracy": float(
                (kernel.outputs(test.points).argmax(1) == test.labels).double().mean()
            ),
            "figure 23, largest deviation": prediction.identity_error,
            "figure 22, same nearest": near.summary()["same_nearest"],
            "figure 22, nearest by the kernel has the label": float(right.double().mean()),
            "figure 22, nearest in pixels has the label": float(right_pixels.double().mean()),
            "figure 24": line(kernel, torch.linspace(0.0, 1.25, 11)),
        }
        both = torch.cat([test.points, other.points])
        truth = torch.cat([torch.zeros(len(test)), torch.ones(len(other))])
        softmax = 1.0 - torch.softmax(kernel.outputs(both), 1).amax(1)
        result["novelty, AUROC, softmax"] = float(roc_auc_score(truth, softmax))
        process = GaussianProcess(kernel, count=config.train, noise=1e-3, stride=20)
        for score in ("residual", "variance", "nearest", "sum"):
            values = novelty(process, both, score=score)
            result[f"novelty, AUROC, {score}"] = float(roc_auc_score(truth, values))
    wrong = torch.randperm(len(train), generator=generator)[: int(config.flipped * len(train))]
    labels = train.labels.clone()
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (len(wrong),), generator=generator)) % 10
    network = initialise(fc(784, 100, 10), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        recording = record(network, train.points, labels, folder=folder, **options)
        order = suspects(PathKernel(recording, train.points, labels)).indices
        first = order[: int(0.15 * len(train))]
        share = float(torch.isin(wrong, first).double().mean())
    return result | {"suspects, share of wrong labels in the first 15 %": share}


def main(config: Config) -> dict[str, object]:
    """Run, print, write the result, and return it."""
    if config.quick:
        config = replace(config, cloud=100, train=200, test=40, steps=20)
    generator = torch.Generator().manual_seed(config.seed)
    result = {**clouds(config, generator), **images(config, generator)}
    for name, value in result.items():
        print(f"{name:<60} {value if isinstance(value, dict) else format(value, '.4g')}")
    config.out.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(config), "out": str(config.out), "torch": torch.__version__}
    (config.out / "config.json").write_text(json.dumps(settings, indent=2))
    (config.out / "result.json").write_text(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
