"""Progress bars on standard error, with an estimate of the time that is left."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from levelset._typing import Progress as Hook
    from levelset.reconstruction import Step, Watch
    from levelset.training import Health
    from levelset.training import Watch as TrainingWatch

__all__ = ["bar", "busy", "log", "training", "watching", "watching_several"]

# Shares of the work below which the rate so far says little.
_LEAST_SHARE = 0.002


class _TimeLeft(ProgressColumn):
    """The time that is left at the mean rate so far, or at the end the time that it took.

    rich's own column takes the rate of the last second, and says nothing until two steps are done.
    What a resumed run finds done is not counted as fast work.
    """

    def render(self, task: Task) -> Text:
        started, begun = task.fields["started"], task.fields["begun"]
        elapsed = time.monotonic() - started
        if task.finished:
            return Text(_clock(elapsed), style="progress.elapsed")
        share = (task.completed - begun) / ((task.total or 0) - begun) if task.total else 0.0
        if share < _LEAST_SHARE:
            return Text("-:--:-- left", style="progress.remaining")
        return Text(f"{_clock(elapsed * (1 / share - 1))} left", style="progress.remaining")


@contextmanager
def bar(words: str) -> "Iterator[Hook]":
    """Show a progress bar while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _TimeLeft())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(words, total=None, started=time.monotonic(), begun=0)

        def hook(done: int, total: int, /) -> None:
            if shown.tasks[0].total is None and done < total:
                shown.update(task, started=time.monotonic(), begun=done)
            shown.update(task, completed=done, total=total)

        yield hook


@contextmanager
def busy(words: str) -> Iterator[None]:
    """Show what goes on, and for how long, while the block runs."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(words, total=None)
        yield


@contextmanager
def watching(name: str) -> "Iterator[Watch]":
    """Show the stage of a fit, how near the points are and how many are near."""
    with watching_several(None) as watch:
        yield partial(watch, name)


@contextmanager
def watching_several(total: int | None) -> "Iterator[Callable[[str, Step | None], None]]":
    """Show the same of fits side by side, by their names, each until it is done: `None`.

    Args:
        total: How many fits there are, which has a bar of its own; `None` for one.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as shown:
        whole = None
        if total is not None:
            whole = shown.add_task("Scans", total=total, told=f"0/{total}")
        tasks: dict[str, TaskID] = {}

        def watch(name: str, step: "Step | None") -> None:
            if step is not None:
                if name not in tasks:
                    tasks[name] = shown.add_task(name, total=None, told="")
                _show_step(shown, tasks[name], name, step)
            elif whole is not None:
                if name in tasks:
                    shown.remove_task(tasks.pop(name))
                shown.advance(whole)
                done = shown.tasks[0].completed
                shown.update(whole, told=f"{done:.0f}/{total}")

        yield watch


def _show_step(shown: Progress, task: TaskID, name: str, step: "Step") -> None:
    words = (
        f"loss {step.loss:.2e}  residual {step.residual:.2e}  "
        f"within twice the noise {100 * step.quality:.1f} %"
    )
    shown.update(
        task,
        description=f"{name}: {step.stage}",
        completed=step.done,
        total=step.total or None,
        told=words if step.quality == step.quality else "",
    )


@contextmanager
def training(words: str) -> "Iterator[TrainingWatch]":
    """Show a progress bar with the health of a training while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        _TimeLeft(),
        TextColumn("{task.fields[health]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(words, total=None, started=time.monotonic(), begun=0, health="")

        def watch(health: "Health") -> None:
            if shown.tasks[0].total is None:
                shown.update(task, started=time.monotonic(), begun=health.step - 1)
            shown.update(
                task,
                description=f"Epoch {health.epoch}",
                completed=health.step,
                total=health.steps,
                health=_health_line(health),
            )

        yield watch


def _health_line(health: "Health") -> str:
    """Return the numbers of a step; those of samples where the loss has some."""
    line = f"loss {health.loss:.4g}"
    if health.converged == health.converged:
        line += f", {100 * health.converged:.1f} % converged"
    if health.distance == health.distance:
        line += f", median distance {health.distance:.2g}"
    return line


def log(line: str) -> None:
    """Write a line on standard error."""
    Console(stderr=True).print(line, highlight=False, soft_wrap=True, markup=False)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
