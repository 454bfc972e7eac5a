"""Figures 20 to 24 of Bell 2023 on the path kernel, and sections 20, 21, 23 and 24 in numbers.

Two Gaussian clouds (figures 20 and 21), then MNIST or Fashion-MNIST: agreement of kernel and
network (23), neighbours by the kernel and by pixels (22), and the straight line from the start of
the training to its end (24), for a fully connected network and for LeNet, with the distance of the
decision boundary on it (section 24). Of each path: how far its steps point the way that the
training went in the end (section 20), how smooth the gradients are (21), and arc against chord
(23). Wrong labels among the training points are looked for in the end.

Writes result.json and a picture a figure; needs the folder of data that LEVELSET_DATA names.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tyro
from _results import write_results
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional

from levelset.boundary import distance
from levelset.datasets import read_images
from levelset.kernels import GaussLegendre, PathKernel, Prediction, suspects
from levelset.networks import fc, lenet
from levelset.training import Recording, initialise, record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACES = torch.tensor([[1.0, 4.0], [4.0, 1.0], [4.0, 15.0], [-8.0, -8.0]]).double()
BLUE, ORANGE, GREEN, GREY = "#2A86C8", "#D55E00", "#2E8B57", "0.45"


@dataclass(frozen=True)
class Config:
    """What is run."""

    cloud: int = 2000
    """Points of each Gaussian cloud."""
    train: int = 2000
    """Training images."""
    test: int = 300
    """Test images."""
    near: int = 40
    """Test images whose distance to the boundary is measured along the line."""
    steps: int = 100
    """Steps of gradient descent, all training points each; of LeNet twice as many, 50 each."""
    learning_rate: float = 0.1
    """Of them."""
    flipped: float = 0.1
    """Share of labels that are made wrong."""
    data: str = "mnist"
    """A folder of LEVELSET_DATA."""
    seed: int = 0
    """Of all draws."""
    out: Path = Path("runs/bell_figures_20_24")
    """Folder for config.json, result.json and the pictures."""
    quick: bool = False
    """A tenth of it."""


@dataclass(frozen=True)
class Clouds:
    """What figures 20 and 21 show."""

    points: Tensor
    labels: Tensor
    prediction: Prediction
    cosines: Tensor
    """Kernel values of the places with the training points, over the root of both own ones."""


@dataclass(frozen=True)
class Images:
    """What figures 22 and 23 show."""

    tests: Tensor
    nearest: Tensor
    nearest_in_pixels: Tensor
    prediction: Prediction


def clouds(config: Config, generator: torch.Generator) -> tuple[dict[str, Any], Clouds]:
    """Return agreement and kernel values on two Gaussians: figures 20 and 21."""
    labels = torch.arange(2 * config.cloud) % 2
    points = PLACES[labels] + torch.randn(len(labels), 2, generator=generator).double()
    network = initialise(fc(2, 32, 2), generator=generator).double()
    with tempfile.TemporaryDirectory() as folder:
        recording = record(
            network, points, labels, steps=config.steps, learning_rate=0.2, folder=folder
        )
        tests = PLACES[labels[:200]] + torch.randn(200, 2, generator=generator).double()
        result: dict[str, Any] = {}
        for name, integral in (
            ("gauss 4", GaussLegendre(4)), ("breakpoints", "breakpoints"), ("secant", "secant"),
        ):  # fmt: skip
            prediction = PathKernel(recording, points, labels, integral=integral).predict(tests)
            result[f"figure 20, identity error, {name}"] = prediction.identity_error
        kernel = PathKernel(recording, points, labels)
        result["figure 20, asymmetry of Eq. 16"] = kernel.asymmetry(tests[:50])
        values = kernel.gram(PLACES, points, stride=10)
        own = kernel.diagonal(PLACES, stride=10).unsqueeze(1) * kernel.diagonal(points, stride=10)
        cosines = values / own.sqrt()
        for place, one, two in zip(PLACES.tolist(), values.mean(1), cosines.mean(1), strict=True):
            result[f"figure 21, mean kernel at {place}"] = float(one)
            result[f"figure 21, mean cosine at {place}"] = float(two)
        result |= course("clouds", recording)
    return result, Clouds(points, labels, prediction, cosines)


def course(name: str, recording: Recording) -> dict[str, float]:
    """Return the numbers of sections 20, 21 and 23 for one path."""
    start, end = recording.start(), recording.end()
    way, arc = end - start, 0.0
    along, turns, last = [], [], None
    for shard in recording.shards():
        for step in shard.weights.diff(dim=0):
            arc += float(step.norm())
            along.append(float(functional.cosine_similarity(step, way, dim=0)))
            if last is not None:
                turns.append(float(functional.cosine_similarity(step, last, dim=0)))
            last = step
    return {
        f"section 20, {name}, cosine of steps with the whole way, first": along[0],
        f"section 20, {name}, cosine of steps with the whole way, mean": sum(along) / len(along),
        f"section 20, {name}, cosine of steps with the whole way, last": along[-1],
        f"section 21, {name}, cosine of a gradient with the next, mean": sum(turns) / len(turns),
        f"section 21, {name}, cosine of a gradient with the next, least": min(turns),
        f"section 23, {name}, arc over chord": arc / float(way.norm()),
    }


def line(
    config: Config, kernel: PathKernel, tests: Tensor, labels: Tensor
) -> dict[str, list[float]]:  # fmt: skip
    """Return what changes on the line from start to end: figure 24 and section 24."""
    recording, start, end = kernel.recording, kernel.recording.start(), kernel.recording.end()
    way = (end - start) / (end - start).norm()
    columns = ("fraction", "loss", "accuracy", "norm", "alignment", "right", "distance")
    result: dict[str, list[float]] = {name: [] for name in columns}

    def mean_logit(weights: Tensor) -> Tensor:
        out = functional_call(recording.model, recording.named(weights), (kernel.points,))
        return out.gather(1, kernel.labels[:, None]).mean()

    for fraction in torch.linspace(0.0, 1.25, 11).tolist():
        weights = torch.lerp(start, end, fraction)
        state = recording.named(weights)
        model = Held(recording.model, state)
        with torch.no_grad():
            out, shown = model(kernel.points), model(tests).argmax(1)
        _, slope = jvp(mean_logit, (weights,), (way,))
        right = shown == labels
        apart = distance(model, tests[right], labels[right], bounds=(0.0, 1.0), effort="quick")
        numbers = (
            fraction, functional.cross_entropy(out, kernel.labels),
            (out.argmax(1) == kernel.labels).double().mean(), weights.norm(), slope,
            right.double().mean(), apart.distance.median() if right.any() else torch.zeros(()),
        )  # fmt: skip
        for name, number in zip(columns, numbers, strict=True):
            result[name].append(float(number))
    return result


class Held(nn.Module):
    """A network with other weights."""

    def __init__(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.model, self.state = [model], state

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return functional_call(self.model[0], self.state, (x,))


def images(config: Config, generator: torch.Generator) -> tuple[dict[str, Any], Images]:
    """Return agreement, neighbours and the line on images: figures 22 to 24."""
    train = read_images(config.data, split="train", limit=config.train)
    test = read_images(config.data, split="test", limit=config.test)
    result: dict[str, Any] = {}
    for name, network in (("LeNet", lenet()), ("784-100-10", fc(784, 100, 10))):
        initialise(network, generator=generator)
        small = name == "LeNet"  # which learns nothing in a hundred steps of all points
        with tempfile.TemporaryDirectory() as folder:
            recording = record(
                network, train.points, train.labels, steps=config.steps * (1 + small),
                learning_rate=config.learning_rate, batch_size=50 if small else None,
                generator=generator, folder=folder,
            )  # fmt: skip
            kernel = PathKernel(recording, train.points, train.labels)
            prediction = kernel.predict(test.points)
            right = kernel.outputs(test.points).argmax(1) == test.labels
            result[f"accuracy, {name}"] = float(right.double().mean())
            result[f"figure 23, largest deviation, {name}"] = prediction.identity_error
            near, labels = test.points[: config.near], test.labels[: config.near]
            result[f"figure 24, {name}"] = line(config, kernel, near, labels)
            result |= course(name, recording)
            if not small:
                nearest = kernel.neighbours(test.points[:100], k=1, stride=20)
    by_kernel = train.labels[nearest.indices[:, 0]] == test.labels[:100]
    in_pixels = train.labels[nearest.pixel_indices[:, 0]] == test.labels[:100]
    result |= {
        "figure 22, same nearest": nearest.summary()["same_nearest"],
        "figure 22, nearest by the kernel has the label": float(by_kernel.double().mean()),
        "figure 22, nearest in pixels has the label": float(in_pixels.double().mean()),
    }
    shown = Images(
        test.points[:8], train.points[nearest.indices[:8, 0]],
        train.points[nearest.pixel_indices[:8, 0]], prediction,
    )  # fmt: skip
    return result, shown


def wrong_labels(config: Config, generator: torch.Generator) -> float:
    """Return the share of wrong labels among the first 15 % of suspects."""
    train = read_images(config.data, split="train", limit=config.train)
    wrong = torch.randperm(len(train), generator=generator)[: int(config.flipped * len(train))]
    labels = train.labels.clone()
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (len(wrong),), generator=generator)) % 10
    network = initialise(fc(784, 100, 10), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        recording = record(
            network, train.points, labels, steps=config.steps,
            learning_rate=config.learning_rate, folder=folder,
        )  # fmt: skip
        order = suspects(PathKernel(recording, train.points, labels)).indices
    return float(torch.isin(wrong, order[: int(0.15 * len(train))]).double().mean())


def agreement(axes: Any, prediction: Prediction) -> None:
    """Draw the outputs of the kernel against those of the network."""
    network, kernel = prediction.network_logits, prediction.logits
    for k in range(network.shape[1]):
        axes.plot(network[:, k], kernel[:, k], ".", markersize=3)
    ends = [float(network.min()), float(network.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, zorder=0)
    title = f"largest difference {prediction.identity_error:.1e}"
    axes.set(xlabel="output of the network", ylabel="output of the kernel", title=title)


def draw_clouds(shown: Clouds) -> dict[str, "Figure"]:
    """Draw figures 20 and 21."""
    from matplotlib.figure import Figure

    first = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = first.subplots(1, 2)
    for label, color in enumerate((BLUE, ORANGE)):
        own = shown.points[shown.labels == label]
        left.plot(own[:, 0], own[:, 1], ".", markersize=2, color=color, label=f"class {label}")
    left.set(title="training points", aspect="equal")
    left.legend(frameon=False, markerscale=4)
    agreement(right, shown.prediction)
    second = Figure(figsize=(9.0, 7.6), layout="constrained")
    panels = second.subplots(2, 2).T.flat
    for place, values, axes in zip(PLACES.tolist(), shown.cosines, panels, strict=True):
        dots = axes.scatter(
            *shown.points.T, c=values, s=3, cmap="viridis", vmin=shown.cosines.min(), vmax=1.0
        )
        axes.plot(*place, "*", color=ORANGE, markersize=14, markeredgecolor="white")
        inside = "a centre" if place in PLACES[:2].tolist() else "far from both clouds"
        axes.set(title=f"({place[0]:g}, {place[1]:g}), {inside}: mean {float(values.mean()):.2f}")
    second.colorbar(dots, ax=second.axes, label="kernel with each training point, cosine")
    return {"figure-20": first, "figure-21": second}


def draw_images(shown: Images) -> dict[str, "Figure"]:
    """Draw figures 22 and 23."""
    from matplotlib.figure import Figure

    first = Figure(figsize=(9.0, 3.6), layout="constrained")
    rows = (shown.tests, shown.nearest, shown.nearest_in_pixels)
    grid = first.subplots(3, len(shown.tests))
    for pictures, axes, words in zip(rows, grid, ("test image", "kernel", "pixels"), strict=True):
        for picture, cell in zip(pictures, axes, strict=True):
            cell.imshow(picture[0], cmap="gray_r")
            cell.set(xticks=[], yticks=[])
        axes[0].set_ylabel(words)
    second = Figure(figsize=(4.6, 4.4), layout="constrained")
    agreement(second.subplots(), shown.prediction)
    return {"figure-22": first, "figure-23": second}


def draw_lines(lines: dict[str, dict[str, list[float]]]) -> dict[str, "Figure"]:
    """Draw figure 24, a row a network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6 * len(lines)), layout="constrained")
    for (name, numbers), (left, right) in zip(
        lines.items(), figure.subplots(len(lines), 2), strict=True
    ):
        x = numbers["fraction"]
        for column, color, dashes in (
            ("loss", ORANGE, "-"), ("accuracy", BLUE, "-"), ("alignment", BLUE, "--"),
            ("norm", GREEN, "-"),
        ):  # fmt: skip
            values = torch.tensor(numbers[column])
            words, scale = (column, 1.0) if column == "accuracy" else (
                f"{column} / {float(values.abs().max()):.3g}", float(values.abs().max())
            )  # fmt: skip
            left.plot(x, values / scale, dashes, color=color, label=words)
        right.plot(
            x, numbers["distance"], "o-", color=ORANGE, markersize=3, label="median distance"
        )
        right.plot(x, numbers["right"], color=BLUE, label="share that is right")
        left.set(
            title=f"{name}, training points", xlabel="from the first weights (0) to the last (1)"
        )
        right.set(title="test images that are right: L2 to the boundary", xlabel="the same line")
        for axes in (left, right):
            axes.axvline(1.0, color="0.8", linewidth=0.8, zorder=0)
            axes.legend(frameon=False)
    return {"figure-24": figure}


def main(config: Config) -> dict[str, Any]:
    """Run, print, write the result and its pictures, and return it."""
    if config.quick:
        config = replace(config, cloud=100, train=200, test=40, near=8, steps=20)
    generator = torch.Generator().manual_seed(config.seed)
    result, first = clouds(config, generator)
    more, second = images(config, generator)
    result |= more
    name = "suspects, share of wrong labels in the first 15 %"
    result[name] = wrong_labels(config, generator)
    for key, value in result.items():
        print(f"{key:<66} {value if isinstance(value, dict) else format(value, '.4g')}")
    write_results(config, result)
    lines = {k.removeprefix("figure 24, "): v for k, v in result.items() if "figure 24" in k}
    figures = draw_clouds(first) | draw_images(second) | draw_lines(lines)
    for key, figure in figures.items():
        figure.savefig(config.out / f"{key}.png", dpi=130)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
