"""Does adversarial training flatten? The claim of Alonso and Bonin, 2.3.2, on released networks.

Three networks of one architecture, trained on MNIST plainly, by Madry's adversarial training and
by the level-set loss of Atzmon et al. For each image the nearest point of each network's boundary
is found, and the principal curvatures there are measured by differences of the same h for all (the
width of a softplus is in the units of a network's own activations, which differ). The Hessian of
the loss at the images, which the claim's source measures on CIFAR-10, is no measure here: all three
networks are so certain that it is 0 to rounding. Prints medians over the images and their ratio to
the plain network, writes result.json. Needs the folder of data that LEVELSET_DATA names.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_results

from levelset import LogitDifference, project
from levelset.boundary import CentralDifference, curvature, distance
from levelset.datasets import load_model, read_images

NETWORKS = ("xent", "madry-eps0.3", "ours-eps0.4")
PAPER = "paper: adversarial training makes the curvature of the boundary significantly smaller"


@dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 50
    """Test images, the first that all three networks answer right."""
    h: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Shifts of the differences, in pixels' units; the paper's is 0.1."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("runs/flattening")
    """Folder for config.json and result.json."""
    quick: bool = False
    """Two images, one h."""


def main(config: Config) -> dict:
    """Run, print, write the result and return it."""
    folder = data_folder("mnist", "networks") / "networks"
    if config.quick:
        config = replace(config, images=2, h=config.h[:1])
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    models = {
        name: load_model("convnet_4a", folder / f"mnist-convnet4a-{name}.safetensors")
        for name in NETWORKS
    }
    models = {name: model.to(config.device) for name, model in models.items()}
    points, labels = images(config, models)
    print(PAPER)
    result = {}
    for name, model in models.items():
        result[name] = measured(config, model, points, labels)
        print(f"{name}, {len(points)} images", flush=True)
        for key, value in result[name].items():
            ratio = value / result[NETWORKS[0]][key]
            print(f"  {key:46} {value:10.4g}   {ratio:8.3f} x {NETWORKS[0]}", flush=True)
    write_results(config, result)
    return result


def images(config: Config, models: dict[str, torch.nn.Module]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first images that all networks answer right."""
    data = read_images("mnist", limit=config.images + 50).to(config.device)
    with torch.no_grad():
        right = torch.stack(
            [model(data.points).argmax(1) == data.labels for model in models.values()]
        )
    kept = right.all(0)
    return data.points[kept][: config.images], data.labels[kept][: config.images]


def measured(
    config: Config, model: torch.nn.Module, points: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """Return medians over the images, of the curvatures at each h."""
    nearest = distance(model, points, labels)
    with torch.no_grad():
        rivals = model(nearest.points).argmax(1)
    pairs = torch.stack([labels, rivals], 1)
    field = LogitDifference(model)
    landed = project(field, nearest.points, labels=pairs, tol=1e-4)
    found = {
        "L2 distance to the boundary": median(nearest.distance),
        "largest residual there": float(landed.residual.max()),
    }
    for h in config.h:
        bent = curvature(
            field, landed.points, labels=pairs, smoothing=CentralDifference(h), level=None,
            directions=False,
        )  # fmt: skip
        size = bent.principal.abs()
        found |= {
            f"h = {h:g}: largest curvature in size": median(size.amax(1)),
            f"h = {h:g}: the same times the distance": median(size.amax(1) * nearest.distance),
            f"h = {h:g}: sum of sizes": median(size.sum(1)),
            f"h = {h:g}: share of negative ones": median((bent.principal < 0).double().mean(1)),
        }
    return found


def median(values: torch.Tensor) -> float:
    """Return the median as a number."""
    return float(values.double().median())


if __name__ == "__main__":
    main(tyro.cli(Config))
