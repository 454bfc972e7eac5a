"""Table 2 of Bell 2023 in small: persistence of natural and attacked ImageNet images.

The paper attacks AlexNet and VGG-16 on images of goldfinches; here a compressed SqueezeNet 1.0 and
one image of every tenth class, those that it classifies right. Attacks are BIM, MI-FGSM and PGD
towards drawn targets, and those that reach their target count, as in the paper. Each is run at four
radii, with all its steps, as the paper's library does, and stopped at the first point of the
target's class. Persistence and distortion are in units of the pixel range
(0 to 1). Needs the folder of data that LEVELSET_DATA names.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
import tyro
from _results import data_folder, write_settings
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from levelset.attacks import Attack, distortion, igsm, mi_fgsm, pgd
from levelset.boundary import Persistence, persistence
from levelset.networks import squeezenet1_0

# All steps, as in the paper, or no more than it takes to reach the target.
Keep: TypeAlias = Literal["last", "first"]
PAPER = {  # distortion, natural, adversarial: AlexNet, then VGG-16
    "BIM": ((0.0188, 0.0162, 0.0050), (0.0181, 0.0145, 0.0012)),
    "MIFGSM": ((0.0240, 0.0159, 0.0053), (0.0238, 0.0149, 0.0018)),
    "PGD": ((0.0188, 0.0162, 0.0050), (0.0181, 0.0145, 0.0012)),
}


@dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 100
    """Images; those classified right are used."""
    radii: tuple[float, ...] = (8.0 / 255.0, 4.0 / 255.0, 2.0 / 255.0, 1.0 / 255.0)
    """Largest change of a value, from 0 to 1; at the first as long as the paper's."""
    steps: int = 5
    """Steps of each attack."""
    step: float = 0.25
    """Largest change of a value in one step, as a share of the radius."""
    tolerance: float = 0.05
    """Relative standard error of each persistence."""
    sure: float = 0.9
    """Probability of the answer above which an image counts as one the network is sure of."""
    seed: int = 0
    """Of targets, starts and noise."""
    alone: tuple[str, ...] = ()
    """Only these rows, such as `MIFGSM last 0.0314`; none for all. A row takes about an hour of a
    processor core, or seconds of a GPU."""
    bfloat16: bool = False
    """Let the network compute in bfloat16, three times as fast where the processor knows it; the
    factors are the same within their errors."""
    device: str = "cpu"
    """Where to compute."""
    threads: int = 1
    """Processor threads."""
    out: Path = Path("runs/bell_table_2")
    """Folder for config.json and result.json."""
    quick: bool = False
    """Four images."""


class Caffe(nn.Module):
    """SqueezeNet behind its own preprocessing: RGB from 0 to 1 in, BGR from 0 to 255 less means."""

    means: Tensor

    def __init__(self, network: nn.Module, bfloat16: bool) -> None:
        super().__init__()
        self.network, self.short = network, bfloat16
        self.register_buffer("means", torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1))

    def forward(self, points: Tensor) -> Tensor:
        values = 255.0 * points.flip(1) - self.means
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self.short):
            logits: Tensor = self.network(values)
        return logits.to(points.dtype)


def load(home: Path, count: int, *, bfloat16: bool = True) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network, and images `(n, 3, 227, 227)` from 0 to 1 with their labels."""
    network = squeezenet1_0()
    weights = load_file(home / "imagenet" / "squeezenet1_0.safetensors")
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    lines = (home / "imagenet" / "classes.txt").read_text(encoding="utf-8").splitlines()
    place = {line.split("\t")[0]: row for row, line in enumerate(lines)}
    points, labels = [], []
    for path in sorted((home / "imagenet" / "val-sample").glob("*.JPEG"))[:count]:
        picture = np.asarray(Image.open(path).convert("RGB"))
        top, left = (picture.shape[0] - 227) // 2, (picture.shape[1] - 227) // 2
        crop = torch.from_numpy(picture[top : top + 227, left : left + 227].copy())
        points.append(crop.permute(2, 0, 1).float() / 255.0)
        labels.append(place[path.name.split("_")[0]])
    model = Caffe(network, bfloat16).eval().requires_grad_(False)
    return model, torch.stack(points), torch.tensor(labels)


def attacked(
    name: str, keep: Keep, radius: float, config: Config, problem: tuple[nn.Module, Tensor, Tensor]
) -> Attack:
    """Return one attack on all images, towards targets drawn anew from the same seed."""
    model, points, labels = problem
    generator = torch.Generator().manual_seed(config.seed)
    away = torch.randint(1, 1000, labels.shape, generator=generator).to(labels.device)
    targets = (labels + away) % 1000
    attacks: dict[str, Callable[..., Attack]] = {
        "BIM": igsm, "MIFGSM": mi_fgsm, "PGD": partial(pgd, generator=generator),
    }  # fmt: skip
    return attacks[name](
        model, points, labels, targets=targets, radius=radius, steps=config.steps,
        step_size=config.step * radius, keep=keep,
    )  # fmt: skip


def named(name: str, keep: Keep, radius: float) -> str:
    """Return what a row is called."""
    return f"{name} {keep} {radius:.4f}"


def row(
    points: Tensor, sure: Tensor, natural: Persistence, found: Attack, after: Persistence
) -> dict[str, float]:
    """Return what the table says of one attack: means over the images that reached their target."""
    won, sure = found.success, sure[found.success]
    before, later = natural.sigma[won].double(), after.sigma.double()
    kept = before.isfinite() & later.isfinite()
    before, later, sure = before[kept], later[kept], sure[kept]
    if not len(before):
        return {"images": len(points), "successes": int(won.sum())}
    factor = before.mean() / later.mean()
    # The standard error of a ratio of means, over the images.
    spread = (before - factor * later).std() / later.mean() / len(before) ** 0.5
    return {
        "images": len(points), "successes": int(won.sum()), "measured": len(before),
        "distortion": float(distortion(points[won], found.points[won]).mean()),
        "natural": float(before.mean()), "adversarial": float(later.mean()),
        "factor": float(factor), "factor_error": float(spread),
        "factor_median": float((before / later).median()),
        "shorter": float((later < before).double().mean()),
        "sure": int(sure.sum()), "factor_sure": float(before[sure].mean() / later[sure].mean()),
    }  # fmt: skip


def main(config: Config) -> dict[str, dict[str, float]]:
    """Run, print the table beside the paper's, write the result, and return it."""
    home = data_folder("imagenet")
    if config.quick:
        config = replace(config, images=4, tolerance=0.2, radii=config.radii[:1])
    torch.set_num_threads(config.threads)
    torch.backends.cudnn.allow_tf32 = False
    problem = load(home, config.images, bfloat16=config.bfloat16)
    model, points, labels = (part.to(config.device) for part in problem)
    with torch.no_grad():
        logits = torch.cat([model(part) for part in torch.split(points, 10)])
    right = logits.argmax(1) == labels
    points, labels, sure = points[right], labels[right], logits.softmax(1).amax(1)[right]

    def measured(held: Tensor) -> Persistence:
        # Numbers as many as pixels are drawn where the network computes.
        generator = torch.Generator(config.device).manual_seed(config.seed + 1)
        return persistence(model, held, gamma=0.7, tolerance=config.tolerance, generator=generator)

    write_settings(config)
    natural, result = measured(points), {}
    plan = [
        (name, keep, radius)
        for keep in get_args(Keep) for radius in config.radii for name in PAPER
    ]  # fmt: skip
    if config.alone:
        plan = [entry for entry in plan if named(*entry) in config.alone]
    print("attack  steps  radius  successes  distortion  natural  adversarial  factor   paper")
    for name, keep, radius in plan:
        found = attacked(name, keep, radius, config, (model, points, labels))
        told = row(
            points, sure > config.sure, natural, found, measured(found.points[found.success])
        )
        result[named(name, keep, radius)] = told
        (config.out / "result.json").write_text(json.dumps(result, indent=2))
        paper = " and ".join(f"{line[1] / line[2]:.1f}" for line in PAPER[name])
        head = f"{name:<7} {keep:<5} {radius:.4f} {told['successes']:4d} of {told['images']:3d}"
        if "factor" not in told:
            print(head, flush=True)
            continue
        print(
            f"{head} {told['distortion']:10.4f} {told['natural']:9.4f} "
            f"{told['adversarial']:11.4f} {told['factor']:6.1f} +- {told['factor_error']:.1f}   "
            f"{paper}; median {told['factor_median']:.1f}, shorter {told['shorter']:.0%}, "
            f"of the {told['sure']} sure ones {told['factor_sure']:.1f}",
            flush=True,
        )
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
