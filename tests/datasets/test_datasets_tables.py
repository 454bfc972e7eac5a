"""Archives of arrays and Parquet tables."""

import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from levelset.datasets import read_images
from levelset.errors import DataError


def encode(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def expected(pictures):
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 255


@pytest.mark.parametrize(
    ("image_key", "label_key"), [("images", "labels"), ("points", "y"), ("x", "labels")]
)
def test_npz_under_each_name(tmp_path, pictures, image_key, label_key):
    file = tmp_path / "toy.npz"
    names = np.array(["cat", "dog", "owl"])
    np.savez_compressed(file, **{image_key: pictures[0], label_key: pictures[1], "classes": names})
    images = read_images(file)
    assert torch.equal(images.points, expected(pictures[0]))
    assert images.labels.tolist() == pictures[1].tolist()
    assert images.classes == ("cat", "dog", "owl")
    assert images.name == "toy"


def test_npz_of_keras_has_splits_and_columns_of_labels(tmp_path, pictures):
    file = tmp_path / "keras.npz"
    pixels, labels = pictures[0], pictures[1][:, None].astype(np.uint8)
    np.savez(file, x_train=pixels[:8], y_train=labels[:8], x_test=pixels[8:], y_test=labels[8:])
    assert len(read_images(file, split="train")) == 8
    images = read_images(file, limit=3)
    assert torch.equal(images.points, expected(pixels[8:11]))
    assert images.labels.tolist() == [2, 0, 1]


def test_npz_floats_are_taken_as_they_are(tmp_path, noise):
    points = noise.random((4, 2))
    np.savez(tmp_path / "p.npz", points=points, labels=np.arange(4))
    read = read_images(tmp_path / "p.npz").points
    assert np.array_equal(read.numpy(), points.astype(np.float32))


def test_npz_out_of_bounds_names_the_range(tmp_path, noise):
    np.savez(tmp_path / "p.npz", points=noise.random((4, 2)).round() * 255, labels=np.arange(4))
    with pytest.raises(DataError, match=r"p\.npz must have values within 0 to 1, .*0 to 255"):
        read_images(tmp_path / "p.npz")


def test_npz_without_labels_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 2)), target=np.zeros(2))
    with pytest.raises(DataError, match=r"y_test, labels, y, got target, x"):
        read_images(tmp_path / "p.npz")


def test_npz_with_a_live_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it ran",))

    labels = np.array([Bomb(), Bomb()], dtype=object)
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 2)), y=labels)
    with pytest.raises(DataError, match=r"p\.npz is damaged.*Pickled objects are refused"):
        read_images(tmp_path / "p.npz")


@pytest.mark.parametrize("write", ["pickle", "array", "text", "nothing"])
def test_npz_that_is_none_is_refused(tmp_path, write):
    file = tmp_path / "p.npz"
    with file.open("wb") as stream:
        if write == "pickle":
            pickle.dump({"x": 1}, stream)
        elif write == "array":
            np.save(stream, np.zeros((2, 2)))
        elif write == "text":
            stream.write(b"x,y")
    with pytest.raises(DataError, match=r"p\.npz is damaged, or no archive of plain arrays"):
        read_images(file)


@pytest.mark.parametrize("cut", [10, 400, -1])
def test_npz_cut_short_is_refused(tmp_path, pictures, cut):
    file = tmp_path / "p.npz"
    np.savez_compressed(file, x=pictures[0], y=pictures[1])
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"p\.npz is damaged"):
        read_images(file)


def test_npz_with_a_flipped_byte_is_refused(tmp_path, pictures):
    file = tmp_path / "p.npz"
    np.savez(file, x=pictures[0], y=pictures[1])
    data = bytearray(file.read_bytes())
    data[500] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"damaged.*CRC"):
        read_images(file)


@pytest.fixture
def write_parquet(tmp_path, pictures):
    def write(column="image", *, struct=True, labels=None, names=None, cells=None):
        cells = [encode(p) for p in pictures[0]] if cells is None else cells
        if struct:
            cells = [{"bytes": cell, "path": None} for cell in cells]
        labels = pictures[1] if labels is None else labels
        table = pa.table({column: cells, "label": labels})
        if names is not None:
            features = {"label": {"names": names, "_type": "ClassLabel"}}
            info = {"huggingface": json.dumps({"info": {"features": features}})}
            table = table.replace_schema_metadata(info)
        pq.write_table(table, tmp_path / "toy.parquet")
        return tmp_path / "toy.parquet"

    return write


@pytest.mark.parametrize("struct", [False, True])
@pytest.mark.parametrize("column", ["image", "img"])
def test_parquet_as_the_hub_writes_it(write_parquet, pictures, column, struct):
    images = read_images(write_parquet(column, struct=struct, names=["cat", "dog", "owl"]))
    assert torch.equal(images.points, expected(pictures[0]))
    assert images.labels.tolist() == pictures[1].tolist()
    assert images.classes == ("cat", "dog", "owl")


def test_parquet_limit_is_the_front_and_decodes_no_more(write_parquet, pictures):
    cells = [encode(p) for p in pictures[0][:5]] + [b"no image"] * 7
    images = read_images(write_parquet(cells=cells), limit=5)
    assert torch.equal(images.points, expected(pictures[0][:5]))
    assert images.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "photo"}, "columns `image` .or `img`. and `label`, got photo, label"),
        ({"cells": [b"no image"] * 12}, r"row 0 of .*toy\.parquet does not decode"),
        ({"cells": [None] * 12}, "encoded images as bytes.* got NoneType in row 0"),
        ({"labels": [None, *range(11)]}, "has 1 rows without a label"),
        ({"labels": [float(i) for i in range(12)]}, "must have integer labels, got float64"),
        ({"labels": list("abcabcabcabc")}, "must have integer labels, got object"),
        ({"labels": [-1] * 12}, "labels from 0 to 99999, got -1"),
        ({"names": ["cat", "dog"]}, "labels from 0 to 1, got 2"),
        ({"cells": [], "labels": np.zeros(0, int), "struct": False}, "is empty"),
    ],
)
def test_parquet_that_is_unsound_is_refused(write_parquet, options, message):
    with pytest.raises(DataError, match=message):
        read_images(write_parquet(**options))


@pytest.mark.parametrize("cut", [0, 10, -10])
def test_parquet_cut_short_is_refused(write_parquet, cut):
    file = write_parquet()
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"toy\.parquet is damaged or no Parquet table"):
        read_images(file)
