"""Table 1 of Atzmon et al. 2019, its MNIST rows, from the three networks that were released.

Robust accuracy under PGD-40 within an L-infinity radius of 0.3, by cross-entropy and by margin,
judged as the paper judges it: the last iterate of one random start. Beside it the truth, as far
as this library finds it, on the first images: those that no PGD broke and whose distance to the
boundary is above the radius. It is an upper bound still. Needs the folder of data that
LEVELSET_DATA names.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_results

from levelset.attacks import pgd
from levelset.boundary import Effort, distance
from levelset.datasets import Images, load_model, read_images

PAPER = {  # robust accuracy in per cent: cross-entropy, margin
    "xent": (13.59, 0.00),
    "madry-eps0.3": (96.04, 96.11),
    "ours-eps0.4": (99.23, 97.35),
}
LOSSES = ("cross_entropy", "margin")


@dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 10_000
    """Test images, from the first one on; the first 4,000 are the hard ones."""
    block: int = 2_000
    """Images that one number is printed for."""
    radius: float = 0.3
    """Largest change of a pixel; pixels go from 0 to 1."""
    steps: int = 40
    """Steps of one start."""
    step_size: float = 0.01
    """Largest change of a pixel in one step."""
    seed: int = 100
    """Of the random starts; each block of images adds its number."""
    truth_images: int = 1_000
    """Of these, the first ones, the truth is looked for."""
    truth_effort: Effort = "thorough"
    """How hard; the images that stand `quick` only."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("runs/robust_accuracy")
    """Folder for config.json and result.json."""
    quick: bool = False
    """200 images only, the truth of 20 of them at `quick`."""


def standing(model: torch.nn.Module, images: Images, config: Config, loss: str) -> torch.Tensor:
    """Return which images withstand PGD, `(n,)`."""
    parts = []
    for block, start in enumerate(range(0, len(images), config.block)):
        part = images[slice(start, start + config.block)]
        found = pgd(
            model,
            part.points,
            part.labels,
            radius=config.radius,
            steps=config.steps,
            step_size=config.step_size,
            loss=loss,
            keep="last",
            generator=torch.Generator().manual_seed(config.seed + block),
        )
        parts.append(~found.success)
    return torch.cat(parts)


def truth(
    model: torch.nn.Module, images: Images, left: torch.Tensor, config: Config
) -> torch.Tensor:
    """Return which of the images that are `left`, `(n,)`, are further from the boundary."""
    left = left.clone()
    efforts: list[Effort] = ["quick", config.truth_effort]
    for effort in dict.fromkeys(efforts):
        rows = left.nonzero().flatten()
        found = distance(
            model, images.points[rows], images.labels[rows], norm=math.inf, effort=effort
        )
        left[rows] = found.distance > config.radius
    return left


def main(config: Config) -> dict:
    """Run, print the table, write the result, and return it."""
    weights = data_folder("mnist", "networks") / "networks"
    if config.quick:
        config = replace(config, images=200, block=200, truth_images=20, truth_effort="quick")
    torch.backends.cudnn.allow_tf32 = False
    images = read_images("mnist", limit=config.images).to(config.device)
    few = images[slice(0, config.truth_images)]
    result: dict = {}
    print("network        robust under          all   paper  truth's images  blocks")
    for name, paper in PAPER.items():
        model = load_model("convnet_4a", weights / f"mnist-convnet4a-{name}.safetensors")
        model = model.to(config.device)
        stood = {loss: standing(model, images, config, loss) for loss in LOSSES}
        left = torch.stack(list(stood.values())).all(0)[: len(few)]
        for (loss, mask), printed in zip(stood.items(), paper, strict=True):
            shares = [per_cent(part) for part in mask.split(config.block)]
            told = {"all": per_cent(mask), "first": per_cent(mask[: len(few)]), "blocks": shares}
            result[f"{name}, {loss}"] = told
            shown = " ".join(f"{share:.2f}" for share in shares)
            print(
                f"{name:14} PGD, {loss:13} {told['all']:6.2f} {printed:6.2f} "
                f"{told['first']:6.2f} of {len(few):<5} {shown}",
                flush=True,
            )
        share = per_cent(truth(model, few, left, config))
        result[f"{name}, truth"] = {"first": share}
        print(f"{name:14} the truth, at most{'':15} {share:6.2f} of {len(few)}", flush=True)
    write_results(config, result)
    return result


def per_cent(mask: torch.Tensor) -> float:
    """Return the share of a mask that is true, in per cent."""
    return 100.0 * float(mask.double().mean())


if __name__ == "__main__":
    main(tyro.cli(Config))
