"""Table 2 of Bell 2023 in small: persistence of natural and attacked ImageNet images.

The paper attacks AlexNet and VGG-16; here a compressed SqueezeNet 1.0 and one image of every tenth
class. Attacks are BIM, MI-FGSM and PGD towards drawn targets, as in the paper. Persistence and
distortion are in units of the pixel range (0 to 1). Needs the folder of data that LEVELSET_DATA
names.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from levelset.attacks import distortion, igsm, mi_fgsm, pgd
from levelset.boundary import persistence
from levelset.networks import squeezenet1_0

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
    radius: float = 8.0 / 255.0
    """Largest change of a value; values go from 0 to 1."""
    steps: int = 5
    """Steps of each attack."""
    step_size: float = 2.0 / 255.0
    """Largest change of a value in one step."""
    keep: Literal["first", "last"] = "first"
    """Stop at the first point of the target class, or take all steps. With all, a distortion as
    large as the paper's leads deep into the target's class of this smaller network."""
    tolerance: float = 0.05
    """Relative standard error of each persistence."""
    seed: int = 0
    """Of targets, starts and noise."""
    threads: int = 1
    """Processor threads."""
    out: Path = Path("runs/bell_table_2")
    """Folder for config.json and result.json."""
    quick: bool = False
    """Four images."""


class Caffe(nn.Module):
    """SqueezeNet behind its own preprocessing: RGB from 0 to 1 in, BGR from 0 to 255 less means."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("means", torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1))

    def forward(self, points: Tensor) -> Tensor:
        return self.network(255.0 * points.flip(1) - self.means)


def load(home: Path, count: int) -> tuple[nn.Module, Tensor, Tensor]:
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
    return Caffe(network).eval().requires_grad_(False), torch.stack(points), torch.tensor(labels)


def main(config: Config) -> dict[str, dict[str, float]]:
    """Run, print the table beside the paper's, write the result, and return it."""
    if "LEVELSET_DATA" not in os.environ:
        sys.exit("LEVELSET_DATA must name the folder with imagenet/.")
    if config.quick:
        config = replace(config, images=4, tolerance=0.2)
    torch.set_num_threads(config.threads)
    model, points, labels = load(Path(os.environ["LEVELSET_DATA"]), config.images)
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in points.split(10)]) == labels
    points, labels = points[right], labels[right]
    generator = torch.Generator().manual_seed(config.seed)
    targets = (labels + torch.randint(1, 1000, labels.shape, generator=generator)) % 1000
    options = {"gamma": 0.7, "tolerance": config.tolerance, "generator": generator}
    natural = persistence(model, points, **options)
    attack = {
        "radius": config.radius, "steps": config.steps, "step_size": config.step_size,
        "keep": config.keep, "targets": targets,
    }  # fmt: skip
    attacks = {
        "BIM": partial(igsm, **attack),
        "MIFGSM": partial(mi_fgsm, **attack),
        "PGD": partial(pgd, **attack, generator=generator),
    }
    result = {}
    print("attack  successes  distortion  natural  adversarial  factor   paper: factors")
    for name, run in attacks.items():
        found = run(model, points, labels)
        won = found.success
        after = persistence(model, found.points[won], **options)
        means = [float(p.sigma[p.found].mean()) for p in (natural[won], after)]
        result[name] = {
            "images": len(points), "successes": int(won.sum()),
            "distortion": float(distortion(points[won], found.points[won]).mean()),
            "natural": means[0], "adversarial": means[1], "factor": means[0] / means[1],
        }  # fmt: skip
        factors = " and ".join(f"{row[1] / row[2]:.1f}" for row in PAPER[name])
        print(
            f"{name:<7} {int(won.sum()):4d} of {len(won):3d} {result[name]['distortion']:10.4f} "
            f"{means[0]:9.4f} {means[1]:12.4f} {means[0] / means[1]:7.1f}   {factors}",
            flush=True,
        )
    config.out.mkdir(parents=True, exist_ok=True)
    told = {**asdict(config), "out": str(config.out), "torch": torch.__version__}
    (config.out / "config.json").write_text(json.dumps(told, indent=2))
    (config.out / "result.json").write_text(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
