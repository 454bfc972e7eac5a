"""`levelset demo`: two networks for real digits audited side by side, and a scan made a mesh."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import levelset
from levelset._tools.extras import check_extras
from levelset.cli._options import Common, check_folder, now, read_images, show
from levelset.cli._progress import bar, busy, watching
from levelset.cli._words import count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from levelset.datasets import Images
    from levelset.training._objective import Loss

__all__ = ["DemoCommand", "input_margin", "scan_of_a_knot"]

RADIUS = 1.0
EPOCHS = 20
POINTS = 12_000
_NOISE = 0.004
_THICKNESS = 0.32
_CAMERAS = 6


def input_margin(model: "nn.Module", points: "Tensor", labels: "Tensor") -> "Tensor":
    """Return cross-entropy plus a hinge on the distance to the decision boundary (Eq. 12).

    The boundary is sampled near each input, tied to the parameters by `attach`, and pushed until
    it is `RADIUS` away from inputs that are classified right, or pulled over those that are not.
    """
    field = levelset.Margin(model)
    method = levelset.Newton(max_iter=4, max_step=1.0)
    near = levelset.project(field, points, labels=labels, method=method, tol=1e-3)
    boundary = levelset.attach(field, near)
    distance = (boundary - points).flatten(1).norm(dim=1)
    side = field(points, labels).detach().sign()
    hinge = (RADIUS - side * distance).clamp(min=0)
    return levelset.training.cross_entropy(model, points, labels) + hinge.mean()


@dataclass(frozen=True, kw_only=True)
class DemoCommand(Common):
    """Show the library at work: train a small network twice on real handwritten digits.

    Once with cross-entropy, once with a loss that pushes the decision boundary away from the
    inputs; then measure both boundaries around 500 digits that neither has seen, and make a mesh
    of a simulated scan of a knot. Writes a page for each. Needs no download, and about a minute.
    """

    out: Path = Path("demo")
    """Folder for the results; an earlier demo there is replaced."""
    limit: int | None = count(None)
    """Most digits to measure."""
    threads: int | None = count(1)
    """Processor threads: a network this small is fastest on one."""

    def execute(self) -> None:
        """Train, audit and report."""
        check_extras("demo", "mesh", "report")
        check_folder(self.out)
        device = self.place()
        seen = read_images("digits", split="train")
        unseen = read_images("digits", split="test", limit=self.limit)
        audits = []
        losses: dict[str, Loss] = {
            "cross-entropy": levelset.training.cross_entropy,
            "input margin": input_margin,
        }
        for name, loss in losses.items():
            generator = self.generator()
            network = levelset.networks.digits()
            network = levelset.training.initialise(network, generator=generator).to(device)
            with bar(f"Training, {name}") as progress:
                levelset.training.train(
                    network,
                    seen.to(device),
                    loss=loss,
                    epochs=EPOCHS,
                    learning_rate=6e-3,
                    batch_size=128,
                    generator=generator,
                    progress=progress,
                )
            audits.append(self._audit(name, network, unseen.to(device)))
        page = self.out / "report.html"
        title = "Where two networks' decision boundaries lie around handwritten digits"
        with busy("Writing the page"):
            runs = levelset.report.about({a.name: self._folder(a.name) for a in audits})
            sections = [*levelset.report.audit(audits), runs]
            levelset.report.write(page, sections, title=title)
        numbers: dict[str, int | float | str] = {
            f"{a.name}: {k}": v for a in audits for k, v in a.summary().items()
        }
        knot, scan_page = self._scan()
        numbers |= {f"knot: {k}": v for k, v in knot.summary().items() if v is not None}
        pages: dict[str, int | float | str] = {
            "report": str(page),
            "scan report": str(scan_page),
        }
        show(numbers | pages, json=self.json)

    def _audit(self, name: str, network: "nn.Module", data: "Images") -> "levelset.auditing.Audit":
        """Measure a network around the digits; an earlier demo in its folder is replaced."""
        folder, date = self._folder(name), now()
        if (folder / "manifest.json").exists():
            shutil.rmtree(folder)
        with bar(f"Measuring, {name}") as progress:
            audit = levelset.audit(
                levelset.Classifier(network, bounds=data.bounds, classes=data.classes),
                data.points,
                data.labels,
                name=name,
                out=folder,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        self.note(folder, date)
        return audit

    def _folder(self, name: str) -> Path:
        return self.out / name.replace(" ", "-")

    def _scan(self) -> "tuple[levelset.reconstruction.Surface, Path]":
        """Make a mesh of a simulated scan, and a page about it."""
        points = scan_of_a_knot(POINTS, generator=self.generator())
        with watching("Scan of a knot") as progress:
            result = levelset.reconstruction.surface(
                points,
                settings=levelset.reconstruction.Fast(grid=64),
                resolution=128,
                progress=progress,
            )
        result.mesh.save(self.out / "knot.ply")
        page = self.out / "scan.html"
        title = "A knot, from raw points without normals"
        levelset.report.write(
            page, levelset.report.surface(result, name="A simulated scan"), title=title
        )
        return result, page


def scan_of_a_knot(count: int, *, generator: "torch.Generator") -> "Tensor":
    """Return raw points near a trefoil tube, `(count, 3)`, float64: no normals, no order.

    The knot is 6 units wide, the tube 0.64 thick, the noise 0.004 a coordinate. A point is the
    likelier in the scan the more squarely one of six cameras around the knot sees it, so the
    points lie unevenly; what no camera faces has none.

    Args:
        count: Points.
        generator: Draws all of it.
    """
    import torch

    parts: list[Tensor] = []
    while sum(map(len, parts)) < count:
        points, normals = _tube(4 * count, generator)
        turn = torch.arange(_CAMERAS) * (2 * math.pi / _CAMERAS)
        up = torch.tensor([0.9, -0.9]).repeat(_CAMERAS // 2)
        cameras = torch.stack([turn.cos(), turn.sin(), up], 1).double()
        cameras = cameras / cameras.norm(dim=1, keepdim=True)
        squarely = (normals @ cameras.T).clamp(min=0.0).amax(1)
        chosen = torch.rand(len(points), generator=generator, dtype=torch.float64) < squarely
        parts.append(points[chosen])
    points = torch.cat(parts)[:count]
    return points + _NOISE * torch.randn(points.shape, generator=generator, dtype=torch.float64)


def _tube(count: int, generator: "torch.Generator") -> "tuple[Tensor, Tensor]":
    """Return points about even on the tube, and their outward normals, `(m, 3)` each."""
    import torch

    t, around, accept = (
        torch.rand(count, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    t, around = 2 * math.pi * t, 2 * math.pi * around
    centre = torch.stack([t.sin() + 2 * (2 * t).sin(), t.cos() - 2 * (2 * t).cos(), -(3 * t).sin()])
    along = torch.stack(
        [t.cos() + 4 * (2 * t).cos(), -t.sin() + 4 * (2 * t).sin(), -3 * (3 * t).cos()]
    )
    speed = along.norm(dim=0)
    along = along / speed
    out = torch.linalg.cross(
        along, torch.tensor([[0.0], [0.0], [1.0]]).expand_as(along).double(), dim=0
    )
    out = out / out.norm(dim=0)
    over = torch.linalg.cross(along, out, dim=0)
    normal = around.cos() * out + around.sin() * over
    even = accept * speed.max() < speed
    return (centre + _THICKNESS * normal).T[even], normal.T[even]
