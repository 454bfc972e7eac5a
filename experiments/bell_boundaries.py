"""Bell 2023, sections 29 to 37: images of boundaries, Delaunay boundaries, skewed orthants.

Theorem 30.6: how fast the epsilon-Delaunay boundary of random points on a circle and a sphere comes
near the true boundary, as the longest edge epsilon goes to 0. Section 29.4: the image of the
boundary of three classes in the simplex of their probabilities. Sections 32 and 37, does a skewed
orthant recreate the picture of persistence along a line?: along the centre line of wedges, from
outside to inside, the exact 0.7-persistence over the distance from the boundary. Between images the
paper sees persistence that is high around a natural image, and falls to far lower values around the
adversarial one. One plane alone gives the same on both sides.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import tyro
from _results import write_results
from scipy.spatial import ConvexHull, cKDTree

from levelset.boundary import decision_level, sample
from levelset.datasets import load_model, read_images
from levelset.plots import simplex
from levelset.shapes import DelaunayClassifier, Wedge

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Config:
    """What is run."""

    sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    """Numbers of random points on the circle and on the sphere."""
    seeds: int = 10
    """Of those points."""
    planes: tuple[int, ...] = (1, 2, 4, 10)
    """Numbers of planes of a wedge."""
    angles: tuple[float, ...] = (-0.6, 0.0, 0.6, 1.2)
    """By how much each plane but the first is tipped, in radians."""
    gamma: float = 0.7
    """Share that keeps its side."""
    clouds: int = 150
    """Points of the boundary between each two of three digits."""
    out: Path = Path("runs/bell_boundaries")
    """Folder for config.json, result.json and figure.png."""
    quick: bool = False
    """Few points, two numbers of planes."""


def circle_boundary(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return where the weights of two classes tie on a circle, and the longest edge.

    On the chord between two neighbours of different class the weights tie in its middle.
    """
    order = np.argsort(np.arctan2(points[:, 1], points[:, 0]))
    one, other = points[order], np.roll(points[order], -1, axis=0)
    mixed = labels[order] != np.roll(labels[order], -1)
    return (one[mixed] + other[mixed]) / 2, float(np.linalg.norm(one - other, axis=1).max())


def sphere_boundary(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return points where the weights of two classes tie on a sphere, and the longest edge.

    The Delaunay triangles of points on a sphere are the faces of their hull. In one with two
    classes the weights tie along the segment between the middles of its two edges of both classes.
    """
    faces = ConvexHull(points).simplices
    corners, classes = points[faces], labels[faces]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    mixed = classes.min(1) != classes.max(1)
    corners, classes = corners[mixed], classes[mixed]
    rows = np.arange(len(corners))
    single = np.where(classes.sum(1) == 1, classes.argmax(1), classes.argmin(1))
    tip = corners[rows, single]
    ends = [(tip + corners[rows, (single + turn) % 3]) / 2 for turn in (1, 2)]
    shares = np.linspace(0.0, 1.0, 5)[:, None, None]
    return ((1 - shares) * ends[0] + shares * ends[1]).reshape(-1, 3), float(edges.max())


def outline(angle: np.ndarray) -> np.ndarray:
    """Return the height of the true boundary on the sphere at longitudes."""
    return 0.25 + 0.2 * np.sin(3.0 * angle)


def convergence(config: Config) -> dict[str, dict[str, Any]]:
    """Fit the rate at which the Hausdorff distance of both boundaries falls with epsilon."""
    turn = np.linspace(0.0, 2.0 * np.pi, 40_000, endpoint=False)
    height = outline(turn)
    width = np.sqrt(1.0 - height**2)
    curve = np.stack([width * np.cos(turn), width * np.sin(turn), height], 1)
    ends = np.array([0.4, 2.9, 4.4, 5.5])
    cases = {
        "circle": (2, circle_boundary, np.stack([np.cos(ends), np.sin(ends)], 1)),
        "sphere": (3, sphere_boundary, curve),
    }
    result = {}
    for name, (dim, boundary, truth) in cases.items():
        rows = []
        for seed in range(config.seeds):
            generator = np.random.default_rng(seed)
            for size in config.sizes:
                points = generator.normal(size=(size, dim))
                points /= np.linalg.norm(points, axis=1, keepdims=True)
                angle = np.arctan2(points[:, 1], points[:, 0])
                labels = (
                    points[:, 2] > outline(angle)
                    if dim == 3
                    else np.searchsorted(ends, angle % (2.0 * np.pi)) % 2
                ).astype(np.int64)
                places, epsilon = boundary(points, labels)
                if size == config.sizes[0] and seed == 0:
                    check(points, labels, places)
                places = places / np.linalg.norm(places, axis=1, keepdims=True)
                there, _ = cKDTree(truth).query(places)
                back, _ = cKDTree(places).query(truth)
                rows.append((size, epsilon, max(there.max(), back.max())))
        _, epsilon, apart = np.array(rows).T
        slope, start = np.polyfit(np.log(epsilon), np.log(apart), 1)
        scatter = np.log(apart) - slope * np.log(epsilon) - start
        error = scatter.std() / np.log(epsilon).std() / np.sqrt(len(rows))
        result[name] = {
            "rate": float(slope), "standard_error": float(error),
            "worst_over_epsilon": float((apart / epsilon).max()),
            "epsilon": epsilon.tolist(), "hausdorff": apart.tolist(),
        }  # fmt: skip
        print(
            f"theorem 30.6, {name}: the Hausdorff distance falls as epsilon to the {slope:.2f} "
            f"(+- {error:.2f}), from {np.median(apart[:: len(config.sizes)]):.3f} at epsilon "
            f"{np.median(epsilon[:: len(config.sizes)]):.3f} to "
            f"{np.median(apart[len(config.sizes) - 1 :: len(config.sizes)]):.2g} at "
            f"{np.median(epsilon[len(config.sizes) - 1 :: len(config.sizes)]):.2g}; at most "
            f"{(apart / epsilon).max():.2f} epsilon"
        )
    return result


def check(points: np.ndarray, labels: np.ndarray, places: np.ndarray) -> None:
    """Stop unless the library's classifier gives both classes equal weights at places."""
    classifier = DelaunayClassifier(torch.from_numpy(points), torch.from_numpy(labels))
    weights = classifier(torch.from_numpy(places[:20] * (1.0 - 1e-9)))
    assert float((weights[:, 0] - weights[:, 1]).abs().max()) < 1e-6


def along_centrelines(config: Config) -> dict[str, dict[str, float]]:
    """Return the persistence at distance 1 from the boundary of wedges, outside and inside.

    It grows in proportion to the distance, on either side.
    """
    result = {}
    print(f"{config.gamma}-persistence at distance 1 from the boundary")
    print("planes  angle   outside    inside    outside/inside")
    for k in config.planes:
        for angle in config.angles if k > 1 else (0.0,):
            wedge = Wedge((angle,) * (k - 1), k)
            sides = wedge.centerline(torch.tensor([-1.0, 1.0], dtype=torch.float64))
            sigma = wedge.persistence(sides, gamma=config.gamma) / wedge.distance(sides)
            outside, inside = sigma.tolist()
            result[f"{k} planes, {angle:+.1f}"] = {"outside": outside, "inside": inside}
            print(f"{k:6d} {angle:6.1f} {outside:9.3f} {inside:9.3f} {outside / inside:9.2f}")
    return result


def images_of_boundaries(config: Config) -> tuple[Any, Any]:
    """Return points of the boundaries between three digits, and of the space between these."""
    model, data = load_model("digits"), read_images("digits")
    generator = torch.Generator().manual_seed(0)
    chosen = [int((data.labels == digit).nonzero()[0]) for digit in (3, 8, 9)]
    ends = data.points[chosen]
    clouds = [
        sample(model, ends[i], ends[j], draws=config.clouds, sigma=0.08, generator=generator)
        for i, j in ((0, 1), (1, 2), (0, 2))
    ]
    points = torch.cat([cloud.points[cloud.converged] for cloud in clouds])
    shares = torch.rand(6 * config.clouds, 3, generator=generator)
    mixed = torch.einsum("nk,k...->n...", shares / shares.sum(1, keepdim=True), ends)
    return decision_level(model, points), decision_level(model, mixed)


def draw(
    rates: dict[str, dict[str, Any]], levels: tuple[Any, Any],
    wedges: dict[str, dict[str, float]], config: Config,
) -> "Figure":  # fmt: skip
    """Draw the three answers in two rows."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13.0, 7.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    axes = top.subplots(1, 3)
    for color, (name, rate) in zip(("#2A86C8", "#D55E00"), rates.items(), strict=True):
        label = f"{name}: rate {rate['rate']:.2f}"
        axes[0].loglog(rate["epsilon"], rate["hausdorff"], ".", ms=4, color=color, label=label)
    axes[0].set(xlabel="longest edge ε", ylabel="Hausdorff distance", title="Theorem 30.6")
    axes[0].legend(frameon=False)
    for axis, level, words in zip(
        axes[1:], levels, ("boundaries", "mixtures of images"), strict=True
    ):
        simplex(level, axis, classes=[3, 8, 9])
        axis.set_title(f"3, 8 and 9: {words}")
    panels = bottom.subplots(1, len(config.planes), sharey=True, squeeze=False)[0]
    most = 8.0
    distance = np.linspace(-2.0, 2.0, 81)
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(config.angles)))
    for axis, k in zip(panels, config.planes, strict=True):
        for color, angle in zip(colors, config.angles, strict=True):
            wedge = wedges.get(f"{k} planes, {angle:+.1f}")
            if wedge is not None:
                sigma = np.where(distance < 0, wedge["outside"], wedge["inside"])
                sigma = np.where(distance == 0, 0.0, sigma) * np.abs(distance)
                # What never falls to gamma is drawn along the top.
                axis.plot(distance, np.minimum(sigma, most), color=color, label=f"{angle:+.1f} rad")
        axis.axvline(0, color="0.7", linewidth=0.8)
        title = f"{k} plane" + "s" * (k > 1)
        axis.set(title=title, xlabel="distance, inside positive", ylim=(0, most * 1.03))
        axis.legend(title="angle", frameon=False)
    panels[0].set_ylabel(f"{config.gamma}-persistence (from {most:g} on: at the top)")
    return figure


def main(config: Config) -> dict[str, Any]:
    """Run, print, write the result and its figure, and return it."""
    if config.quick:
        config = replace(config, sizes=(64, 256), seeds=2, planes=(1, 2), clouds=20)
    rates, wedges = convergence(config), along_centrelines(config)
    levels = images_of_boundaries(config)
    spread = float(levels[0].gap.abs().max())
    print(f"section 29.4: at {len(levels[0].gap)} points of the boundary the two largest "
          f"probabilities are within {spread:.1e} of each other")  # fmt: skip
    result = {"rates": rates, "wedges": wedges, "largest_gap": spread}
    write_results(config, result)
    draw(rates, levels, wedges, config).savefig(config.out / "figure.png", dpi=110)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
