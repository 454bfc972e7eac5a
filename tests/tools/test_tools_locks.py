"""One process in the folder of a run, and no lock that outlives its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from levelset._tools.locks import LOCK, sole_user
from levelset.errors import LevelSetWarning, RunError

HOLD = """
import sys, pathlib
from levelset._tools.locks import sole_user
with sole_user("audit", pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    run = tmp_path / "run"
    words = rf"train: .*run is in use by process {holder.pid} on .* \(-c\), since \d{{4}}-.*Wait"
    with pytest.raises(RunError, match=words), sole_user("train", run):
        pytest.fail("both hold the lock")
    holder.kill()
    holder.wait()
    assert (run / LOCK).exists()
    with sole_user("train", run):
        assert str(os.getpid()) in (run / LOCK).read_text()
    assert not list(run.iterdir())


def test_a_second_run_of_one_process_is_refused_too(tmp_path):
    with sole_user("audit", tmp_path):
        with pytest.raises(RunError, match=rf"in use by process {os.getpid()}"):
            sole_user("audit", tmp_path).__enter__()
        (tmp_path / LOCK).write_text("{")
        with pytest.raises(RunError, match="in use by another process"):
            sole_user("audit", tmp_path).__enter__()
    with sole_user("audit", tmp_path):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.warns(LevelSetWarning, match=r"cannot lock .*No locks available.*second run"),
        sole_user("audit", tmp_path),
    ):
        assert True


def test_the_folder_is_made_or_the_reason_is_said(tmp_path):
    with sole_user("audit", tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot create the folder"):
        sole_user("audit", tmp_path / "file" / "run").__enter__()
