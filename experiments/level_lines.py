"""Figure A2 of Atzmon et al. 2019: the level sets of a reconstruction resemble those of a distance.

Reconstructs a surface from points and draws the levels of its field in a plane, beside those of
the true distance. The paper has the picture; here are its numbers too, in a band about the true
surface: mean and spread of | |grad F| - 1 | and of |F| - d. Takes a mesh and scan of
`LEVELSET_DATA`, or a torus.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_results

from levelset.errors import MissingExtraError
from levelset.reconstruction import (
    Fast,
    Mesh,
    Paper,
    Surface,
    distance_likeness,
    extract_mesh,
    sample_surface,
    surface,
)
from levelset.reconstruction._meshes._point_to_mesh import distance_to_mesh
from levelset.shapes import Torus


@dataclass(frozen=True)
class Config:
    """What is run."""

    shape: str = "torus"
    """`torus`, or the name of a mesh of LEVELSET_DATA such as `spot`."""
    points: int = 30_000
    """Points drawn from the surface, uniform by area."""
    noise: float = 0.002
    """Standard deviation of their noise, a coordinate."""
    paper: bool = False
    """The paper's training instead of the default method."""
    seconds: float | None = None
    """Time for the reconstruction; all epochs of the paper's training take half a CPU-day."""
    bands: tuple[float, ...] = (0.02, 0.1, 0.2)
    """Widths of the band to either side, in radii of the shape."""
    seed: int = 0
    """Of points and noise."""
    out: Path = Path("runs/level_lines")
    """Folder for config.json, result.json and the picture."""
    quick: bool = False
    """3,000 points and 20 seconds at most."""


def truth(name: str) -> Mesh:
    """Return the true surface, at most of radius 1."""
    if name == "torus":
        return extract_mesh(Torus(0.7, 0.28), bounds=([-1.1] * 3, [1.1] * 3), resolution=128)
    return Mesh.read(data_folder("meshes") / "meshes" / f"{name}.ply")


def picture(path: Path, found: Surface, mesh: Mesh) -> None:
    """Draw the levels in the plane of the two longest axes through the middle of the shape."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        message = "the picture needs matplotlib: pip install 'levelset[plot]'"
        raise MissingExtraError(message) from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    a, b = sorted((high - low).argsort(descending=True)[:2].tolist())
    side = torch.linspace(-1.3, 1.3, 160, dtype=torch.float64)
    grid = torch.zeros(160, 160, 3, dtype=torch.float64)
    grid[..., a], grid[..., b] = side[None, :], side[:, None]
    grid += (low + high) / 2.0
    points = grid.reshape(-1, 3)
    with torch.no_grad():
        unit = ((points - found.centre) / found.scale).float()
        values = found.scale * found.network(unit).reshape(160, 160).double()
    distance = distance_to_mesh(points, mesh)[0].reshape(160, 160)
    figure, axes = plt.subplots(1, 2, figsize=(11, 5))
    levels = [0.1 * k for k in range(-4, 9)]
    shown = {"field": values, "distance, with the field's sign": distance * values.sign()}
    for ax, (title, what) in zip(axes, shown.items(), strict=True):
        ax.contour(side, side, what, levels, cmap="coolwarm", linewidths=1)
        ax.contour(side, side, what, [0.0], colors="black", linewidths=2)
        ax.set_aspect("equal")
        ax.set_title(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> list[dict[str, int | float]]:
    """Run, print, write the result and the picture, and return the result."""
    if config.quick:
        config = replace(config, points=3_000, seconds=20.0)
    mesh, generator = truth(config.shape), torch.Generator().manual_seed(config.seed)
    points = sample_surface(mesh, config.points, generator=generator)[0]
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    settings = Paper(seconds=config.seconds) if config.paper else Fast(seconds=config.seconds)
    found = surface(points + config.noise * noise, settings=settings)

    def field(x: torch.Tensor) -> torch.Tensor:
        return found.scale * found.network(((x - found.centre) / found.scale).float()).double()

    result: list[dict[str, int | float]] = []
    print("band   mean ||grad F| - 1|  spread   mean |F| - d   spread  mean ||F| - d|")
    for band in config.bands:
        told = distance_likeness(field, mesh, band=band)
        result.append(told.summary())
        print(
            f"{band:5.2f} {told.slope:18.4f} {told.slope_spread:9.4f} {told.error:13.5f} "
            f"{told.error_spread:10.5f} {told.error_size:12.5f}"
        )
    write_results(config, result)
    try:
        picture(config.out / "level_lines.png", found, mesh)
    except MissingExtraError as error:
        print(error)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
