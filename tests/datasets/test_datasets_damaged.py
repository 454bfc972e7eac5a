"""Damage that made decoders raise errors of their own; `make fuzz` looks for more."""

import gzip
import io
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from levelset.datasets import load_model, read_images, read_points
from levelset.errors import DataError

PLY = b"ply\nformat %s 1.0\nelement vertex 2\n%send_header\n%s"
XYZ = b"property float x\nproperty float y\nproperty float z\n"
PCD = b"FIELDS x y z\nSIZE %s\nTYPE %s\nCOUNT %s\nPOINTS %s\nDATA %s\n%s"


def npy(header, data=b"\0" * 24):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), }"
POINTS = {
    "token.npy": npy(HEADER.replace(b"}", b"'''")),
    "syntax.npy": npy(HEADER.replace(b"'<f8'", b"<f8")),
    "unicode.npy": npy(HEADER.replace(b"descr", b"d\xff\xfe")),
    "dtype.npy": npy(HEADER.replace(b"<f8", b"<f7")),
    "titles.npy": npy(HEADER.replace(b"'<f8'", b"[('x', '<f8'), ('x', '<f8')]")),
    "key.npy": npy(HEADER.replace(b"shape", b"shave")),
    "float.npy": npy(HEADER.replace(b"(1, 3)", b"(1.5, 3)")),
    "text.npy": npy(HEADER.replace(b"(1, 3)", b"'abc'")),
    "deep.npy": npy(HEADER.replace(b"(1, 3)", b"(" * 5000 + b")" * 5000)),
    "version.npy": b"\x93NUMPY\x09\x09" + npy(HEADER)[8:],
    "cut.npy": npy(HEADER)[:-1],
    "empty.npy": b"",
    "twice.ply": PLY % (b"ascii", XYZ + b"property float x\n", b"0 0 0 0\n1 1 1 1\n"),
    "twice-binary.ply": PLY % (b"binary_little_endian", XYZ + b"property float x\n", bytes(32)),
    "twice-before.ply": b"ply\nformat binary_little_endian 1.0\nelement a 1\nproperty int b\n"
    b"property int b\nelement vertex 1\n" + XYZ + b"end_header\n" + bytes(20),
    "none.ply": PLY % (b"binary_little_endian", b"", bytes(24)),
    "negative.ply": (PLY % (b"ascii", XYZ, b"0 0 0\n")).replace(b"vertex 2", b"vertex -2"),
    "huge.ply": (PLY % (b"ascii", XYZ, b"0 0 0\n")).replace(b"vertex 2", b"vertex " + b"9" * 5000),
    "underline.ply": PLY % (b"ascii", XYZ, b"0 0 0\n1 1 1_1x\n"),
    "size.pcd": PCD % (b"4 4 3", b"F F F", b"1 1 1", b"1", b"binary", bytes(12)),
    "none.pcd": PCD % (b"4 4 4", b"F F F", b"1 1 0", b"1", b"ascii", b"0 0 0"),
    "less.pcd": PCD % (b"4 4 4", b"F F F", b"1 1 -1", b"1", b"ascii", b"0 0 0"),
    "wide.pcd": PCD % (b"4 4 4", b"F F F", b"1 1 2", b"2", b"ascii", b"0 0 0 0\n1 1 1 1\n"),
    "wide-binary.pcd": PCD % (b"4 4 4", b"F F F", b"2 2 2", b"2", b"binary", bytes(48)),
    "type.pcd": PCD % (b"4 4 4", b"F F Q", b"1 1 1", b"1", b"ascii", b"0 0 0"),
    "few.pcd": PCD % (b"4 4", b"F F F", b"1 1 1", b"1", b"ascii", b"0 0 0"),
    "points.pcd": PCD % (b"4 4 4", b"F F F", b"1 1 1", b"-1", b"binary", bytes(12)),
    "order.pcd": PCD % (b"4 4 1", b"F F F", b"1 1 1", b"1", b"binary", bytes(12)),
    "packed.pcd": PCD % (b"4 4 4", b"F F F", b"1 1 1", b"1", b"binary_compressed", bytes(12)),
    "zero.obj": b"v 0 0\0 0\n",
    "ragged.xyz": b"1 2 3\n4 5\n",
    "long.csv": b"x,y,z\n" + b"1" * 400 + b"e9,1,x\n",
    "utf16.txt": "0 0 x\n".encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", POINTS)
def test_damaged_points_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(POINTS[name])
    with pytest.raises(DataError, match=rf"read_points: .*{name}"):
        read_points(tmp_path / name)


def saved(save, content):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(content, stream)
    return stream.getvalue()


def with_names(data, old, new):
    """Return a zip with other bytes in the names of its members."""
    return data.replace(old, new)


STATE = saved(torch.save, nn.Linear(4, 3).state_dict())
WEIGHTS = {
    "name.pt": with_names(STATE, b"data.pkl", b"data\xff\xfekl"),
    "flags.pt": STATE.replace(b"PK\x01\x02\x00\x00\x00\x00\x08\x08", b"PK\x01\x02\0\0\0\0\xff\xff"),
    "end.pt": STATE[:-2],
    "directory.pt": STATE[: STATE.find(b"PK\x01\x02") + 4] + STATE[STATE.find(b"PK\x01\x02") + 9 :],
    "empty.pt": b"PK\x05\x06" + bytes(18),
    "text.pt": b"\x80\x02X\x04\0\0\0\xff\xfe\xff\xfe.",
    "global.pt": b"\x80\x02c\xff\xfe\n\xff\n.",
    "header.safetensors": struct.pack("<Q", 2**60) + b"{}",
    "utf.safetensors": struct.pack("<Q", 2) + b"\xff\xfe",
    "json.safetensors": struct.pack("<Q", 2) + b"[]",
    "offsets.safetensors": struct.pack("<Q", 63)
    + b'{"weight":{"dtype":"F32","shape":[9,9],"data_offsets":[0,999]}}',
    "empty.safetensors": b"",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights_and_models_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(WEIGHTS[name])
    with pytest.raises(DataError, match=rf"load_model: .*{name}"):
        load_model("fc(4, 3)", tmp_path / name)
    with pytest.raises(DataError, match=rf"load_model: .*{name}"):
        load_model(tmp_path / name)


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return stream.getvalue()


LABELS = npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", bytes(8))
SQUARE = npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1, 1), }", bytes(8))
IMAGES = {
    "token.npz": archive(**{"images.npy": npy(HEADER.replace(b"}", b"'''")), "labels.npy": LABELS}),
    "complex.npz": archive(
        **{"images.npy": SQUARE.replace(b"<f8", b"<c8"), "labels.npy": LABELS}
    ),
    "text.npz": b"PK\x03\x04 and no more",
    "text.zip": b"PK\x05\x06 and no more",
    "name.zip": archive(**{"cat/aa.png": b"x"}).replace(b"cat/aa", b"cat/\xff\xfe"),
    "cut.parquet": b"PAR1" + bytes(20) + b"PAR1",
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_damaged_images_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(IMAGES[name])
    with pytest.raises(DataError, match=rf"read_images: .*{name}"):
        read_images(tmp_path / name)


@pytest.mark.parametrize(
    "labels", [["a", "b"], [0.5, 1.5], [[0], [1]], [b"a", b"b"], [True, False]]
)
def test_labels_of_a_table_that_are_no_integers_are_named(tmp_path, labels):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"image": [b"x", b"x"], "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"read_images: .*a\.parquet must have .*labels"):
        read_images(tmp_path / "a.parquet")


@pytest.mark.parametrize("at", [0, 3, 9, 12, -9, -4, -1])
def test_a_damaged_gzip_is_named(tmp_path, at):
    data = gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 1, 2, 2) + bytes(range(4)))
    bad = bytearray(data)
    bad[at] ^= 0xFF
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(bytes(bad))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 0]))
    if at == 9:  # the system that wrote it, which says nothing of the content
        assert len(read_images(tmp_path)) == 1
        return
    with pytest.raises(DataError, match=r"read_images: .*t10k-images-idx3-ubyte\.gz"):
        read_images(tmp_path)


def test_plain_numbers_of_every_kind_still_read(tmp_path):
    for kind in ("<f4", ">f8", "<i2", "|u1", "<f2"):
        points = np.arange(12).reshape(4, 3).astype(kind)
        np.save(tmp_path / "a.npy", np.asfortranarray(points))
        assert read_points(tmp_path / "a.npy").points.tolist() == points.astype(float).tolist()


# How many inputs it meets depends on the machine: a search, not a regression test.
@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_fuzzer_runs_and_finds_nothing():
    script = Path(__file__).parents[1] / "fuzz" / "run.py"
    command = [sys.executable, str(script), "--seconds", "20", "--seed", "7", "fuzz_readers"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "inputs" in done.stdout
