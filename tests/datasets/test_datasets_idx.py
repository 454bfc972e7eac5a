"""IDX folders."""

import gzip

import numpy as np
import pytest
import torch

from levelset.datasets import read_images
from levelset.errors import DataError


@pytest.fixture
def arrays(noise):
    return noise.integers(0, 256, (9, 6, 5), dtype=np.uint8), np.arange(9) % 4


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
def test_every_spelling_gives_the_same_pixels(tmp_path, arrays, write_idx, dot, gz):
    write_idx(tmp_path / "toy", *arrays, dot=dot, gz=gz)
    images = read_images(tmp_path / "toy")
    assert torch.equal(images.points, torch.from_numpy(arrays[0][:, None]).float() / 255)
    assert images.labels.tolist() == arrays[1].tolist()
    assert images.classes == ("0", "1", "2", "3")
    assert images.name == "toy"


def test_each_split_has_its_own_files(tmp_path, arrays, write_idx):
    pixels, labels = arrays
    write_idx(tmp_path / "toy", pixels[:5], labels[:5], prefix="train", gz=True)
    write_idx(tmp_path / "toy", pixels[5:], labels[5:], prefix="t10k", dot=".")
    assert len(read_images(tmp_path / "toy", split="train")) == 5
    assert read_images(tmp_path / "toy").labels.tolist() == labels[5:].tolist()


def test_a_limit_is_the_front_in_the_order_of_the_file(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "toy", *arrays)
    images, front = read_images(tmp_path / "toy"), read_images(tmp_path / "toy", limit=3)
    assert torch.equal(front.points, images.points[:3])
    assert torch.equal(front.labels, images.labels[:3])
    assert front.classes == images.classes


def test_fashion_mnist_has_names(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "fashion-mnist", *arrays)
    assert read_images(tmp_path / "fashion-mnist").classes[9] == "Ankle boot"


def test_a_split_that_is_missing_is_named(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "toy", *arrays)
    with pytest.raises(DataError, match=r"no images of the train split: .*train-images-idx3-ubyte"):
        read_images(tmp_path / "toy", split="train")


def test_missing_labels_are_named(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "toy", *arrays)
    (tmp_path / "toy" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no labels of the test split"):
        read_images(tmp_path / "toy")


@pytest.mark.parametrize("cut", [15, 40, -9, -1])
def test_a_cut_gz_is_named_even_behind_the_limit(tmp_path, arrays, write_idx, cut):
    write_idx(tmp_path / "toy", *arrays, gz=True)
    path = tmp_path / "toy" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz is damaged, truncated"):
        read_images(tmp_path / "toy", limit=1)


def test_a_flipped_byte_in_a_gz_is_noticed(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "toy", *arrays, gz=True)
    path = tmp_path / "toy" / "t10k-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"damaged"):
        read_images(tmp_path / "toy")


@pytest.mark.parametrize(("change", "found"), [(lambda d: d[:-7], 263), (lambda d: d + b"x", 271)])
def test_a_header_that_does_not_match_is_named(tmp_path, arrays, write_idx, change, found):
    write_idx(tmp_path / "toy", *arrays)
    path = tmp_path / "toy" / "t10k-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"promises 270 bytes after itself, there are {found}"):
        read_images(tmp_path / "toy", limit=1)


@pytest.mark.parametrize("data", [b"", b"\x00\x00", b"P5 5 6 255", b"\x00\x00\x0d\x03" + bytes(12)])
def test_what_is_no_idx_file_is_named(tmp_path, arrays, write_idx, data):
    write_idx(tmp_path / "toy", *arrays)
    (tmp_path / "toy" / "t10k-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=r"unsigned bytes with 3 axes .magic number 2051., got"):
        read_images(tmp_path / "toy")


def test_counts_that_differ_are_named(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "toy", arrays[0], arrays[1][:-1])
    with pytest.raises(DataError, match=r"holds 9 images but 8 labels"):
        read_images(tmp_path / "toy")


def test_an_empty_set_is_named(tmp_path, write_idx):
    write_idx(tmp_path / "toy", np.zeros((0, 6, 5)), np.zeros(0))
    with pytest.raises(DataError, match=r"is empty"):
        read_images(tmp_path / "toy")


@pytest.mark.data
def test_mnist_is_what_its_authors_published(data_home):
    images = read_images(data_home / "mnist")
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.labels.bincount().tolist() == counts
    assert images.points.shape == (10_000, 1, 28, 28)
    raw = gzip.decompress((data_home / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert (images.points * 255).round().to(torch.uint8).numpy().tobytes() == raw


@pytest.mark.data
def test_mnist_training_labels(data_home):
    images = read_images(data_home / "mnist", split="train", limit=10)
    assert images.labels.tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
