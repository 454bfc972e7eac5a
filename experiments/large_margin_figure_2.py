"""Figure 2 of Atzmon et al. 2019: how well a network trained on few images does, by its loss.

ConvNet-2b on a fraction of the training images of MNIST or Fashion-MNIST, by hinge, cross-entropy
and the geometric SVM (`losses.geometric_svm`), as in section 5.1 and table A2 of the supplement:
SGD with Nesterov momentum and the paper's decays of the learning rate, in proportion where there
are fewer epochs. Each seed draws its own images, as many of one class as of another, and its own
weights, which all losses share. Prints accuracies on all test images, mean and standard error over
the seeds, and the difference seed by seed of the geometric SVM to the better one of the other two.
The paper prints no numbers. Goal: at least one point better up to 1 %, and nowhere worse by more
than the error.

Every result is a line of results.jsonl, written as it comes; a second call goes on from there. With
`--tune` the learning rates and weights are compared on training images that are not drawn, and no
test image is seen; RATE and WEIGHTS are what came of that.
"""

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_settings
from torch import Tensor, nn

from levelset.datasets import Images, read_images
from levelset.losses import geometric_svm, hinge
from levelset.networks import convnet_2b
from levelset.training import cross_entropy, initialise

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Setting = dict[str, float]

# Seeds of each fraction, in per cent of the 60,000 training images.
SEEDS = {0.1: 20, 0.3: 20, 1.0: 10, 3.0: 3, 10.0: 3}
# Where the learning rate is halved, in parts of the epochs: table A2.
DECAYS = {
    "mnist": (0.25, 0.5, 0.6, 0.7, 0.8, 0.9),
    "fashion-mnist": (0.25, 0.5, 0.6),
}
RATES = (0.001, 0.005, 0.01, 0.02)  # the paper's
OURS = "geometric SVM"
METHODS = ("hinge", "cross-entropy", OURS)
RATE = 0.02
WEIGHTS = {"mnist": 0.1, "fashion-mnist": 0.03}  # of the geometric SVM
CANDIDATES: dict[str, list[Setting]] = {
    "hinge": [{"rate": rate} for rate in RATES],
    "cross-entropy": [{"rate": rate} for rate in RATES],
    OURS: [{"rate": 0.02, "weight": weight} for weight in (0.01, 0.03, 0.1, 0.3)],
}
# Training images that no training draws from with `--tune`, and that its accuracies are of.
VALIDATION = 5_000


@dataclass(frozen=True)
class Config:
    """What is run."""

    data: tuple[str, ...] = ("mnist", "fashion-mnist")
    """The images."""
    fractions: tuple[float, ...] = tuple(SEEDS)
    """Per cent of the training images."""
    seeds: int | None = None
    """Of each fraction; None for 20, 20, 10, 3 and 3."""
    epochs: int = 200
    """Of training, as in the paper, but no more than `visits` allows."""
    visits: int | None = 36_000
    """Most images in all epochs together, which is 200 epochs at 0.3 %; None for no limit."""
    batch: int = 32
    """Images a step; the paper takes 256 from 1 % of MNIST on."""
    share: float = 0.0625
    """Part of the steps that sample the level sets."""
    tune: bool = False
    """Compare settings on training images instead."""
    out: Path = Path("runs/large_margin_figure_2")
    """Folder for config.json, results.jsonl and the figure."""
    quick: bool = False
    """Two seeds at 0.1 %, two epochs."""


def loss_of(method: str, setting: Setting, config: Config, seed: int) -> Loss:
    """Return the loss of a method."""
    if method != OURS:
        return {"hinge": hinge, "cross-entropy": cross_entropy}[method]
    return partial(
        geometric_svm, weight=setting["weight"], ratio="output", share=config.share, max_iter=1,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def balanced(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return rows drawn at random, as many of each class as of any other, but for one."""
    classes = int(labels.max()) + 1
    if count < classes:
        sys.exit(f"a fraction must hold an image of each of {classes} classes, got {count}.")
    order = torch.randperm(len(labels), generator=generator)
    counts = [count // classes + (label < count % classes) for label in range(classes)]
    return torch.cat([order[labels[order] == k][:n] for k, n in enumerate(counts)])


def accuracy(network: nn.Module, data: Images) -> float:
    """Return the share of images that a network answers right."""
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in data.points.split(500)])
    return float((answers == data.labels).double().mean())


def trained(name: str, data: Images, job: dict, config: Config) -> nn.Module:
    """Return a network trained on a few images."""
    generator = torch.Generator().manual_seed(job["seed"])
    few = data[balanced(data.labels, job["images"], generator)]
    network = initialise(convnet_2b(), generator=generator)
    network = network.to(memory_format=torch.channels_last)
    rate = job["setting"]["rate"]
    optimizer = torch.optim.SGD(
        network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    milestones = [round(part * job["epochs"]) for part in DECAYS[name]]
    falling = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.5)
    loss = loss_of(job["method"], job["setting"], config, job["seed"])
    for _ in range(job["epochs"]):
        order = torch.randperm(len(few), generator=generator)
        for rows in order.tensor_split(-(-len(few) // config.batch)):
            optimizer.zero_grad()
            loss(network, few.points[rows], few.labels[rows]).backward()
            optimizer.step()
        falling.step()
    return network.eval()


def jobs(config: Config, name: str, fraction: float) -> list[dict]:
    """Return what is to be trained, all methods of a seed side by side."""
    images = round(fraction * 600)
    most = config.epochs if config.visits is None else config.visits // images
    chosen: dict[str, Setting] = {method: {"rate": RATE} for method in METHODS}
    chosen[OURS]["weight"] = WEIGHTS[name]
    settings = CANDIDATES if config.tune else {method: [one] for method, one in chosen.items()}
    common = {
        "data": name, "fraction": fraction, "images": images, "epochs": min(config.epochs, most),
        "batch": config.batch, "share": config.share, "on": "validation" if config.tune else "test",
    }  # fmt: skip
    return [
        common | {"seed": seed, "method": method, "setting": one}
        for seed in range(config.seeds or SEEDS.get(fraction, 3))
        for method, several in settings.items()
        for one in several
    ]


def main(config: Config) -> list[dict]:
    """Run what is not yet done, print the tables, draw the figure, and return all results."""
    data_folder(*config.data)
    if config.quick:
        config = replace(config, fractions=(0.1,), seeds=2, epochs=2)
    torch.set_num_threads(1)
    write_settings(config)
    file = config.out / "results.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = [row["job"] for row in rows]
    for fraction in config.fractions:
        for name in config.data:
            missing = [job for job in jobs(config, name, fraction) if job not in known]
            if missing:
                rows += run(name, missing, file, config)
            table(rows, jobs(config, name, fraction))
    if not config.tune and importlib.util.find_spec("matplotlib"):
        draw(file, config.out / "figure_2.png")
    return rows


def run(name: str, missing: list[dict], file: Path, config: Config) -> list[dict]:
    """Do jobs of one data set, and append each result to the file."""
    data = read_images(name, split="train")
    test = read_images(name)
    if config.tune:
        data, test = data[slice(0, -VALIDATION)], data[slice(-VALIDATION, None)]
    rows = []
    for job in missing:
        began = time.process_time()
        score = accuracy(trained(name, data, job, config), test)
        rows.append({"job": job, "accuracy": score, "seconds": time.process_time() - began})
        with file.open("a") as out:
            out.write(json.dumps(rows[-1]) + "\n")
    return rows


def error(values: list[float]) -> float:
    """Return the standard error of a mean; NaN of one value."""
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return spread / len(values) ** 0.5


def scores(rows: list[dict], wanted: list[dict]) -> dict[str, dict[int, float]]:
    """Return the accuracies in per cent by method and setting, then by seed."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        job = row["job"]
        if job in wanted:
            values = "".join(f", {k} {v:g}" for k, v in job["setting"].items())
            found.setdefault(job["method"] + values, {})[job["seed"]] = 100.0 * row["accuracy"]
    return found


def table(rows: list[dict], wanted: list[dict]) -> None:
    """Print a line for each method of one fraction of one data set, and the difference."""
    accuracies = scores(rows, wanted)
    first = wanted[0]
    print(f"{first['data']}, {first['fraction']:g} % ({first['images']}), {first['epochs']} epochs")
    for name, values in accuracies.items():
        mean, spread = statistics.fmean(values.values()), error([*values.values()])
        print(f"  {name:40} {mean:6.2f} +- {spread:.2f}  ({len(values)} seeds, {first['on']})")
    if first["on"] == "test":
        ours = next(v for k, v in accuracies.items() if k.startswith(OURS))
        others = [v for k, v in accuracies.items() if not k.startswith(OURS)]
        best = max(others, key=lambda values: statistics.fmean(values.values()))
        apart = [ours[seed] - best[seed] for seed in ours if seed in best]
        print(f"  {'difference to the better one':40} {statistics.fmean(apart):+6.2f} +- ", end="")
        print(f"{error(apart):.2f}", flush=True)


def draw(source: Path, target: Path) -> None:
    """Draw mean accuracy and standard error against the fraction, a panel a data set."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows = [row for row in rows if row["job"]["on"] == "test"]
    names = list(dict.fromkeys(row["job"]["data"] for row in rows))
    figure = Figure(figsize=(5.2 * len(names), 4.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for method, colour in zip(METHODS, ("#E69F00", "#2A86C8", "#D55E00"), strict=True):
            curve: dict[float, list[float]] = {}
            for row in rows:
                job = row["job"]
                if job["data"] == name and job["method"] == method:
                    curve.setdefault(job["fraction"], []).append(100.0 * row["accuracy"])
            at = sorted(curve)
            means, errors = ([f(curve[x]) for x in at] for f in (statistics.fmean, error))
            axes.errorbar(
                at, means, errors, marker="o", ms=4, capsize=3, color=colour, label=method
            )
        axes.set(xscale="log", xlabel="training images, %", ylabel="test accuracy, %", title=name)
        axes.set_xticks(at, [f"{x:g}" for x in at])
        axes.legend()
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Config))
