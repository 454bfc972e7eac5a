"""The dispatcher: what a spec means, and what is said when it means nothing."""

import numpy as np
import pytest

from levelset.datasets import read_images
from levelset.errors import DataError, ParameterError


@pytest.fixture
def home(tmp_path, monkeypatch, write_idx):
    folder = tmp_path / "home"
    folder.mkdir()
    write_idx(folder / "toy", np.zeros((4, 3, 3)), np.arange(4))
    monkeypatch.setenv("LEVELSET_DATA", str(folder))
    return folder


def test_a_bare_name_is_looked_up(home):
    images = read_images("toy")
    assert len(images) == 4
    assert images.name == "toy"


def test_a_path_comes_before_a_name(home, tmp_path, monkeypatch, write_idx):
    write_idx(tmp_path / "toy", np.zeros((2, 3, 3)), np.arange(2))
    monkeypatch.chdir(tmp_path)
    assert len(read_images("toy")) == 2


def test_a_path_with_a_colon_is_a_path(tmp_path, write_idx):
    write_idx(tmp_path / "a:b", np.zeros((2, 3, 3)), np.arange(2))
    assert len(read_images(tmp_path / "a:b")) == 2


def test_strings_and_paths_mean_the_same(home):
    assert read_images(str(home / "toy")).fingerprint() == read_images(home / "toy").fingerprint()


def test_an_unknown_name_lists_what_is_understood(home):
    message = r"'nope' is no data set .*Understood are: digits; .*\.npz.*LEVELSET_DATA \(toy\)"
    with pytest.raises(DataError, match=message):
        read_images("nope")


@pytest.mark.parametrize("value", [None, "", "/no/such/folder"])
def test_without_the_variable_the_message_says_so(monkeypatch, value):
    monkeypatch.delenv("LEVELSET_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("LEVELSET_DATA", value)
    with pytest.raises(DataError, match=r"not set, or no folder"):
        read_images("mnist")


@pytest.mark.parametrize("text", ["a/b", "gone.npz", "gone.zip", "../gone"])
def test_a_path_that_is_not_there_is_named(text):
    with pytest.raises(DataError, match=f"there is no file or folder {text}"):
        read_images(text)


def test_an_empty_spec_is_refused():
    with pytest.raises(ParameterError, match=r"`spec` must be a path, as text or .*, got ''"):
        read_images("")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"data\.csv is of no kind that is understood.*module:call"):
        read_images(tmp_path / "data.csv")


def test_one_idx_file_points_to_its_folder(home):
    with pytest.raises(DataError, match=r"is one IDX file: give its folder, .*toy"):
        read_images(home / "toy" / "t10k-images-idx3-ubyte")


@pytest.mark.messages
def test_the_split_is_checked():
    with pytest.raises(ParameterError, match=r"`split` must be one of train, test, got 'valid'"):
        read_images("digits", split="valid")


@pytest.mark.parametrize("limit", [0, -3])
def test_the_limit_is_checked(limit):
    with pytest.raises(ParameterError, match=f"`limit` must be at least 1, or None, got {limit}"):
        read_images("digits", limit=limit)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_the_real_sets_by_name(data_home, name):
    images = read_images(name, limit=20)
    assert (images.name, len(images), len(images.classes)) == (name, 20, 10)
    assert (images.points.min(), images.points.max()) == (0.0, 1.0)
