"""Options that every command has, and what they turn into."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from levelset._typing import Progress as Hook
from levelset.errors import ParameterError

__all__ = ["NORMS", "Common", "bar", "show"]

NORMS = {"0": 0.0, "1": 1.0, "2": 2.0, "inf": math.inf}


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    seed: int = 0
    """The seed of everything random."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    batch_size: int | None = None
    """Most inputs an evaluation; by default the number that runs fastest on the device."""
    threads: int | None = None
    """Processor threads; by default torch's own choice."""
    json: bool = False
    """Print the summary as JSON instead of a table."""

    def generator(self) -> torch.Generator:
        """Return the one generator of the run."""
        return torch.Generator().manual_seed(self.seed)

    def place(self) -> torch.device:
        """Return the device, and set the number of threads and float32 to its full precision."""
        if self.threads is not None:
            if self.threads < 1:
                message = f"--threads must be at least 1, got {self.threads}."
                raise ParameterError(message)
            torch.set_num_threads(self.threads)
        torch.backends.cudnn.allow_tf32 = False  # convolutions would keep 10 bits on a GPU
        try:
            return torch.empty(0, device=self.device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            message = f"--device {self.device} cannot be used: {reason}"
            raise ParameterError(message) from error


@contextmanager
def bar(words: str) -> Iterator[Hook]:
    """Show a progress bar on standard error while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(words, total=None)

        def hook(done: int, total: int, /) -> None:
            shown.update(task, completed=done, total=total)

        yield hook


def show(summary: dict[str, int | float | str], *, json: bool) -> None:
    """Print a summary on standard output, as JSON or as two columns."""
    console = Console(file=sys.stdout)
    if json:
        console.print_json(data=summary)
        return
    width = max(map(len, summary), default=0)
    for key, value in summary.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        console.print(f"{key:<{width}}  {shown}", highlight=False, soft_wrap=True)
