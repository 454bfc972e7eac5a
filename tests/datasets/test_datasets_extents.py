"""Networks whose file promises more numbers than it holds: none reads what lies behind them."""

import warnings
import zipfile

import pytest
import torch
from torch import nn

from levelset.datasets import load_model
from levelset.errors import DataError


def contents(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(members, file):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """Return the members of a script with one weight of 30 by 40 numbers and one constant."""
    file = tmp_path_factory.mktemp("script") / "m.pt"

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(40, 30, bias=False)

        def forward(self, x):
            return self.layer(x) + torch.linspace(0, 1, 30)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Shifted(), torch.zeros(2, 40)), file)
    return contents(file)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    file = tmp_path_factory.mktemp("program") / "m.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(40, 30), (torch.zeros(2, 40),)), file)
    return contents(file)


@pytest.mark.parametrize("size", [0, 8, 4796, 4804])
def test_a_tensor_of_a_script_has_all_its_bytes(script, tmp_path, size):
    (name,) = (name for name in script if name.endswith("/data/0"))
    content = (2 * script[name])[:size]
    file = write({**script, name: content}, tmp_path / "m.pt")
    message = rf"m\.pt is damaged .*data/0 has {size} bytes, not 4800"
    with pytest.raises(DataError, match=message):
        load_model(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x1eK(", b"K\x1fK(", r"sizes \(31, 40\) and strides \(40, 1\) reaches past its 1200"),
        (b"K(K\x01", b"K)K\x01", r"sizes \(30, 40\) and strides \(41, 1\) reaches past its 1200"),
        (b"K(K\x01", b"K(K\xff", r"strides \(40, 255\) reaches past"),
        (b"K(K\x01", b"K(J\xff\xff\xff\xff", r"strides \(40, -1\) reaches past"),
        (b"M\xb0\x04", b"M\xb1\x04", "data/0 has 4800 bytes, not 4804"),
        (b"FloatStorage", b"DoubleStorage", "data/0 has 4800 bytes, not 9600"),
    ],
)
def test_a_tensor_of_a_script_lies_within_its_numbers(script, tmp_path, old, new, message):
    (name,) = (name for name in script if name.endswith("/data.pkl"))
    assert old in script[name]
    changed = script[name].replace(old, new)
    file = write({**script, name: changed}, tmp_path / "m.pt")
    with pytest.raises(DataError, match=message):
        load_model(file)


def test_the_constants_of_a_script_are_measured_too(script, tmp_path):
    names = [name for name in script if "/constants/" in name]
    for name in names:
        file = write({**script, name: script[name][:4]}, tmp_path / "m.pt")
        with pytest.raises(DataError, match="constants/0 has 4 bytes"):
            load_model(file)


@pytest.mark.parametrize("drop", [False, True])
def test_a_program_without_its_numbers_is_not_filled_with_zeros(program, tmp_path, drop):
    (name,) = (name for name in program if name.endswith("weights/weight_0"))
    members = {k: b"" if k == name else v for k, v in program.items() if not (drop and k == name)}
    file = write(members, tmp_path / "m.pt2")
    with pytest.raises(DataError, match="weight_0, the numbers of weight, is empty or missing"):
        load_model(file)


def test_a_program_with_too_few_numbers_is_refused(program, tmp_path):
    (name,) = (name for name in program if name.endswith("weights/weight_0"))
    file = write({**program, name: program[name][:-4]}, tmp_path / "m.pt2")
    with pytest.raises(DataError, match="is damaged"):
        load_model(file)
