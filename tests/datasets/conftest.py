"""Small data sets on disk, with every pixel known."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(array: np.ndarray, *, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def pictures(noise):
    """Return 12 colour pictures, (12, 5, 4, 3), with their labels in 0..2, in turn."""
    return noise.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8), np.arange(12) % 3


@pytest.fixture
def image_folder(tmp_path, pictures):
    """Return a folder train/CLASS/NN.png, test/CLASS/NN.png: 8 and 4 of the pictures."""
    folder = tmp_path / "zoo"
    for row, (picture, label) in enumerate(zip(*pictures, strict=True)):
        path = folder / ("train" if row < 8 else "test") / f"c{label}" / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture))
    return folder


@pytest.fixture
def write_idx():
    def write(folder: Path, images, labels, *, prefix="t10k", dot="-", gz=False) -> None:
        folder.mkdir(exist_ok=True)
        for kind, array, axes in (("images", images, 3), ("labels", labels, 1)):
            data = idx(np.asarray(array))
            name = f"{prefix}-{kind}{dot}idx{axes}-ubyte"
            path = folder / (f"{name}.gz" if gz else name)
            path.write_bytes(gzip.compress(data) if gz else data)

    return write


@pytest.fixture
def zip_of():
    def pack(folder: Path, *, root: str = "") -> Path:
        file = folder.with_suffix(".zip")
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, root + str(path.relative_to(folder)))
        return file

    return pack


@pytest.fixture
def data_home() -> Path:
    home = os.environ.get("LEVELSET_DATA")
    if not home:
        pytest.skip("LEVELSET_DATA names no folder of data sets")
    return Path(home)
