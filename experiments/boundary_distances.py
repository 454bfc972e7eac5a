"""How far test images are from the boundary, by how a network was trained: the authors' reply.

Atzmon et al. 2019, reply to the reviewers: histograms of the distances of MNIST test images to
their projections on the zero level set, for a network trained with samples of it and one trained
without. Here the distance is that of `boundary.distance`, at most that of a projection, for the
networks that were released, and, with `--trained`, for those of `robust_training.py`; of these also
the share of the samples that converged in each epoch: the paper reports 80 to 90 % early in
training and 20 to 30 % late. Inputs that a network answers wrong are left out. Needs the folder of
data that LEVELSET_DATA names.
"""

import importlib.util
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_results
from torch import Tensor, nn

from levelset.boundary import Effort, distance
from levelset.datasets import load_model, read_images
from levelset.training import History

RELEASED = {
    "mnist-convnet4a-xent": "cross-entropy, released",
    "mnist-convnet4a-madry-eps0.3": "Madry, released",
    "mnist-convnet4a-ours-eps0.4": "level sets, released",
}


@dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 300
    """Test images, from the first one on."""
    effort: Effort = "quick"
    """Of the distances."""
    norm: float = math.inf
    """Of the distances: 2 or inf."""
    trained: tuple[Path, ...] = ()
    """Folders of robust_training.py; shown by their names."""
    out: Path = Path("runs/boundary_distances")
    """Folder for config.json, result.json and the figures."""
    quick: bool = False
    """30 images."""


def distances(network: nn.Module, points: Tensor, labels: Tensor, config: Config) -> list[float]:
    """Return the distances to the boundary of the images that are answered right."""
    result = distance(
        network, points, labels, norm=config.norm, effort=config.effort,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return result.distance[result.distance > 0].tolist()


def main(config: Config) -> dict:
    """Run, print the medians, write the result and its figures, and return it."""
    weights = data_folder("mnist", "networks") / "networks"
    if config.quick:
        config = replace(config, images=30)
    data = read_images("mnist", limit=config.images)
    models = {
        shown: load_model("convnet_4a", weights / f"{name}.safetensors")
        for name, shown in RELEASED.items()
    } | {
        folder.name: load_model("convnet_4a('relu')", folder / "weights.safetensors")
        for folder in config.trained
    }
    lengths: dict[str, list[float]] = {}
    print(f"{'network':28} {'right':>6} {'median':>8} {'5 %':>8} {'nearest':>8}")
    for name, model in models.items():
        lengths[name] = distances(model, data.points, data.labels, config)
        reach = torch.tensor(lengths[name])
        median, few = (float(reach.quantile(share)) for share in (0.5, 0.05))
        print(
            f"{name:28} {len(reach):6} {median:8.3f} {few:8.3f} {float(reach.min()):8.3f}",
            flush=True,
        )
    converged = {folder.name: History.read(folder).converged.tolist() for folder in config.trained}
    result = {"distances": lengths, "converged": converged}
    write_results(config, result)
    if importlib.util.find_spec("matplotlib"):
        draw(config.out / "result.json", config.out / "boundary_distances.png")
    return result


def draw(source: Path, target: Path) -> None:
    """Draw the histograms of a result, and the shares that converged where there are any."""
    from matplotlib.figure import Figure

    result = json.loads(source.read_text())
    shares = {
        name: values
        for name, values in result["converged"].items()
        if not all(map(math.isnan, values))
    }
    figure = Figure(figsize=(11.0 if shares else 6.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
    most = max(max(values) for values in result["distances"].values())
    bins = torch.linspace(0.0, most, 41).tolist()
    for name, values in result["distances"].items():
        panels[0].hist(values, bins, histtype="step", linewidth=1.6, label=name)
    panels[0].set(xlabel="distance to the boundary", ylabel="test images")
    panels[0].legend(fontsize=8)
    for name, values in shares.items():
        epochs = range(1, len(values) + 1)
        panels[1].plot(epochs, [100.0 * value for value in values], marker="o", ms=3, label=name)
    if shares:
        panels[1].set(xlabel="epoch", ylabel="samples that converged, %", ylim=(0, 102))
        panels[1].legend(fontsize=8)
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Config))
