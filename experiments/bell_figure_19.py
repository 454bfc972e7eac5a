"""Proposition 10.1 and figure 19 of Bell 2023: lengths of normal and of uniform-in-ball noise.

Draws noise of sigma 1 in 784 dimensions (MNIST) and in 196,608 (ImageNet), and uniform points of
the ball of the same variance a coordinate, and prints their mean length and spread, the share
within several widths of sigma sqrt(n) and of r, and the proposition's lower bounds (for sigma = 1:
the paper's epsilon is in units of sigma).
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

# How the library itself draws; nothing else of it is needed.
from _results import write_results

from levelset.boundary._sampling._noise import Noise


@dataclass(frozen=True)
class Config:
    """What is run."""

    draws: tuple[int, ...] = (100_000, 5_000)
    """Points of each dimension; the paper's numbers."""
    sizes: tuple[int, ...] = (784, 196_608)
    """Dimensions."""
    seed: int = 0
    """Of all draws."""
    out: Path = Path("runs/bell_figure_19")
    """Folder for config.json and result.json."""
    quick: bool = False
    """A hundredth of the draws."""


def lengths(size: int, draws: int, kind: str, seed: int) -> torch.Tensor:
    """Return the lengths of draws about the origin, `(draws,)`."""
    generator = torch.Generator().manual_seed(seed)
    noise, found = Noise(torch.zeros(1, size), generator, kind=kind), []
    while draws:
        drawn = noise.take(0, min(draws, max(2**22 // size, 1)))
        found.append(drawn.double().norm(dim=1))
        draws -= len(drawn)
    return torch.cat(found)


def main(config: Config) -> list[dict[str, float | str]]:
    """Run, print, write the result, and return it."""
    if config.quick:
        config = replace(config, draws=tuple(max(n // 100, 1) for n in config.draws))
    result: list[dict[str, float | str]] = []
    print("dimension  noise      mean length  spread    width  share within  bound")
    for size, draws in zip(config.sizes, config.draws, strict=True):
        for kind, middle in (("gaussian", math.sqrt(size)), ("ball", math.sqrt(size + 2))):
            found = lengths(size, draws, kind, config.seed)
            for width in (0.5, 1.0, 2.0, 4.0, 8.0):
                inside = float(((found - middle).abs() <= width).double().mean())
                bound = (
                    1.0 - 2.0 * math.exp(-(width**2) / 16.0)
                    if kind == "gaussian"
                    else 1.0 - math.exp(-width * size / middle)
                )
                result.append(
                    {
                        "dimension": size, "noise": kind, "mean": float(found.mean()),
                        "spread": float(found.std()), "width": width, "share": inside,
                        "bound": bound,
                    }
                )  # fmt: skip
                print(
                    f"{size:9d}  {kind:<9} {float(found.mean()):12.4f} {float(found.std()):7.4f} "
                    f"{width:8.2f} {inside:13.4f} {bound:7.4f}"
                )
    write_results(config, result)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
