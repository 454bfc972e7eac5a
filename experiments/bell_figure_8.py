"""Figure 8 of Bell 2023: 0.7-persistence at distance 1 from each of k planes at right angles.

Prints, for each k, the closed form of proposition 4.3 (`Orthant.persistence`), the estimate of
`boundary.persistence` by draws alone with its interval, and the stability at sigma = 1.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import write_results

from levelset.boundary import persistence
from levelset.shapes import Orthant


@dataclass(frozen=True)
class Config:
    """What is run."""

    planes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100)
    """Numbers of planes k, each in as many dimensions."""
    gamma: float = 0.7
    """Share that keeps its side."""
    tolerance: float = 0.005
    """Relative standard error of an estimate."""
    seed: int = 0
    """Of all draws."""
    out: Path = Path("runs/bell_figure_8")
    """Folder for config.json and result.json."""
    quick: bool = False
    """Four numbers of planes, to 5 %."""


def main(config: Config) -> list[dict[str, float]]:
    """Run, print, write the result, and return it."""
    if config.quick:
        config = replace(config, planes=config.planes[:4], tolerance=0.05)
    result: list[dict[str, float]] = []
    print("planes  closed form  estimate  interval          stability at 1")
    for k in config.planes:
        field, point = Orthant(k, k), torch.ones(1, k, dtype=torch.float64)
        found = persistence(
            field, point, gamma=config.gamma, tolerance=config.tolerance,
            generator=torch.Generator().manual_seed(config.seed),
        )  # fmt: skip
        exact, share = field.persistence(1.0, config.gamma), field.stability(1.0, 1.0)
        low, sigma, high = (float(end[0]) for end in (found.low, found.sigma, found.high))
        result.append(
            {
                "planes": k, "exact": exact, "sigma": sigma, "low": low, "high": high,
                "stability": share,
            }
        )  # fmt: skip
        print(f"{k:6d} {exact:12.4f} {sigma:9.4f}  {low:.4f} to {high:.4f}  {share:14.4f}")
    write_results(config, result)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
