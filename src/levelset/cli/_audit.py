"""`levelset audit`: where the decision boundary lies around each input of a data set."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from levelset import report
from levelset.auditing import audit
from levelset.boundary import Effort
from levelset.cli._options import Common, bar, show
from levelset.datasets import load_model, read_images
from levelset.fields import Classifier

__all__ = ["Audit"]

NORMS = {"2": 2.0, "inf": math.inf}


@dataclass(frozen=True, kw_only=True)
class Audit(Common):
    """Measure a classifier's decision boundary around each input, and write a report.

    Writes to OUT: report.html (open it in a browser), summary.json, manifest.json, and a row an
    input in measurements/*.parquet. Press Ctrl-C at any time; --resume goes on.
    """

    model: str
    """A .pt2 or TorchScript file, module:callable, or the name of a built-in network (digits)."""
    data: str
    """A folder (IDX files, or a folder of images a class), a zip of one, .npz, .parquet,
    module:callable, or a name: digits, or a folder of LEVELSET_DATA."""
    out: Path
    """Folder for the results."""
    weights: Path | None = None
    """Weights for module:callable or a built-in network: .safetensors, or a state dict .pt."""
    split: Literal["train", "test"] = "test"
    """Which part of the data."""
    limit: int | None = None
    """Most inputs, the first of them."""
    measure: tuple[Literal["distance"], ...] = ("distance",)
    """What to measure."""
    norms: tuple[Literal["2", "inf"], ...] = ("2", "inf")
    """In which norms."""
    effort: Effort = "standard"
    """How long to search for each input."""
    mean: tuple[float, ...] | None = None
    """Subtracted from the inputs before the model sees them: one number, or one a channel."""
    std: tuple[float, ...] | None = None
    """Divides the inputs after that: one number, or one a channel."""
    resume: bool = False
    """Go on with the run that OUT holds."""

    def run(self) -> None:
        """Load, measure, write."""
        device = self.place()
        data = read_images(self.data, split=self.split, limit=self.limit)
        model = Classifier(
            load_model(self.model, self.weights),
            bounds=data.bounds,
            mean=self.mean,
            std=self.std,
            classes=data.classes,
        ).to(device)
        name = f"{Path(self.weights or self.model).stem} on {data.name}"
        with bar("Measuring") as progress:
            found = audit(
                model,
                data.points.to(device),
                data.labels.to(device),
                measures=self.measure,
                norms=[NORMS[norm] for norm in self.norms],
                effort=self.effort,
                name=name,
                out=self.out,
                resume=self.resume,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        page = self.out / "report.html"
        report.write(page, report.audit(found), title=f"Decision boundary: {name}")
        show({**found.summary(), "report": str(page)}, json=self.json)
