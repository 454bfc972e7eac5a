"""Ctrl-C and SIGTERM end a command at any time, without a traceback."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from levelset._tools.stops import finishing
from levelset.cli._signals import stopped, stopping

AUDIT = ["audit", "--model", "digits", "--data", "digits", "--measure", "persistence"]


def test_handlers_are_put_back_and_raise_meanwhile() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with pytest.raises(KeyboardInterrupt), stopping(owner=False) as stop:
            signal.raise_signal(number)
        assert stop.code == code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_part_in_hand_is_finished_first(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def part(*signals: int) -> None:
        with stopping(owner=False) as stop:
            try:
                with finishing():
                    for number in signals:
                        signal.raise_signal(number)
                    done.append("part")
            finally:
                done.append(stop.code)

    with pytest.raises(KeyboardInterrupt):
        part(signal.SIGTERM)
    assert done == ["part", 143]
    assert "stopping after the part in hand; once more stops at once" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        part(signal.SIGTERM, signal.SIGINT)
    assert done[2:] == [143]


def test_resume_is_named_only_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with stopping(owner=False):
        stopped(resumable=False)
    assert "--resume" not in capsys.readouterr().err
    with stopping(owner=False):
        stopped(resumable=True)
    assert "--resume goes on" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("after", [0.0, 0.2, 0.6, 1.2, 2.0, 3.5, 6.0])
def test_a_command_is_stopped_at_any_time(
    tmp_path: Path, how: signal.Signals, code: int, after: float
) -> None:
    words = [sys.executable, "-m", "levelset", *AUDIT, "--out", str(tmp_path / "run")]
    ready = "import levelset.cli, sys; print('ready', flush=True); sys.exit(levelset.cli.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", ready, *words[3:]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05 + after)
    process.send_signal(how)
    time.sleep(0.1)
    process.send_signal(how)  # at once, whatever part is in hand
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.part"))
