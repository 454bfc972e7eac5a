"""Figure 3, f and g, of Atzmon et al. 2019: curves in space from noisy and partial points.

The paper's own experiment: a closed cubic spline through six random points of the cube [-1, 1]^3,
300 samples of it by farthest-point sampling, and small noise; then large noise, and a tenth of the
curve missing. The paper shows three pictures; here are numbers over 20 random curves. Prints the
mean distance between curve and reconstruction, both ways averaged, in standard deviations of the
noise, how many came as one piece, and how many were closed. Goal: at most 2 for every curve, all
in one piece.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from _results import write_results
from numpy.typing import NDArray
from scipy.interpolate import splev, splprep

from levelset.errors import DataError, MissingExtraError
from levelset.reconstruction import Curve, Fast, Paper, curve
from levelset.reconstruction._curves._curve import far_from

CASES = {
    "small noise": (0.01, 0.0),
    "large noise": (0.05, 0.0),
    "a tenth missing": (0.01, 0.1),
    "both": (0.05, 0.1),
}


@dataclass(frozen=True)
class Config:
    """What is run."""

    seeds: int = 20
    """Random curves of each case."""
    samples: int = 300
    """Points of each; the paper's number."""
    open: bool = False
    """Open splines instead of closed ones; those whose ends are near are closed by default."""
    paper_seconds: float = 0.0
    """Train the paper's network for so long on each curve; 0 for the default method."""
    out: Path = Path("runs/curves")
    """Folder for config.json, result.json and the pictures."""
    quick: bool = False
    """Two curves of each case."""


def farthest(points: NDArray, count: int, random: np.random.Generator) -> NDArray:
    """Return points each of which was farthest from those before."""
    row, far, chosen = int(random.integers(len(points))), np.full(len(points), np.inf), []
    for _ in range(count):
        chosen.append(row)
        far = np.minimum(far, ((points - points[row]) ** 2).sum(1))
        row = int(far.argmax())
    return points[chosen]


def draw(
    seed: int, noise: float, missing: float, *, samples: int, is_open: bool
) -> tuple[NDArray, NDArray]:
    """Return a random spline, `(6000, 3)`, and its noisy samples."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-1, 1, (6, 3))
    if not is_open:
        corners = np.concatenate([corners, corners[:1]])
    knots, _ = splprep(corners.T, s=0, per=not is_open)
    truth = np.stack(splev(np.linspace(0, 1, 6000, endpoint=is_open), knots), 1)
    along = np.linalg.norm(np.diff(truth, axis=0), axis=1).cumsum()
    along = np.append(0.0, along) / along[-1]
    start = random.uniform(0.2, 0.7)
    seen = truth[(along < start) | (along > start + missing)]
    points = farthest(seen, samples, random)
    return truth, points + noise * random.standard_normal(points.shape)


def picture(path: Path, shown: list[tuple[str, NDArray, NDArray, Curve]]) -> None:
    """Write one picture a case, if matplotlib is there."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        message = "the pictures need matplotlib: pip install 'levelset[plot]'"
        raise MissingExtraError(message) from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(5 * len(shown), 5))
    for k, (name, truth, points, found) in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), k + 1, projection="3d")
        axes.scatter(*points.T, s=4, color="tab:green")
        axes.plot(*truth.T, color="0.7", linewidth=1)
        for line, closed in zip(found.lines.lines, found.lines.closed, strict=True):
            row = torch.cat([line, line[:1]]) if closed else line
            axes.plot(*row.numpy().T, color="black", linewidth=1.5)
        axes.set_title(name)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> list[dict[str, float | int | str]]:
    """Run, print, write the result and the pictures, and return the result."""
    if config.quick:
        config = replace(config, seeds=2)
    settings = Paper(seconds=config.paper_seconds) if config.paper_seconds else Fast()
    config.out.mkdir(parents=True, exist_ok=True)
    result: list[dict[str, float | int | str]] = []
    shown = []
    print("case              noise  mean / noise  worst  above 2  one piece  closed  CPU s a curve")
    for name, (noise, missing) in CASES.items():
        errors, pieces, closed = [], 0, 0
        start = time.process_time()
        for seed in range(config.seeds):
            truth, points = draw(seed, noise, missing, samples=config.samples, is_open=config.open)
            try:
                found = curve(torch.from_numpy(points), settings=settings)
            except DataError:
                errors.append(float("inf"))
                continue
            lines = [line.numpy() for line in found.lines.lines]
            there = far_from(truth, lines, list(found.lines.closed)).mean()
            back = far_from(np.concatenate(lines), [truth], [not config.open]).mean()
            errors.append(float(there + back) / 2 / noise)
            pieces += len(lines) == 1
            closed += all(found.lines.closed)
            if seed == 0:
                shown.append((name, truth, points, found))
        spent = (time.process_time() - start) / config.seeds
        above = sum(error > 2.0 for error in errors)
        result.append(
            {
                "case": name, "noise": noise, "missing": missing, "mean": float(np.mean(errors)),
                "worst": max(errors), "above": above, "one_piece": pieces, "closed": closed,
                "seeds": config.seeds, "seconds": spent,
            }
        )  # fmt: skip
        print(
            f"{name:<17} {noise:5.2f} {np.mean(errors):13.2f} {max(errors):6.2f} {above:8d} "
            f"{pieces:7d}/{config.seeds:<2d} {closed:4d}/{config.seeds:<2d} {spent:11.2f}"
        )
    write_results(config, result)
    try:
        picture(config.out / "curves.png", shown)
    except MissingExtraError as error:
        print(error)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
