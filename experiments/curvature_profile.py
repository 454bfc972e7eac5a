"""Figures 2, 3 and 4 of Alonso and Bonin, and their 2.3.2: curvature of a LeNet's boundaries.

Forty images of class 0, nine boundaries each: the mean of the ordered principal curvatures, the
histogram of the average curvatures, and the plane of normal and tangent at one boundary point. Then
how far adversarial training and curvature regularisation (CURE) flatten the same network, by
differences of the same h (flattening.py asks it of networks that others trained). Prints
the numbers, writes result.json, and figures if matplotlib is there. Needs the folder of data that
LEVELSET_DATA names.
"""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from _results import data_folder, write_results
from torch.nn import functional

from levelset import LogitDifference, losses, plots
from levelset.attacks import pgd
from levelset.boundary import (
    CentralDifference,
    Curvature,
    ForwardDifference,
    SoftplusSurrogate,
    cross_section,
    curvature,
)
from levelset.datasets import load_model, read_images
from levelset.networks import lenet
from levelset.training import cross_entropy, initialise, train

RADIUS = {"mnist": 0.2, "fashion-mnist": 0.06}  # of the perturbations in adversarial training
PAPER = "paper: most principal curvatures near zero, a few large; the average slightly negative"


@dataclass(frozen=True)
class Config:
    """What is run."""

    data: Literal["mnist", "fashion-mnist"] = "mnist"
    """The images."""
    images: int = 40
    """Test images of class 0."""
    h: float = 0.1
    """Shift of the differences; the paper's is 0.1, one-sided."""
    beta: float = 5.0
    """Sharpness of the softplus surrogate."""
    weights: Path | None = None
    """Of a LeNet; None to train one (half a minute)."""
    flatten: bool = True
    """Also train with adversarial examples and with CURE, and measure those."""
    trained: int = 20_000
    """Training images in that comparison, two epochs."""
    seed: int = 0
    """Of training and attacks."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("runs/curvature")
    """Folder for config.json, result.json and profile.png."""
    quick: bool = False
    """Two images, no training beyond a few steps."""


def main(config: Config) -> dict:
    """Run, print, write the result and its figure, and return it."""
    data_folder(config.data)
    if config.quick:
        config = replace(config, images=2, trained=500, flatten=False)
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    model = network(config)
    points, pairs = boundaries(config, model)
    print(PAPER)
    smoothings = {
        "central": CentralDifference(config.h),
        "forward": ForwardDifference(config.h),
        "softplus": SoftplusSurrogate(config.beta),
    }
    held = {}
    for name, smoothing in smoothings.items():
        held[name] = curvature(
            LogitDifference(model), points, labels=pairs, smoothing=smoothing, level=None,
            directions=False,
        )  # fmt: skip
        told(str(smoothing), held[name])
    result: dict = {name: numbers(found) for name, found in held.items()}
    if config.flatten:
        result["flattening"] = flattening(config)
    write_results(config, result)
    if importlib.util.find_spec("matplotlib"):
        draw(config, model, held)
    return result


def network(config: Config) -> torch.nn.Module:
    """Return the LeNet."""
    if config.weights is not None:
        return load_model("lenet", config.weights).to(config.device)
    return trained(config, cross_entropy, None if not config.quick else 500, 5)


def trained(config: Config, loss, limit: int | None, epochs: int) -> torch.nn.Module:
    """Return a LeNet trained with a loss."""
    generator = torch.Generator().manual_seed(config.seed)
    model = initialise(lenet(), generator=generator).to(config.device)
    data = read_images(config.data, split="train", limit=limit).to(config.device)
    train(
        model, data, loss=loss, epochs=epochs, learning_rate=2e-3, batch_size=64,
        generator=generator,
    )  # fmt: skip
    return model.eval()


def boundaries(config: Config, model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of class 0 answered right, once for each other class, and the pairs (0, j)."""
    data = read_images(config.data, limit=20 * config.images + 100).to(config.device)
    with torch.no_grad():
        right = (data.labels == 0) & (model(data.points).argmax(1) == 0)
    chosen = data.points[right][: config.images]
    pairs = torch.tensor([[0, j] for j in range(1, 10)], device=chosen.device).repeat(
        len(chosen), 1
    )
    return chosen.repeat_interleave(9, 0), pairs


def numbers(found: Curvature) -> dict:
    """Return what the figures show, as lists."""
    principal = found.principal.double()
    size = principal.abs()
    return {
        "profile": principal.mean(0).tolist(),
        "means": found.mean.double().tolist(),
        "largest": float(principal[:, 0].mean()),
        "smallest": float(principal[:, -1].mean()),
        "near_zero": float((size < 0.05 * size.amax(1, keepdim=True)).double().mean()),
        "mean": float(found.mean.double().mean()),
        "negative": float((found.mean < 0).double().mean()),
        "size": float(size.sum(1).mean()),
    }


def told(name: str, found: Curvature) -> None:
    """Print one line."""
    n = numbers(found)
    print(
        f"{name:28} largest {n['largest']:7.3f}  smallest {n['smallest']:7.3f}  within 5 % of the "
        f"largest in size: {100 * n['near_zero']:.0f} %  mean {n['mean']:.2e}, negative in "
        f"{100 * n['negative']:.0f} % of {len(found)}",
        flush=True,
    )


def flattening(config: Config) -> dict:
    """Return the curvatures of the network trained plainly, adversarially, and with CURE."""
    generator = torch.Generator().manual_seed(config.seed)

    def adversarial(model, points, labels):
        moved = pgd(
            model, points, labels, radius=RADIUS[config.data], steps=5,
            step_size=RADIUS[config.data] / 3, keep="last", generator=generator,
        )  # fmt: skip
        return functional.cross_entropy(model(moved.points), labels)

    found = {}
    for name, loss in (
        ("plain", cross_entropy),
        ("adversarial", adversarial),
        ("CURE", losses.curvature),
    ):
        model = trained(config, loss, config.trained, 2)
        points, pairs = boundaries(replace(config, images=10), model)
        measured = curvature(
            LogitDifference(model), points, labels=pairs, level=None, directions=False,
            smoothing=CentralDifference(config.h),
        )  # fmt: skip
        found[name] = numbers(measured)
        told(f"trained: {name}", measured)
        print(f"  sum of absolute principal curvatures {found[name]['size']:.2f}", flush=True)
    return found


def draw(config: Config, model: torch.nn.Module, held: dict[str, Curvature]) -> None:
    """Draw profile, means and cross-section."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    plots.curvature(held, left)
    plots.mean_curvatures(held["central"], middle)
    points, _ = boundaries(replace(config, images=1), model)
    answer = torch.tensor([0], device=config.device)
    moved = pgd(model, points[:1], answer, radius=0.5, steps=40, step_size=0.02, keep="last",
                generator=torch.Generator().manual_seed(config.seed))  # fmt: skip
    if bool(moved.success):
        with torch.no_grad():
            rival = int(model(moved.points).argmax(1))
        field = LogitDifference(model, 0, rival)
        plots.cross_section(cross_section(field, points[:1], moved.points), right)
    figure.savefig(config.out / "profile.png", dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Config))
