"""A training's numbers for other programs: a CSV file, and event files for TensorBoard."""

import csv
import io
from pathlib import Path
from typing import Any

from levelset._tools.extras import check_extras, optional
from levelset._tools.files import write_whole
from levelset.training._history import History

__all__ = ["EventFiles", "check_tensorboard", "write_csv"]


def write_csv(path: Path, history: History) -> None:
    """Write a row an epoch, counted from 1, with an empty cell for NaN."""
    columns = history.columns()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *columns])
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        writer.writerow([index + 1, *("" if x is None else repr(x) for x in row)])
    content = text.getvalue()
    write_whole(path, lambda partial: partial.write_text(content, encoding="utf-8"))


def check_tensorboard() -> None:
    """Refuse to log for TensorBoard where it is not installed.

    Raises:
        MissingExtraError: The message says how to install it.
    """
    check_extras("train", "tensorboard")


class EventFiles:
    """Event files for TensorBoard in a folder, which tell the whole course of one training.

    Those of an earlier part of the run are replaced: a resumed run writes its epochs anew, so that
    none is there twice or missing.

    Args:
        folder: Made if it is not there.
        history: Of the epochs so far.
    """

    def __init__(self, folder: Path, history: History) -> None:
        module = optional("torch.utils.tensorboard", "tensorboard", "train")
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer: Any = module.SummaryWriter(str(folder))
        self._done = 0
        self.add(history)

    def add(self, history: History) -> None:
        """Write the epochs that are not written yet."""
        for name, column in history.columns().items():
            tag = name.replace(": ", "/").replace(".", "/")
            for index in range(self._done, len(history)):
                if column[index] is not None:
                    self._writer.add_scalar(tag, column[index], index + 1)
        self._done = len(history)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
