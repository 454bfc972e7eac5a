"""Image folders and zips."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from levelset.datasets import _read as _folder
from levelset.datasets import read_images
from levelset.errors import DataError


def expected(pictures, rows):
    return torch.from_numpy(pictures[0][rows].transpose(0, 3, 1, 2).copy()).float() / 255


# the classes of the pictures are 0, 1, 2, 0, 1, ...; the first of the test split is of class 2
@pytest.mark.parametrize(("split", "rows"), [("train", list(range(8))), ("test", [9, 10, 8, 11])])
@pytest.mark.parametrize("packed", [False, True])
def test_the_classes_come_in_turn(image_folder, pictures, zip_of, split, rows, packed):
    images = read_images(zip_of(image_folder) if packed else image_folder, split=split)
    assert torch.equal(images.points, expected(pictures, rows))
    assert images.labels.tolist() == pictures[1][rows].tolist()
    assert images.classes == ("c0", "c1", "c2")
    assert images.name == "zoo"


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 100])
def test_a_limit_is_the_front_and_even(image_folder, limit):
    images = read_images(image_folder, split="train")
    front = read_images(image_folder, split="train", limit=limit)
    assert torch.equal(front.points, images.points[:limit])
    assert front.classes == images.classes
    counts = front.labels.bincount(minlength=3)
    assert counts.max() - counts.min() <= 1


def test_only_what_is_returned_is_decoded(image_folder, monkeypatch):
    opened = []
    decode = _folder.decode_all
    monkeypatch.setattr(
        _folder, "decode_all", lambda e: decode(opened.append(name) or (name, d) for name, d in e)
    )
    read_images(image_folder, split="train", limit=2)
    assert len(opened) == 2


def test_without_splits_the_same_images_serve_for_either(image_folder):
    flat = image_folder / "train"
    train, test = read_images(flat, split="train"), read_images(flat, split="test")
    assert len(train) == 8
    assert train.fingerprint() == test.fingerprint()


def test_labels_agree_between_splits_that_lack_a_class(image_folder):
    shutil.rmtree(image_folder / "test" / "c0")
    images = read_images(image_folder)
    assert images.classes == ("c0", "c1", "c2")
    assert set(images.labels.tolist()) == {1, 2}


def test_hidden_files_and_other_files_are_skipped(image_folder):
    before = read_images(image_folder).fingerprint()
    (image_folder / "test" / "c0" / "notes.txt").write_text("no image")
    (image_folder / "test" / "c0" / "._08.png").write_bytes(b"resource fork")
    (image_folder / ".git").mkdir()
    (image_folder / ".git" / "x.png").write_bytes(b"no")
    (image_folder / "__MACOSX").mkdir()
    (image_folder / "__MACOSX" / "y.png").write_bytes(b"no")
    (image_folder / "preview.png").write_bytes(b"not below a split")
    assert read_images(image_folder).fingerprint() == before


def test_folders_above_and_below_the_classes_are_seen_through(image_folder, zip_of):
    before = read_images(image_folder).fingerprint()
    assert read_images(zip_of(image_folder, root="a/b/")).fingerprint() == before
    inner = image_folder / "test" / "c0" / "images"
    inner.mkdir()
    for path in (image_folder / "test" / "c0").glob("*.png"):
        path.rename(inner / path.name)
    assert read_images(image_folder).fingerprint() == before


def test_a_folder_with_one_zip_is_that_zip(image_folder, zip_of, tmp_path):
    home = tmp_path / "holder"
    home.mkdir()
    zip_of(image_folder).rename(home / "data.zip")
    images = read_images(home)
    assert images.fingerprint() == read_images(image_folder).fingerprint()
    assert images.name == "holder"


def test_an_image_outside_of_the_classes_is_named(image_folder):
    (image_folder / "test" / "c0").rename(image_folder / "elsewhere")
    shutil.copy(image_folder / "train" / "c0" / "00.png", image_folder / "test" / "stray.png")
    with pytest.raises(DataError, match=r"one sub-folder a class, got the image test/stray\.png"):
        read_images(image_folder)


def test_a_flat_folder_of_images_is_refused(image_folder):
    with pytest.raises(DataError, match=r"got the image 00\.png outside of them.*module:callable"):
        read_images(image_folder / "train" / "c0")


def test_a_missing_split_is_named(image_folder):
    shutil.rmtree(image_folder / "test")
    with pytest.raises(DataError, match=r"has no test split: no images below test/"):
        read_images(image_folder)


@pytest.mark.parametrize(("name", "found"), [(None, "nothing"), ("notes.txt", "notes.txt")])
def test_a_folder_without_images_is_refused(tmp_path, name, found):
    if name:
        (tmp_path / name).write_text("no image")
    with pytest.raises(DataError, match=f"holds no images, but {found}. Expected CLASS/IMAGE"):
        read_images(tmp_path)


def test_a_damaged_image_is_named_with_its_path(image_folder):
    path = image_folder / "test" / "c1" / "10.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"c1.10\.png does not decode"):
        read_images(image_folder)


def test_an_image_that_cannot_be_read_is_named(image_folder):
    (image_folder / "test" / "c1" / "11.png").symlink_to(image_folder / "gone.png")
    with pytest.raises(DataError, match=r"cannot read .*11\.png \(No such file"):
        read_images(image_folder)


def test_a_member_with_a_wrong_checksum_is_named(image_folder, zip_of):
    file = zip_of(image_folder)
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("test/c1/10.png").header_offset
    data = bytearray(file.read_bytes())
    data[start + 80] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"cannot read test/c1/10\.png in .*zoo\.zip .*CRC"):
        read_images(file)


def test_a_truncated_zip_is_named(image_folder, zip_of):
    file = zip_of(image_folder)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"zoo\.zip is damaged or no zip"):
        read_images(file)


def test_a_member_with_a_password_is_named(image_folder, zip_of):
    file = zip_of(image_folder)
    data = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 1)
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"cannot read test/c0/09\.png in .* password"):
        read_images(file)


def test_a_folder_that_may_not_be_listed_is_named(image_folder, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot read the folder .*zoo \(Permission denied\)"):
        read_images(image_folder)


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any),
    limit=st.none() | st.integers(1, 30),
)
def test_every_front_takes_the_classes_evenly(sizes, limit):
    members = [(f"c{c}", f"{i}.png") for c, size in enumerate(sizes) for i in range(size)]
    chosen, labels, classes = _folder._choose(members[::-1], "test", limit, source="SOURCE")
    assert len(set(chosen)) == len(chosen) == min(len(members), limit or len(members))
    assert [member[0] for member in chosen] == [classes[label] for label in labels]
    counts = {name: labels.count(label) for label, name in enumerate(classes)}
    most = max(counts.values())
    assert all(counts[f"c{c}"] >= min(size, most - 1) for c, size in enumerate(sizes) if size)


def test_an_empty_zip_is_refused(tmp_path):
    file = tmp_path / "empty.zip"
    zipfile.ZipFile(file, "w").close()
    with pytest.raises(DataError, match=r"holds no images, but nothing"):
        read_images(file)


@pytest.mark.data
def test_a_hundred_of_cifar10_are_ten_of_each_class(data_home):
    images = read_images(data_home / "cifar10", limit=100)
    assert (images.classes[0], images.classes[3], images.classes[9]) == ("airplane", "cat", "truck")
    assert images.points.shape == (100, 3, 32, 32)
    assert images.labels.bincount().tolist() == [10] * 10


@pytest.mark.data
@pytest.mark.slow
def test_cifar10_has_the_published_statistics(data_home):
    points = read_images(data_home / "cifar10", split="train", limit=10_000).points
    mean, std = points.mean((0, 2, 3)), points.std((0, 2, 3))
    assert np.allclose(mean, (0.4913, 0.4821, 0.4465), atol=5e-3)
    assert np.allclose(std, (0.2452, 0.2428, 0.2606), atol=5e-3)
