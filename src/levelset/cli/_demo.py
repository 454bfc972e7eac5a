"""`levelset demo`: two networks for real digits audited side by side, and a scan made a mesh."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from levelset import Margin, Newton, attach, project, report
from levelset.auditing import audit
from levelset.cli._knot import scan_of_a_knot
from levelset.cli._options import Common, bar, show
from levelset.cli._watch import watching
from levelset.datasets import read_images
from levelset.fields import Classifier
from levelset.networks import digits
from levelset.reconstruction import Surface, surface
from levelset.training import cross_entropy, initialise, train

__all__ = ["Demo", "input_margin"]

RADIUS = 1.0
EPOCHS = 30
POINTS = 12_000


def input_margin(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy plus a hinge on the distance to the decision boundary (Eq. 12).

    The boundary is sampled near each input, tied to the parameters by `attach`, and pushed until
    it is `RADIUS` away from inputs that are classified right, or pulled over those that are not.
    """
    field = Margin(model)
    near = project(field, points, labels=labels, method=Newton(max_iter=4, max_step=1.0), tol=1e-3)
    boundary = attach(field, near)
    distance = (boundary - points).flatten(1).norm(dim=1)
    side = field(points, labels).detach().sign()
    hinge = (RADIUS - side * distance).clamp(min=0)
    return cross_entropy(model, points, labels) + hinge.mean()


LOSSES = {"cross-entropy": cross_entropy, "input margin": input_margin}


@dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """Show the library at work: train a small network twice on real handwritten digits.

    Once with cross-entropy, once with a loss that pushes the decision boundary away from the
    inputs; then measure both boundaries around 500 digits that neither has seen, and make a mesh
    of a simulated scan of a knot. Writes a page for each. Needs no download, and about a minute.
    """

    out: Path = Path("demo")
    """Folder for the results; an earlier demo there is replaced."""
    limit: int | None = None
    """Most digits to measure."""
    threads: int | None = 1
    """Processor threads: a network this small is fastest on one."""

    def run(self) -> None:
        """Train, audit and report."""
        device = self.place()
        seen, unseen = read_images("digits", split="train"), read_images("digits", limit=self.limit)
        audits = []
        for name, loss in LOSSES.items():
            generator = self.generator()
            network = initialise(digits(), generator=generator).to(device)
            with bar(f"Training, {name}") as progress:
                train(
                    network,
                    seen.to(device),
                    loss=loss,
                    epochs=EPOCHS,
                    learning_rate=3e-3,
                    batch_size=64,
                    generator=generator,
                    progress=progress,
                )
            folder = self.out / name.replace(" ", "-")
            if (folder / "manifest.json").exists():
                shutil.rmtree(folder)
            with bar(f"Measuring, {name}") as progress:
                audits.append(
                    audit(
                        Classifier(network, bounds=unseen.bounds, classes=unseen.classes),
                        unseen.points.to(device),
                        unseen.labels.to(device),
                        name=name,
                        out=folder,
                        batch_size=self.batch_size,
                        seed=self.seed,
                        progress=progress,
                    )
                )
        page = self.out / "report.html"
        title = "Where two networks' decision boundaries lie around handwritten digits"
        report.write(page, report.audit(audits), title=title)
        found: dict[str, int | float | str] = {
            f"{a.name}: {k}": v for a in audits for k, v in a.summary().items()
        }
        knot, scan_page = self._scan()
        found |= {f"knot: {k}": v for k, v in knot.summary().items() if v is not None}
        pages: dict[str, int | float | str] = {
            "report": str(page),
            "scan report": str(scan_page),
        }
        show(found | pages, json=self.json)

    def _scan(self) -> tuple[Surface, Path]:
        """Make a mesh of a simulated scan, and a page about it."""
        points = scan_of_a_knot(POINTS, generator=self.generator())
        with watching("Scan of a knot") as progress:
            result = surface(points, resolution=128, progress=progress)
        result.mesh.save(self.out / "knot.ply")
        page = self.out / "scan.html"
        title = "A knot, from raw points without normals"
        report.write(page, report.surface(result, name="A simulated scan"), title=title)
        return result, page
