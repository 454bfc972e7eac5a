"""`levelset compare`: audits and trainings side by side on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import levelset
from levelset._tools.extras import check_extras
from levelset.cli._options import check_file, show
from levelset.cli._progress import busy, log
from levelset.errors import DataError, RunError

__all__ = ["CompareCommand"]


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Put audits and trainings side by side on one page.

    A RUN is the folder of an audit or of a training. The page holds a table with accuracy,
    distances and robust accuracy of each audit, their robustness curves on one figure, and the
    courses of the trainings.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Folders that `levelset audit` or `levelset train` wrote, in the order of the page."""
    out: Path
    """The page to write, .html."""
    json: bool = False
    """Print the summary as JSON instead of a table."""

    def execute(self) -> None:
        """Read, compare, write."""
        check_extras("compare", "report")
        check_file(self.out)
        names = dict(zip(_names(self.runs), self.runs, strict=True))
        audits = {
            name: levelset.auditing.read(folder, name=name)
            for name, folder in names.items()
            if (folder / "manifest.json").is_file()
        }
        histories = {
            name: levelset.training.History.read(folder)
            for name, folder in names.items()
            if (folder / "checkpoint.safetensors").is_file()
        }
        for name, folder in names.items():
            if name not in audits and name not in histories:
                what = "holds no audit and no training" if folder.is_dir() else "is no folder"
                message = f"{folder} {what}. Give what `levelset audit` or `levelset train` wrote."
                raise RunError(message)
        with busy("Writing the page"):
            sections = self._audits(list(audits.values())) if audits else []
            if histories:
                sections.append(levelset.report.trainings(histories))
            if audits:
                sections.append(levelset.report.about({n: names[n] for n in audits}))
            levelset.report.write(self.out, sections, title=f"{len(names)} runs side by side")
        numbers: dict[str, int | float | str] = {
            f"{name}: {key}": value
            for name, result in [*histories.items(), *audits.items()]
            for key, value in result.summary().items()
            if value is not None
        }
        show({**numbers, "report": str(self.out)}, json=self.json)

    def _audits(
        self, audits: "Sequence[levelset.auditing.Audit]"
    ) -> "list[levelset.report.Section]":
        """Return every section of audits of the same inputs; of others a table."""
        try:
            return levelset.report.audit(audits)
        except DataError as error:
            log(f"Only a table, no figures: {error}")
            return [levelset.report.comparison(audits)]


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart."""
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(run for run in runs if [one.resolve() for one in runs].count(run.resolve()) > 1)
    message = f"{twice} is given twice. Give each run once."
    raise RunError(message)
