"""What the bars show: how far, and how long still."""

import time

import pytest
from rich.console import Console
from rich.progress import Progress

from levelset.cli._progress import _TimeLeft, bar, busy


def shown(done: int, total: int, elapsed: float, begun: int = 0) -> str:
    with Progress(_TimeLeft(), console=Console(quiet=True)) as progress:
        now = time.monotonic()
        number = progress.add_task("x", total=total, started=now - elapsed, begun=begun)
        progress.update(number, completed=done)
        return _TimeLeft().render(progress.tasks[number]).plain


def test_the_time_left_is_at_the_mean_rate_so_far() -> None:
    assert shown(25, 100, elapsed=10.0) == "0:00:30 left"
    assert shown(1, 255, elapsed=12.0) == "0:50:48 left"
    assert shown(0, 255, elapsed=12.0) == "-:--:-- left"
    assert shown(100, 100, elapsed=75.0) == "0:01:15"


def test_what_a_resumed_run_finds_done_is_not_taken_for_speed() -> None:
    assert shown(60, 100, elapsed=10.0, begun=50) == "0:00:40 left"


def test_a_bar_takes_the_first_report_of_a_resumed_run_as_its_beginning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bar("Measuring") as hook:
        hook(50, 100)
        hook(100, 100)
    assert "100/100" in capsys.readouterr().err


def test_what_goes_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with busy("Writing the page"):
        pass
