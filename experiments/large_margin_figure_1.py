"""Figure 1 of Atzmon et al. 2019: a boundary in the plane, by four losses.

Sixteen points of two classes in [0, 0.5]^2, network FC-1: (a) cross-entropy; the boundary kept away
from the points by samples of it (b) in the L-infinity norm, (c) in L2; (d) the geometric SVM, with
its level sets +1 and -1. The paper shows four pictures and doesn't give its points; here they are
drawn at random, no two nearer than 0.08, with random classes. (b), (c) and (d) begin with the
cross-entropy: from random weights (b) came to a single class. Prints for each panel the least
distance of a point to the boundary, the margin, in both norms, by `boundary.distance`, and the
margin that no boundary can exceed: half of the least distance of two points of different classes.
Goal: (b), (c) and (d) at least 1.5 times the margin of (a).
"""

import importlib.util
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor, nn

from levelset import Margin, Newton, attach, project
from levelset.boundary import distance
from levelset.losses import geometric_svm
from levelset.networks import fc_1
from levelset.training import cross_entropy, initialise

COUNT, SIDE, APART = 16, 0.5, 0.08
# Where a search of the boundary starts, beside the point itself.
STARTS = 5
# What is drawn, and how finely.
WINDOW, CELLS = (-0.1, 0.6), 150


@dataclass(frozen=True)
class Config:
    """What is run."""

    epochs: int = 1000
    """Of training, as in the paper."""
    warm: int = 200
    """The first of these, by cross-entropy in every panel."""
    batch: int = 16
    """Points a step; the paper takes 1."""
    learning_rate: float = 1e-3
    """Of Adam, as in the paper; it falls to 0 along a cosine."""
    weight: float = 0.01
    """The factor lambda of the geometric SVM; the paper takes 0.001."""
    reach: float = 0.95
    """The distance asked for in (b) and (c), as a part of the largest possible margin."""
    panels: tuple[Literal["a", "b", "c", "d"], ...] = ("a", "b", "c", "d")
    """Which to train; what `out` holds of the others, by the same options, is kept."""
    seed: int = 0
    """Of points, classes and weights."""
    out: Path = Path("runs/large_margin_figure_1")
    """Folder for config.json, result.json and the figure."""
    quick: bool = False
    """20 epochs."""


def draw_points(seed: int) -> tuple[Tensor, Tensor]:
    """Return points that keep apart, `(16, 2)`, and their classes, eight of each."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.empty(0, 2)
    while len(points) < COUNT:
        one = SIDE * torch.rand(1, 2, generator=generator)
        if len(points) == 0 or float(torch.cdist(points, one).min()) > APART:
            points = torch.cat([points, one])
    return points, torch.randperm(COUNT, generator=generator) % 2


def largest_margin(points: Tensor, labels: Tensor, norm: float) -> float:
    """Return half of the least distance of two points of different classes."""
    return float(torch.cdist(points[labels == 0], points[labels == 1], p=norm).min()) / 2


def at_distance(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    *,
    radius: float,
    norm: float,
    generator: torch.Generator,
) -> Tensor:
    """Return Eq. 12 in any norm: how much nearer than the radius the boundary is.

    Newton's iteration starts from the point and from places around it; the nearest end counts.
    """
    field = Margin(model)
    draws = torch.rand(STARTS, *points.shape, generator=generator)
    starts = points + radius * (2.0 * draws - 1.0)
    starts = torch.cat([points.unsqueeze(0), starts])
    every = labels.repeat(len(starts))
    ends = project(field, starts.flatten(0, 1), labels=every, method=Newton(10), tol=1e-3)
    reach = torch.linalg.vector_norm(ends.points.view_as(starts) - points, ord=norm, dim=2)
    reach = torch.where(ends.converged.view_as(reach), reach, torch.inf)
    rows = reach.argmin(0) * len(points) + torch.arange(len(points))
    boundary = attach(field, ends[rows])
    away = torch.linalg.vector_norm(points - boundary, ord=norm, dim=1)
    side = field(points, labels).detach().sign()
    return (radius - side * away).clamp(min=0.0).mean()


def panels(config: Config, points: Tensor, labels: Tensor) -> dict[str, Callable[..., Tensor]]:
    """Return the loss of each panel."""

    def kept(norm: float) -> Callable[..., Tensor]:
        radius = config.reach * largest_margin(points, labels, norm)
        options = {"radius": radius, "norm": norm, "generator": generator}
        return lambda model, x, y: at_distance(model, x, y, **options) / radius

    generator = torch.Generator().manual_seed(config.seed)

    return {
        "a: cross-entropy": cross_entropy,
        "b: away in Linf": kept(math.inf),
        "c: away in L2": kept(2.0),
        "d: geometric SVM": lambda model, x, y: geometric_svm(
            model, x, y, weight=config.weight, norm=2.0, ratio="output", max_iter=3
        ),
    }


def trained(loss: Callable[..., Tensor], points: Tensor, labels: Tensor, config: Config):
    """Return a network that a loss has trained."""
    generator = torch.Generator().manual_seed(config.seed)
    network = initialise(fc_1(2, 2), generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    for epoch in range(config.epochs):
        lowered = cross_entropy if epoch < config.warm else loss
        for rows in torch.randperm(COUNT, generator=generator).split(config.batch):
            optimizer.zero_grad()
            lowered(network, points[rows], labels[rows]).backward()
            optimizer.step()
        falling.step()
    return network.eval().requires_grad_(False)


def measured(network: nn.Module, points: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy, and the least distance to the boundary in both norms, 0 where wrong."""
    right = network(points).argmax(1) == labels
    numbers = {"right": int(right.sum())}
    for name, norm in (("L2", 2.0), ("Linf", math.inf)):
        reach = distance(
            network, points, labels, norm=norm, bounds=(-1.0, 2.0), effort="standard",
            generator=torch.Generator().manual_seed(0),
        ).distance  # fmt: skip
        numbers[name] = float(torch.where(right, reach, 0.0).min())
    return numbers


def grid(network: nn.Module) -> list[list[float]]:
    """Return the margin of class 1 over the window, row by row."""
    line = torch.linspace(*WINDOW, CELLS)
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y], dim=-1).view(-1, 2)
    ones = torch.ones(len(places), dtype=torch.int64)
    return Margin(network)(places, ones).view(CELLS, CELLS).tolist()


def main(config: Config) -> dict:
    """Run, print, write the result and its figure, and return it."""
    if config.quick:
        config = replace(config, epochs=20, warm=10)
    torch.set_num_threads(1)
    points, labels = draw_points(config.seed)
    norms = {"L2": 2.0, "Linf": math.inf}
    most = {name: largest_margin(points, labels, norm) for name, norm in norms.items()}
    rows = earlier(config)
    for name, loss in panels(config, points, labels).items():
        if name[0] in config.panels:
            began = time.process_time()
            network = trained(loss, points, labels, config)
            rows[name] = measured(network, points, labels) | {"grid": grid(network)}
            rows[name]["seconds"] = time.process_time() - began
    rows = dict(sorted(rows.items()))
    table(rows, most)
    result = {"points": points.tolist(), "labels": labels.tolist(), "most": most, "panels": rows}
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "config.json").write_text(json.dumps(described(config), indent=2))
    (config.out / "result.json").write_text(json.dumps(result))
    if importlib.util.find_spec("matplotlib"):
        for kind in ("png", "svg"):
            draw(config.out / "result.json", config.out / f"figure_1.{kind}")
    return result


def described(config: Config) -> dict:
    """Return the options that the panels have in common."""
    options = {**asdict(config), "out": str(config.out), "torch": torch.__version__}
    del options["panels"]
    return options


def earlier(config: Config) -> dict[str, dict]:
    """Return the panels that the folder holds by the same options, but for those asked for."""
    files = [config.out / "config.json", config.out / "result.json"]
    if not all(file.exists() for file in files):
        return {}
    options, result = (json.loads(file.read_text()) for file in files)
    panels = result["panels"] if options == described(config) else {}
    return {name: row for name, row in panels.items() if name[0] not in config.panels}


def table(rows: dict[str, dict], most: dict[str, float]) -> None:
    """Print the margins of each panel, and how many times those of (a) they are."""
    print("panel              right   L2 margin  x (a)   Linf margin  x (a)   CPU s")
    first = next(iter(rows.values()))
    for name, row in rows.items():
        times = {norm: row[norm] / max(first[norm], 1e-9) for norm in most}
        print(
            f"{name:18} {row['right']:2d}/{COUNT} {row['L2']:11.4f} {times['L2']:6.2f} "
            f"{row['Linf']:13.4f} {times['Linf']:6.2f} {row['seconds']:7.1f}"
        )
    print(f"{'largest possible':18} {most['L2']:17.4f} {most['Linf']:20.4f}")


def draw(source: Path, target: Path) -> None:
    """Draw the four panels of a result."""
    from matplotlib.figure import Figure

    result = json.loads(source.read_text())
    points, labels = torch.tensor(result["points"]), torch.tensor(result["labels"])
    line = torch.linspace(*WINDOW, CELLS)
    figure = Figure(figsize=(3.25 * len(result["panels"]), 3.7), layout="constrained")
    panels = figure.subplots(1, len(result["panels"]), squeeze=False)[0]
    for axes, (name, row) in zip(panels, result["panels"].items(), strict=True):
        values = torch.tensor(row["grid"])
        axes.contourf(line, line, values, [-1e9, 0.0, 1e9], colors=["#F6D9C8", "#CFE3F2"])
        if name.startswith("d"):
            axes.contour(line, line, values, [-1.0], colors="#D55E00", linewidths=1.0)
            axes.contour(line, line, values, [1.0], colors="#2A86C8", linewidths=1.0)
        axes.contour(line, line, values, [0.0], colors="#111111", linewidths=1.6)
        for label, colour, marker in ((0, "#D55E00", "s"), (1, "#2A86C8", "o")):
            some = points[labels == label]
            axes.scatter(*some.T, color=colour, marker=marker, s=28, edgecolor="white", zorder=3)
        axes.set(aspect="equal", xticks=(0.0, 0.25, 0.5), yticks=(0.0, 0.25, 0.5))
        axes.set_title(f"{name}\nmargin L2 {row['L2']:.3f}, Linf {row['Linf']:.3f}", fontsize=10)
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Config))
