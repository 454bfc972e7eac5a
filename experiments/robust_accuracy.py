"""Table 1 of Atzmon et al. 2019, its MNIST rows, from the three networks that were released.

Robust accuracy under PGD-40 within an L-infinity radius of 0.3, by cross-entropy and by margin,
judged as the paper judges it (the last iterate of one random start) and as an attacker would (any
iterate). Needs the folder of data that LEVELSET_DATA names.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro

from levelset.attacks import pgd
from levelset.datasets import load_model, read_images

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
    """Of the random starts."""
    out: Path = Path("runs/robust_accuracy")
    """Folder for config.json and result.json."""
    quick: bool = False
    """200 images only."""


def accuracies(model: torch.nn.Module, config: Config, loss: str, keep: str) -> list[float]:
    """Return the robust accuracy of each block of images, in per cent."""
    images = read_images("mnist", limit=config.images)
    shares = []
    for start in range(0, len(images), config.block):
        part = images[slice(start, start + config.block)]
        found = pgd(
            model,
            part.points,
            part.labels,
            radius=config.radius,
            steps=config.steps,
            step_size=config.step_size,
            loss=loss,
            keep=keep,
            generator=torch.Generator().manual_seed(config.seed + start // config.block),
        )
        shares.append(100.0 * float((~found.success).double().mean()))
    return shares


def main(config: Config) -> dict:
    """Run, print the table, write the result, and return it."""
    if "LEVELSET_DATA" not in os.environ:
        sys.exit("LEVELSET_DATA must name the folder with mnist/ and networks/.")
    if config.quick:
        config = replace(config, images=200, block=200)
    weights = Path(os.environ["LEVELSET_DATA"]) / "networks"
    result: dict = {}
    print("network        loss           judged  blocks  all   paper")
    for name, paper in PAPER.items():
        model = load_model("convnet_4a", weights / f"mnist-convnet4a-{name}.safetensors")
        for loss, printed in zip(LOSSES, paper, strict=True):
            for keep in ("last", "first"):
                blocks = accuracies(model, config, loss, keep)
                sizes = [
                    min(config.block, config.images - i * config.block) for i in range(len(blocks))
                ]
                mean = sum(b * s for b, s in zip(blocks, sizes, strict=True)) / sum(sizes)
                result[f"{name}, {loss}, {keep}"] = {"all": mean, "blocks": blocks}
                beside = f"{printed:.2f}" if keep == "last" else ""
                shown = " ".join(f"{b:.2f}" for b in blocks)
                print(f"{name:14} {loss:14} {keep:7} {shown}  {mean:.2f}  {beside}", flush=True)
    config.out.mkdir(parents=True, exist_ok=True)
    told = {**asdict(config), "out": str(config.out), "torch": torch.__version__}
    (config.out / "config.json").write_text(json.dumps(told, indent=2))
    (config.out / "result.json").write_text(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
