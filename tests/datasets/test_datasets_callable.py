"""Data and objects through `module:callable`."""

import sys

import pytest
import torch

from levelset.datasets import read_images
from levelset.datasets._callable import call
from levelset.errors import DataError, ShapeError

SOURCE = """
import torch
from levelset.datasets import Images
from levelset.errors import ShapeError

POINTS = torch.linspace(0, 1, 12).view(6, 2)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])

def tensors():
    return POINTS, LABELS

def arrays():
    return POINTS.numpy(), LABELS.numpy()

def lists():
    return POINTS.tolist(), LABELS.tolist()

def split_taker(*, split):
    return (POINTS[:4], LABELS[:4]) if split == "train" else (POINTS[4:], LABELS[4:])

def any_taker(**options):
    return split_taker(**options)

def own():
    return Images(POINTS * 255, LABELS, ("a", "b", "c"), "mine", (0.0, 255.0))

def pixels():
    return (POINTS * 255).byte().numpy(), LABELS

def wide():
    return POINTS * 255, LABELS

def nothing():
    return None

def broken():
    raise KeyError("lost")

def ours():
    raise ShapeError("our own words")

class Factory:
    @staticmethod
    def build():
        return POINTS, LABELS
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"userdata_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


POINTS = torch.linspace(0, 1, 12).view(6, 2)


@pytest.mark.parametrize("name", ["tensors", "arrays", "lists", "Factory.build"])
def test_points_and_labels_of_every_kind(module, name):
    images = read_images(f"{module}:{name}")
    assert torch.allclose(images.points, POINTS, atol=0, rtol=1e-6)
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.classes == ("0", "1", "2")
    assert images.name == name


@pytest.mark.parametrize("name", ["split_taker", "any_taker"])
def test_the_split_is_handed_on_to_who_takes_it(module, name):
    assert len(read_images(f"{module}:{name}", split="train")) == 4
    assert torch.equal(read_images(f"{module}:{name}", limit=1).points, POINTS[4:5])


def test_images_keep_their_own_names_and_bounds(module):
    images = read_images(f"{module}:own", limit=2)
    assert torch.equal(images.points, POINTS[:2] * 255)
    assert (images.classes, images.name) == (("a", "b", "c"), "mine")
    assert images.bounds == (0.0, 255.0)


def test_bytes_are_pixels(module):
    assert torch.equal(read_images(f"{module}:pixels").points, (POINTS * 255).byte().float() / 255)


def test_the_path_is_left_as_found_and_the_data_too(module):
    before = list(sys.path)
    images = read_images(f"{module}:tensors")
    images.points.zero_()
    assert torch.equal(sys.modules[module].POINTS, POINTS)
    with pytest.raises(DataError):
        read_images(f"{module}:broken")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide", r":wide must have values within 0 to 1, .*0 to 255.*`Images` with bounds"),
        ("nothing", r":nothing must return `\(points, labels\)` or `Images`, got NoneType"),
        ("broken", r"read_images: userdata_.*:broken failed with KeyError: 'lost'"),
        ("absent", r"has no 'absent'; its callables are: .*tensors, arrays"),
        ("POINTS", r":POINTS must be callable, got Tensor"),
        ("", r"has no ''"),
    ],
)
def test_what_goes_wrong_is_told(module, name, message):
    with pytest.raises(DataError, match=message):
        read_images(f"{module}:{name}")


def test_our_own_errors_pass_as_they_are(module):
    with pytest.raises(ShapeError, match=r"our own words"):
        read_images(f"{module}:ours")


@pytest.mark.parametrize("text", ["no_such_module_here:f", "model.py:f", ":f", "a b:f"])
def test_a_module_that_is_not_there(text):
    with pytest.raises(DataError, match=r"cannot import the module .*without \.py"):
        read_images(text)


def test_a_module_that_fails_as_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "userdata_failing.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"'userdata_failing' .*ZeroDivisionError"):
        call("load_model", "userdata_failing:f")


def test_a_module_may_tidy_the_path_itself(tmp_path, monkeypatch):
    (tmp_path / "userdata_tidy.py").write_text("import sys; sys.path.pop(0)\ndef f(): return 3")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert call("load_model", "userdata_tidy:f") == 3
    assert sys.path == before


def test_builtins_without_a_signature_get_no_options():
    assert call("read_images", "builtins:dict", split="test") == {}
