"""Table A3 of Atzmon et al. 2019: black-box attacks between the three networks that were released.

With `--trained`, folders of `robust_training.py`, networks that were trained here beside them.

PGD-40 within an L-infinity radius of 0.3 on one network (the row), judged on every network (the
column), by cross-entropy and by margin. Prints the tables beside the paper's, writes result.json,
and draws a heat map from it if matplotlib is there. Needs the folder of data that LEVELSET_DATA
names.
"""

import importlib.util
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_results

from levelset import plots
from levelset.attacks import Transfer, pgd, transfer
from levelset.datasets import load_model, read_images

NAMES = {"xent": "Standard", "madry-eps0.3": "Madry", "ours-eps0.4": "Ours"}
PAPER = {  # robust accuracy in per cent, by source and target; the paper leaves Standard untested
    "cross_entropy": {
        ("Standard", "Madry"): 98.96, ("Madry", "Madry"): 96.04, ("Ours", "Madry"): 99.21,
        ("Standard", "Ours"): 99.04, ("Madry", "Ours"): 97.78, ("Ours", "Ours"): 99.23,
    },
    "margin": {
        ("Standard", "Madry"): 98.95, ("Madry", "Madry"): 96.11, ("Ours", "Madry"): 98.78,
        ("Standard", "Ours"): 99.04, ("Madry", "Ours"): 97.87, ("Ours", "Ours"): 97.35,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 10_000
    """Test images, from the first one on; the first 4,000 are the hard ones."""
    radius: float = 0.3
    """Largest change of a pixel; pixels go from 0 to 1."""
    steps: int = 40
    """Steps of one start."""
    step_size: float = 0.01
    """Largest change of a pixel in one step."""
    seed: int = 0
    """Of the random starts."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("runs/transfer")
    """Folder for config.json, result.json and transfer.png."""
    trained: tuple[Path, ...] = ()
    """Folders with weights.safetensors of ConvNet-4a, of runs here; shown by their names."""
    quick: bool = False
    """100 images only."""


def main(config: Config) -> dict:
    """Run, print the tables, write the result and its figure, and return it."""
    weights = data_folder("mnist", "networks") / "networks"
    if config.quick:
        config = replace(config, images=100)
    torch.backends.cudnn.allow_tf32 = False
    models = {
        shown: load_model("convnet_4a", weights / f"mnist-convnet4a-{name}.safetensors")
        for name, shown in NAMES.items()
    }
    models |= {
        folder.name: load_model("convnet_4a('relu')", folder / "weights.safetensors")
        for folder in config.trained
    }
    models = {name: model.to(config.device) for name, model in models.items()}
    images = read_images("mnist", limit=config.images).to(config.device)
    result: dict = {"names": list(models)}
    for loss in PAPER:
        attack = partial(
            pgd, radius=config.radius, steps=config.steps, step_size=config.step_size, loss=loss,
            keep="last", generator=torch.Generator().manual_seed(config.seed),
        )  # fmt: skip
        table = transfer(models, images.points, images.labels, attack=attack)
        result[loss] = (100.0 * table.accuracy).tolist()
        result["clean"] = (100.0 * table.clean).tolist()
        show(loss, result)
    write_results(config, result)
    if importlib.util.find_spec("matplotlib"):
        draw(config.out / "result.json", config.out / "transfer.png")
    return result


def show(loss: str, result: dict) -> None:
    """Print one table, the paper's numbers in brackets."""
    print(f"PGD by {loss}: rows are sources, columns targets")
    wide = max(map(len, result["names"])) + 2
    print(" " * wide + "".join(f"{name:>18}" for name in result["names"]))
    for source, row in zip(result["names"], result[loss], strict=True):
        cells = []
        for target, share in zip(result["names"], row, strict=True):
            paper = PAPER[loss].get((source, target))
            cells.append(f"{share:.2f}" + ("" if paper is None else f" ({paper:.2f})"))
        print(f"{source:{wide}}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def draw(source: Path, target: Path) -> None:
    """Draw the heat maps of a result."""
    from matplotlib.figure import Figure

    result = json.loads(source.read_text())
    size = 1.5 * max(3, len(result["names"]))
    figure = Figure(figsize=(2 * size, size), layout="constrained")
    for axes, loss in zip(figure.subplots(1, 2), PAPER, strict=True):
        shares = torch.tensor(result[loss]) / 100.0
        clean = torch.tensor(result["clean"]) / 100.0
        plots.transfer(Transfer(tuple(result["names"]), shares, clean), axes)
        axes.set_title(loss.replace("_", "-"))
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Config))
