"""The dispatcher of models."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from levelset import networks
from levelset.datasets import load_model, read_images
from levelset.errors import DataError, ParameterError

SOURCE = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2)).train()

class Zoo:
    small = staticmethod(build)

def text():
    return "no module"

def needs(width):
    return nn.Linear(width, 2)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"usermodel_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_callable_without_weights_is_taken_as_built(module):
    model = load_model(f"{module}:Zoo.small")
    assert [type(layer) for layer in model] == [nn.Linear, nn.Dropout, nn.Linear]
    assert not any(layer.training for layer in model.modules())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_callable_with_weights(module, tmp_path, name):
    source = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2))
    save = save_file if name.endswith("safetensors") else torch.save
    save(source.state_dict(), tmp_path / name)
    model = load_model(f"{module}:build", tmp_path / name)
    points = torch.linspace(-1, 1, 20).view(5, 4)
    assert torch.equal(model(points), source.eval()(points))
    assert load_model(f"{module}:build", str(tmp_path / name))[0].bias.equal(source[0].bias)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", r":text must return an nn\.Module, got str"),
        ("needs", r"load_model: .*:needs failed with TypeError: .*width"),
        ("absent", r"load_model: the module .* has no 'absent'; its callables are: build, Zoo"),
    ],
)
def test_a_callable_that_does_not_build(module, name, message):
    with pytest.raises(DataError, match=message):
        load_model(f"{module}:{name}")


@pytest.mark.parametrize("spec", ["fc(4, 3, 2)", "fc(4,3,2)"])
def test_a_network_by_name_with_weights(tmp_path, spec):
    source = networks.fc(4, 3, 2)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = load_model(spec, tmp_path / "w.safetensors")
    assert not model.training
    points = torch.linspace(-1, 1, 20).view(5, 4)
    assert torch.equal(model(points), source.eval()(points))


def test_a_network_by_name_needs_weights():
    with pytest.raises(ParameterError, match=r"`weights` must be given for the network lenet, whi"):
        load_model("lenet")


def test_the_global_generator_is_left_alone(module):
    before = torch.get_rng_state()
    load_model(f"{module}:build")
    with pytest.raises(ParameterError):
        load_model("lenet")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_digits_network_carries_its_weights():
    model, test = load_model("digits"), read_images("digits")
    with torch.no_grad():
        accuracy = (model(test.points).argmax(1) == test.labels).float().mean()
    assert accuracy >= 0.98


def test_a_folder_of_the_same_name_does_not_hide_a_network(tmp_path, monkeypatch):
    (tmp_path / "lenet").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"'run' is a folder: give the file in it"):
        load_model("run")
    with pytest.raises(ParameterError, match=r"`weights` must be given"):
        load_model("lenet")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w"])
def test_weights_alone_ask_for_the_architecture(tmp_path, name):
    state = networks.fc(4, 3, 2).state_dict()
    (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)
    message = rf"{name} holds weights without an architecture.*`module:callable`.*--weights"
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / name)


@pytest.mark.parametrize("old", [False, True])
def test_a_network_saved_whole_is_refused_with_the_way_out(tmp_path, old):
    file = tmp_path / "whole.pt"
    torch.save(networks.fc(4, 3, 2), file, _use_new_zipfile_serialization=not old)
    with pytest.raises(DataError, match=r"whole\.pt is refused: .*state_dict\(\).*torch\.export"):
        load_model(file)


@pytest.mark.parametrize("spec", ["nope", "runs/gone.pt2", " ", "fc(1"])
def test_what_is_not_understood(spec):
    message = r"is no file, and no network known here.* Understood are: a \.pt2 .*convnet_4a.*digi"
    with pytest.raises(DataError, match=message):
        load_model(spec)


def test_an_empty_spec_is_refused():
    with pytest.raises(ParameterError, match=r"`spec` must be a path, as text or .*, got ''"):
        load_model("")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.py", b"import torch", r"model\.py' is no model file\. Understood are"),
        ("empty.pt2", b"", r"empty\.pt2 is damaged or truncated"),
        ("text.pt2", b"hello", r"text\.pt2 is damaged or truncated"),
        ("text.pt", b"hello", r"text\.pt is damaged or truncated"),
        ("cut.pt", b"PK\x03\x04 and so on", r"cut\.pt is damaged or truncated"),
    ],
)
def test_files_that_are_no_models(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / name)


def test_a_zip_of_something_else(tmp_path, zip_of):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"is a zip, but none that PyTorch writes"):
        load_model(zip_of(tmp_path / "d"))


def test_a_zip_with_a_damaged_directory(tmp_path):
    file = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(3)}, file)
    data = bytearray(file.read_bytes())
    data[data.find(b"PK\x01\x02")] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"w\.pt is damaged or truncated"):
        load_model(file)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(self, *args):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "m.pt2").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cannot read .*m\.pt2 \(Permission denied\)"):
        load_model(tmp_path / "m.pt2")


@pytest.mark.data
@pytest.mark.parametrize("name", ["xent", "madry-eps0.3", "ours-eps0.4"])
def test_the_released_networks_classify_mnist(data_home, name):
    file = data_home / "networks" / f"mnist-convnet4a-{name}.safetensors"
    model = load_model("convnet-4a", file)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in load_file(file).items())
    images = read_images(data_home / "mnist", limit=500)
    with torch.no_grad():
        accuracy = (model(images.points).argmax(1) == images.labels).float().mean()
    assert accuracy >= 0.985
