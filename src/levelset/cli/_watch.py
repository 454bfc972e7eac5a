"""The progress bar of a fit: its stage, how near the points are, and how many are near."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from levelset.reconstruction import Step, Watch

__all__ = ["watching"]


@contextmanager
def watching(name: str) -> Iterator[Watch]:
    """Show the stage, how near the points are and how many are near, while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as shown:
        task = shown.add_task(name, total=None, told="")

        def watch(step: Step) -> None:
            told = (
                f"loss {step.loss:.2e}  residual {step.residual:.2e}  "
                f"within twice the noise {step.quality:.1%}"
            )
            shown.update(
                task,
                description=f"{name}: {step.stage}",
                completed=step.done,
                total=step.total or None,
                told=told if step.quality == step.quality else "",
            )

        yield watch
