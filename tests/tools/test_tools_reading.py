"""Sizes checked before anything grows, and failures named after the file."""

import zipfile

import numpy as np
import pytest
import torch

from levelset._tools.reading import check_size, check_zip, most_bytes, reading
from levelset.errors import DataError, ParameterError, ShapeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), r"f: a\.x is damaged .*UnicodeDecode"),
        (KeyError(), r"f: a\.x is damaged or truncated, or not what its name says \(KeyError\)\."),
        (RecursionError("too\ndeep"), r"\(RecursionError: too\)"),
        (PermissionError(13, "Permission denied"), r"f: cannot read a\.x \(Permission denied\)\."),
        (MemoryError(), r"f: a\.x does not fit in memory"),
    ],
)
def test_what_a_decoder_raises_becomes_ours(error, message):
    with pytest.raises(DataError, match=message), reading("f", "a.x"):
        raise error


@pytest.mark.parametrize(
    "allocate", [lambda: np.zeros(1 << 60, np.int8), lambda: torch.zeros(1 << 60)]
)
def test_memory_that_is_not_there_is_said(allocate):
    with pytest.raises(DataError, match=r"f: a\.x does not fit in memory"), reading("f", "a.x"):
        allocate()


def test_our_own_errors_and_interrupts_pass():
    for error in (ShapeError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, reading("f", "a.x"):
            raise error
        assert caught.value is error


def test_the_limit_is_said_with_the_way_to_raise_it(monkeypatch):
    check_size(2**31, "f: a.x")
    message = (
        r"f: a\.x is too large: 2147483649 bytes, the limit is 2147483648, raise it with the "
        r"variable LEVELSET_MAX_BYTES=2147483649"
    )
    with pytest.raises(DataError, match=message):
        check_size(2**31 + 1, "f: a.x")
    check_size(2**31 + 1, "f: a.x", on_disk=2**31 + 1)
    monkeypatch.setenv("LEVELSET_MAX_BYTES", str(2**31 + 1))
    check_size(2**31 + 1, "f: a.x")


@pytest.mark.parametrize("text", ["many", "-1", "0", "2e9", "1.5"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("LEVELSET_MAX_BYTES", text)
    with pytest.raises(ParameterError, match=rf"LEVELSET_MAX_BYTES must be a number .* '{text}'"):
        most_bytes()


def test_a_zip_is_judged_by_its_directory(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100_000))
        archive.writestr("one", b"1")
    monkeypatch.setenv("LEVELSET_MAX_BYTES", "99999")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        check_zip(archive, "f: a.zip", ["one"])
        with pytest.raises(DataError, match=r"f: a\.zip is too large: 100001 bytes"):
            check_zip(archive, "f: a.zip")
        monkeypatch.setenv("LEVELSET_MAX_BYTES", "1000")
        with pytest.raises(DataError, match=r"directory of 2 members is too large: 1024 bytes"):
            check_zip(archive, "f: a.zip", ["one"])
