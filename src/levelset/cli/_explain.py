"""`levelset explain`: which training examples made a prediction, on a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import levelset
from levelset._tools.extras import check_extras
from levelset.cli._options import Placed, check_file, read_images, show
from levelset.cli._progress import bar, busy, log
from levelset.cli._recorded import open_recorded
from levelset.cli._words import count
from levelset.errors import ParameterError

__all__ = ["ExplainCommand"]


@dataclass(frozen=True, kw_only=True)
class ExplainCommand(Placed):
    """Show which training examples made a prediction.

    Writes OUT, a page that works offline: the input, its prediction, the training examples that
    pushed for it and against it with their exact shares, its neighbours for the network and in
    pixels, how exact the sum of the shares is, and how well such inputs are known.
    """

    run: Path
    """The folder of a run of `levelset train --record`."""
    data: str
    """Where the inputs are: a folder, a zip, .npz, .parquet, module:callable, or a name."""
    index: tuple[int, ...]
    """Which inputs to explain, counted from 0; several make a page to click through."""
    out: Path
    """The page to write, .html."""
    split: Literal["train", "test"] = "test"
    """Which part of the data."""
    top: int | None = count(8)
    """Training examples a list."""
    suspects: bool = False
    """Add the training examples whose labels the others contradict."""

    def execute(self) -> None:
        """Load, explain, write."""
        check_extras("explain", "report", *(("ray",) if self.engine == "ray" else ()))
        check_file(self.out)
        self.place()
        data = read_images(self.data, split=self.split)
        outside = next((i for i in self.index if not 0 <= i < len(data)), None)
        if outside is not None or not self.index:
            message = f"--index must lie in 0 to {len(data) - 1}, the inputs of {data.name!r}, "
            raise ParameterError(message + f"got {outside if self.index else 'none'}.")
        chosen = data[list(self.index)]
        kernel, training = open_recorded(self.run)
        log(self.where_words())
        with bar("Explaining") as progress:
            result = levelset.kernels.explain(
                kernel, chosen.points, top=self.top or 8, progress=progress, **self.where()
            )
        with busy("Writing the page"):
            sections = levelset.report.explanation(
                result, training.points, training.labels, truth=chosen.labels,
                names=[str(index) for index in self.index], classes=training.classes,
                bounds=training.bounds,
            )  # fmt: skip
            if self.suspects:
                ordered = levelset.kernels.suspects(kernel)
                sections.append(
                    levelset.report.mislabelled(
                        ordered, training.points, classes=training.classes, bounds=training.bounds
                    )
                )
            title = f"Why these predictions? Inputs of {data.name}"
            levelset.report.write(self.out, sections, title=title, subtitle=self.command())
        show({**result.summary(), "page": str(self.out)}, json=self.json)
