"""Files are written whole or not at all."""

import errno
import json
import math
import os
import subprocess
import sys

import pytest

from levelset._tools.files import make_folder, remove_leftovers, write_json, write_whole
from levelset.errors import LevelSetWarning, RunError


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_is_sorted_indented_and_ends_in_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "é"]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.index('"a"') < text.index('"b"')
    assert json.loads(text) == {"a": [1.5, "é"], "b": 1}
    assert names(tmp_path) == ["a.json"]


def test_an_older_file_is_replaced(tmp_path):
    write_json(tmp_path / "a.json", 1)
    write_json(tmp_path / "a.json", 2)
    assert json.loads((tmp_path / "a.json").read_text()) == 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_failure_half_way_leaves_the_older_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(partial):
        partial.write_text("ne")
        raise failure

    with pytest.raises(failure):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_named_and_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(partial):
        partial.write_text("ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        RunError, match=r"cannot write .*a\.txt: No space left on device\. What was written before"
    ):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_numbers_that_json_lacks_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": math.nan})
    assert names(tmp_path) == []


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("levelset._tools.files._WAITS", (0.01, 0.02))


@pytest.mark.usefixtures("impatient")
def test_a_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(RunError, match=r"cannot write .*b\.json: No such file or directory"),
        pytest.warns(LevelSetWarning, match="Trying again"),
    ):
        write_json(tmp_path / "a" / "b.json", 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENOENT])
def test_a_share_that_vanishes_for_a_moment_is_waited_for(tmp_path, monkeypatch, code):
    share, attempts = tmp_path / "share", []
    share.mkdir()

    def write(partial):
        attempts.append(partial)
        if len(attempts) == 1:
            share.rename(tmp_path / "away")
        if len(attempts) < 3:
            raise OSError(code, os.strerror(code))
        partial.write_text("new")

    def back(seconds):
        if len(attempts) == 2:
            (tmp_path / "away").rename(share)

    monkeypatch.setattr("time.sleep", back)
    with pytest.warns(LevelSetWarning, match="Trying again"):
        write_whole(share / "a.txt", write)
    assert (share / "a.txt").read_text() == "new"
    assert names(share) == ["a.txt"]


def test_a_writer_that_cannot_repeat_is_called_once(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", pytest.fail)

    def write(partial):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(RunError, match="Input/output error"):
        write_whole(tmp_path / "a.txt", write, repeatable=False)


def test_an_error_of_the_writer_itself_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", pytest.fail)
    with pytest.raises(RunError, match=r"cannot write .*a\.txt: No such file or directory"):
        write_whole(tmp_path / "a.txt", lambda partial: (tmp_path / "no" / "file").read_text())


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*b\.json: Not a directory"):
        write_json(tmp_path / "a" / "b.json", 1)
    with pytest.raises(
        RunError, match=r"cannot create the folder .*a/b: Not a directory\. Choose another `out`\."
    ):
        make_folder(tmp_path / "a" / "b")


def test_a_target_that_is_a_folder_is_named_and_left(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*a\.json: Is a directory"):
        write_json(tmp_path / "a.json", 1)
    assert names(tmp_path) == ["a.json"]


def test_folders_are_made_with_their_parents_and_may_exist(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [tmp_path / f".a.txt.{gone.pid}.part", tmp_path / f".b.txt.{gone.pid}.part"]
    runs = tmp_path / f".a.txt.{os.getppid()}.part"
    for path in (*left, runs):
        path.write_text("half")
    write_whole(tmp_path / "a.txt", lambda partial: partial.write_text("new"))
    assert names(tmp_path) == sorted([runs.name, left[1].name, "a.txt"])
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a.txt"]
