"""Shapes of class regions: Atzmon et al. figure A1; Bell 18, 31; Alonso & Bonin 2.3.3, 2.4.

Samples of the boundary of a network in the plane, drawn in the paper's three ways and spread
evenly: Chamfer and Hausdorff distance from a dense sample; how far the farthest point of surfaces
is from such a sample, a reconstructed one among them. Dimensions of orthants by the edge of
random matrices, and singular values around the boundary between two MNIST images. Pairs of one
class joined inside its region, and mixtures of k. Directions that the boundaries of many images
share. Where dropout samples change class between two images, and how far that is from a Gaussian.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from _results import write_results
from scipy.spatial import cKDTree
from torch import nn

from levelset import LogitDifference, Margin, attacks, project, sample_level_set
from levelset.boundary import (
    connect,
    convexity,
    dimension,
    dropout_crossings,
    normality,
    planarity,
    sample,
    shared_directions,
    subspace_persistence,
)
from levelset.cli._demo import scan_of_a_knot
from levelset.datasets import load_model, read_images
from levelset.reconstruction import extract_mesh, sample_surface, surface
from levelset.shapes import Orthant, Sphere, Torus


@dataclass(frozen=True)
class Config:
    """What is run."""

    data: Path = Path(os.environ.get("LEVELSET_DATA", "data"))
    """Folder with mnist/ and networks/; without it only what needs none is run."""
    networks: tuple[str, ...] = ("xent", "ours-eps0.4", "madry-eps0.3")
    """Released MNIST networks."""
    samples: int = 200
    """Samples in the plane."""
    seeds: int = 100
    """Seeds for each orthant."""
    pairs: int = 500
    """Pairs of one class."""
    verify: Literal["sampled", "exact"] = "sampled"
    """How their paths are looked at; `exact` proves each, in about a second."""
    mixtures: int = 1000
    """Mixtures for each k."""
    inputs: int = 1000
    """Images whose boundaries may share directions; a tenth for their persistence at most 30."""
    draws: int = 2000
    """Dropout samples."""
    seed: int = 0
    """Of all draws."""
    out: Path = Path("runs/class_regions")
    """Folder for config.json and result.json."""
    quick: bool = False
    """Small numbers throughout."""


def plane_network(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a network trained with cross-entropy on two spirals in a square of side 0.7."""
    generator = torch.Generator().manual_seed(seed)
    turn = 3.0 * torch.rand(600, 1, generator=generator)
    side = torch.arange(600) % 2
    angle = 1.6 * turn + torch.pi * side.unsqueeze(1)
    points = 0.1 * turn * torch.cat([angle.cos(), angle.sin()], 1)
    points = points + 0.008 * torch.randn(600, 2, generator=generator)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(1500):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(points), side).backward()
        optimizer.step()
    return model.double(), points.double(), side


def figure_a1(config: Config) -> dict[str, Any]:
    """Compare four samples of one boundary of the same size."""
    model, _, _ = plane_network(config.seed)
    field, generator = LogitDifference(model, 0, 1), torch.Generator().manual_seed(config.seed)
    box, n = 0.35, config.samples

    def uniform(count: int) -> torch.Tensor:
        return box * (2.0 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1.0)

    def on_boundary(starts: torch.Tensor) -> torch.Tensor:
        result = project(field, starts, tol=1e-7)
        inside = (result.points.abs() <= box).all(1)
        return result.points[result.converged & inside]

    dense = on_boundary(uniform(100_000))
    base = on_boundary(uniform(20 * n))
    base = base[torch.randperm(len(base), generator=generator)[:n]]

    def perturbed(sigma: float) -> torch.Tensor:
        drawn = torch.randn(4 * n, 2, generator=generator, dtype=torch.float64)
        return on_boundary(base.repeat(4, 1)[: 4 * n] + sigma * drawn)

    ways = {
        "uniform": on_boundary(uniform(20 * n)),
        "normal 0.01": perturbed(0.01),
        "normal 0.05": perturbed(0.05),
        "spread": sample_level_set(
            field, uniform(200), n, bounds=(-box, box), generator=generator
        ).points,
    }
    result = {}
    for name, points in ways.items():
        chosen = points[torch.randperm(len(points), generator=generator)[:n]]
        there, _ = cKDTree(chosen.numpy()).query(dense.numpy())
        back, _ = cKDTree(dense.numpy()).query(chosen.numpy())
        result[name] = {
            "samples": len(chosen),
            "chamfer": 0.5 * float(there.mean() + back.mean()),
            "hausdorff": float(max(there.max(), back.max())),
        }
        print(f"figure A1, {name:<12} {result[name]}")
    return result


def covering(config: Config) -> dict[str, float]:
    """Compare covering radii of samples of surfaces with those of hexagons, 0.62 sqrt(A / n)."""
    generator = torch.Generator().manual_seed(config.seed)
    knot = surface(scan_of_a_knot(5000, generator=generator), resolution=96, generator=generator)
    dense, _ = sample_surface(knot.mesh, 200_000, generator=generator)
    unit = [((part - knot.centre) / knot.scale).float() for part in (dense, knot.mesh.vertices)]
    cases: dict[str, tuple[Any, torch.Tensor, torch.Tensor, float]] = {
        "reconstructed knot": (knot.network, *unit, knot.mesh.area / knot.scale**2)
    }
    for name, shape in (("sphere", Sphere()), ("torus", Torus())):
        mesh = extract_mesh(shape, bounds=([-2.0] * 3, [2.0] * 3), resolution=128)
        dense, _ = sample_surface(mesh, 200_000, generator=generator)
        cases[name] = (shape, dense.float(), mesh.vertices.float(), mesh.area)
    result = {}
    for name, (field, dense, starts, area) in cases.items():
        everywhere = project(field, dense).points.double().numpy()
        for count in (config.samples, 3 * config.samples):
            chosen = starts[torch.randperm(len(starts), generator=generator)[:200]]
            samples = sample_level_set(field, chosen, count, generator=generator).points
            radius = cKDTree(samples.double().numpy()).query(everywhere)[0].max()
            result[f"{name}, {count}"] = float(radius / (0.6204 * math.sqrt(area / count)))
    print(f"covering radius over that of hexagons: {result}")
    return result


def orthants(config: Config) -> dict[int, int]:
    """Count the seeds in which an orthant has as many degenerate directions as planes."""
    right = {}
    for k in range(1, 11):
        right[k] = 0
        for seed in range(config.seeds):
            starts = torch.randn(1000, 50, generator=torch.Generator().manual_seed(seed))
            right[k] += dimension(Orthant(k=k, d=50).project(starts)).degenerate == k
    print(f"orthants, seeds right of {config.seeds}: {right}")
    return right


def of_network(name: str, config: Config) -> dict[str, Any]:
    """Measure spectra, planarity, paths, mixtures and shared directions of a released network."""
    generator = torch.Generator().manual_seed(config.seed)
    weights = config.data / "networks" / f"mnist-convnet4a-{name}.safetensors"
    model = load_model("convnet_4a", weights=str(weights))
    images = read_images(str(config.data / "mnist"), limit=3 * config.inputs)
    points = images.points
    with torch.no_grad():
        classes = torch.cat([model(part).argmax(1) for part in points.split(100)])
    result: dict[str, Any] = {}
    first, second = 0, int((classes != classes[0]).nonzero()[0])
    for law in ("gaussian", "flat"):
        cloud = sample(
            model, points[first], points[second], draws=1600, law=law, sigma=0.01,
            generator=generator,
        )  # fmt: skip
        spectrum = dimension(cloud.points, law=law)
        result[f"spectrum {law}"] = spectrum.summary()
    own = int(classes[first])
    flat = planarity(
        Margin(model), cloud.points[:20], labels=own, radii=[0.01 * 2**k for k in range(8)],
        draws=30, generator=generator,
    )  # fmt: skip
    result["planarity"] = flat.summary()
    start = torch.randint(len(points), (config.pairs,), generator=generator)
    partner = []
    for row in start.tolist():
        others = (classes == classes[row]).nonzero().flatten()
        partner.append(int(others[torch.randint(len(others), (), generator=generator)]))
    link = connect(model, points[start], points[partner], verify=config.verify)
    result["connect"] = link.summary()
    result["convexity"] = {
        k: convexity(model, points, k=k, draws=config.mixtures, generator=generator).summary()
        for k in (2, 3, 5, 10)
    }
    near, labels = points[: config.inputs], classes[: config.inputs]
    shared = shared_directions(Margin(model), near, labels=labels)
    universal = attacks.universal(model, near, labels, steps=30)
    count = max(shared.dominant, 1)
    result["shared"] = shared.summary() | {
        "share_of_universal": float(shared.share(universal.perturbation.unsqueeze(0), count=count)),
        "share_of_random": count / points[0].numel(),
    }
    some = points[: min(30, config.inputs // 10)]
    result["persistence"] = subspace_persistence(
        model, some, shared.directions[:count], draws=60, generator=generator
    ).summary()
    for key, value in result.items():
        print(f"{name}, {key}: {value}")
    return result


def dropout(config: Config) -> dict[str, Any]:
    """Train a small network with dropout on MNIST and ask where its samples change class."""
    images = read_images(str(config.data / "mnist"), limit=20 * config.inputs // 10)
    torch.manual_seed(config.seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Dropout(0.5), nn.Linear(200, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(15):
        for rows in torch.randperm(len(images.points)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.points[rows]), images.labels[rows]).backward()
            optimizer.step()
    result = {}
    for place in range(3):
        start = images.points[place]
        end = images.points[int((images.labels != images.labels[place]).nonzero()[place])]
        generator = torch.Generator().manual_seed(config.seed)
        crossings = dropout_crossings(model, start, end, draws=config.draws, generator=generator)
        fit = normality(crossings, generator=generator)
        several = (~crossings.isnan()).sum(1)
        result[str(place)] = fit.summary() | {"crossings_mean": float(several.double().mean())}
        print(f"dropout, pair {place}: {result[str(place)]}")
    return result


def main(config: Config) -> dict[str, Any]:
    """Run, print, write the result, and return it."""
    if config.quick:
        config = replace(
            config, networks=config.networks[:1], samples=40, seeds=2, pairs=10, mixtures=50,
            inputs=60, draws=50,
        )  # fmt: skip
    result: dict[str, Any] = {"figure_a1": figure_a1(config), "orthants": orthants(config),
        "covering": covering(config)}  # fmt: skip
    if (config.data / "mnist").is_dir():
        result["dropout"] = dropout(config)
        result |= {name: of_network(name, config) for name in config.networks}
    write_results(config, result)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
