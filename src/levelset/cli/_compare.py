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

    A RUN is the folder of an audit or of a training, or the address of an audit. The page holds a
    table with accuracy, distances and robust accuracy of each audit, their robustness curves on
    one figure, and the courses of the trainings.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Folders that `levelset audit` or `levelset train` wrote, or addresses of audits that fsspec
    knows, in the order of the page."""
    out: Path
    """The page to write, .html."""
    json: bool = False
    """Print the summary as JSON instead of a table."""

    def execute(self) -> None:
        """Read, compare, write."""
        from levelset._tools.stores import Local, store_of

        check_extras("compare", "report")
        check_file(self.out)
        stores = [store_of("compare", run, argument="RUN") for run in self.runs]
        runs = dict(zip(_names(list(map(str, stores))), stores, strict=True))
        audits = {
            name: levelset.auditing.read(str(store), name=name)
            for name, store in runs.items()
            if store.has("manifest.json")
        }
        histories = {
            name: levelset.training.History.read(store.folder)
            for name, store in runs.items()
            if isinstance(store, Local) and store.has("checkpoint.safetensors")
        }
        for name, store in runs.items():
            if name not in audits and name not in histories:
                absent = isinstance(store, Local) and not store.folder.is_dir()
                what = "is no folder" if absent else "holds no audit and no training"
                message = f"{store} {what}. Give what `levelset audit` or `levelset train` wrote."
                raise RunError(message)
        with busy("Writing the page"):
            sections = self._audits(list(audits.values())) if audits else []
            if histories:
                sections.append(levelset.report.trainings(histories))
            if audits:
                sections.append(levelset.report.about({n: str(runs[n]) for n in audits}))
            levelset.report.write(self.out, sections, title=f"{len(runs)} runs side by side")
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


def _names(runs: Sequence[str]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart."""
    parts = [_parts(run) for run in runs]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(run for run, words in zip(runs, parts, strict=True) if parts.count(words) > 1)
    message = f"{twice} is given twice. Give each run once."
    raise RunError(message)


def _parts(run: str) -> tuple[str, ...]:
    """Return the words of the path of a folder, or of an address."""
    if levelset._tools.stores.is_address(run):
        return tuple(run.split("/"))
    return Path(run).resolve().parts
