"""Weights into networks, and the refusal of live pickles."""

import argparse
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from levelset.datasets._models import load_weights, unpickle_safely
from levelset.errors import DataError


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def save(state, file, *, old=False):
    if file.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=not old)
    return file


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


FORMATS = [("w.safetensors", False), ("w.pt", False), ("w.pth", True), ("w.bin", False)]


@pytest.mark.parametrize(("name", "old"), FORMATS)
def test_every_format_arrives_to_the_bit(tmp_path, name, old):
    source, target = network(), network()
    assert not same(source, target)
    load_weights(target, save(source.state_dict(), tmp_path / name, old=old))
    assert same(source, target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_models(tmp_path, dtype):
    source, target = network(), network()
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    load_weights(target, save(state, tmp_path / "w.safetensors"))
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, source[0].weight.to(dtype).float())


def change(**changes):
    state = network().state_dict()
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (change(_0__weight=torch.zeros(1)), r"1 unexpected \(_0.weight \(1,\)\)"),
        ({}, r"9 missing \(0.weight \(3, 4\), 0.bias \(3,\), 1.weight \(3,\), \.\.\.\)"),
        (
            {**network().state_dict(), "3.weight": torch.zeros(5, 3)},
            r"1 of another shape \(3.weight must be \(2, 3\), got \(5, 3\)\)",
        ),
        (
            {f"encoder.{k}": v for k, v in network().state_dict().items()},
            r"9 missing .*; 9 unexpected \(encoder.0.",
        ),
        (
            {**network().state_dict(), "0.weight": torch.zeros(3, 4, dtype=torch.complex64)},
            r"1 of another kind of number \(0.weight must be torch.float32, got torch.complex64\)",
        ),
        (
            {**network().state_dict(), "0.bias": torch.zeros(3, dtype=torch.int64)},
            r"1 of another kind of number \(0.bias must be torch.float32, got torch.int64\)",
        ),
    ],
)
def test_a_misfit_names_the_first_keys_and_shapes(tmp_path, state, message):
    file = save(state, tmp_path / "w.pt")
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DataError, match=r"w\.pt do not fit Sequential: " + message):
        load_weights(model, file)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


WRAPPED = [
    "module.{}", "_orig_mod.{}", "model.{}", "net.{}", "network.{}", "module._orig_mod.{}",
    "_orig_mod.module.{}", "model.module.{}", "model._orig_mod.{}",
]  # fmt: skip


@pytest.mark.parametrize("form", WRAPPED)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_wrappers_put_before_names_is_left_out(tmp_path, form, name):
    source, target = network(), network()
    state = {form.format(k): v for k, v in source.state_dict().items()}
    load_weights(target, save(state, tmp_path / name))
    assert same(source, target)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_is_opened_at_its_state_dict(tmp_path, key):
    source, target = network(), network()
    state = {f"model.{k}": v for k, v in source.state_dict().items()}
    state = {k.replace("0.", "0._orig_mod.", 1): v for k, v in state.items()}
    load_weights(target, save({"epoch": 3, key: state, "loss": 0.5}, tmp_path / "w.ckpt.pt"))
    assert same(source, target)


def test_names_that_fit_with_their_prefix_keep_it(tmp_path):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()

    source, target = Outer(), Outer()
    load_weights(target, save(source.state_dict(), tmp_path / "w.pt"))
    assert same(source, target)
    wrapped = {f"module.{k}": v for k, v in source.state_dict().items()}
    load_weights(target, save(wrapped, tmp_path / "w.pt"))
    assert same(source, target)


def test_a_checkpoint_without_a_state_dict_is_told_what_to_do(tmp_path):
    file = save({"epoch": 3, "weights": network().state_dict()}, tmp_path / "w.pt")
    message = r"hold a state dict.* under one of state_dict, .* got \['epoch', 'weights'\]"
    with pytest.raises(DataError, match=message):
        load_weights(network(), file)
    file = save(torch.zeros(3), tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"hold a state dict.* got Tensor"):
        load_weights(network(), file)


def test_a_checkpoint_with_objects_names_the_remedy(tmp_path):
    state = {"state_dict": network().state_dict(), "hyper_parameters": argparse.Namespace(width=3)}
    file = save(state, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"hyperparameters .*weights_only=False\)\[.state_dict.\]"):
        load_weights(network(), file)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file of weights .*gone\.pt"):
        load_weights(network(), tmp_path / "gone.pt")
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"weights must be \.safetensors, .* got w\.onnx"):
        load_weights(network(), tmp_path / "w.onnx")


@pytest.mark.parametrize("cut", [0, 1, 3, 200, 0.5, -10])
@pytest.mark.parametrize(("name", "old"), FORMATS)
def test_a_truncated_file_is_named(tmp_path, name, old, cut):
    file = save(network().state_dict(), tmp_path / name, old=old)
    data = file.read_bytes()
    file.write_bytes(data[: cut if isinstance(cut, int) else int(len(data) * cut)])
    with pytest.raises(DataError, match=rf"{name} is damaged or truncated"):
        load_weights(network(), file)


def test_a_flipped_byte_in_the_weights_is_noticed(tmp_path):
    model = network()
    file = save(model.state_dict(), tmp_path / "w.pt")
    data = bytearray(file.read_bytes())
    data[bytes(data).find(model[0].weight.detach().numpy().tobytes()) + 2] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"checksum of its member w/data/. is wrong"):
        load_weights(network(), file)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it ran",))


@pytest.mark.parametrize("write", ["whole", "whole_old", "bomb", "bomb_old", "plain"])
def test_a_live_pickle_is_refused_and_not_run(tmp_path, write):
    file = tmp_path / "w.pt"
    if write == "plain":
        file.write_bytes(pickle.dumps(Bomb()))
    else:
        content = network() if write.startswith("whole") else {"a": torch.zeros(2), "b": Bomb()}
        torch.save(content, file, _use_new_zipfile_serialization=not write.endswith("old"))
    message = r"w\.pt is refused: .* runs whatever code.*state_dict.*module:call.*torch\.export"
    for read in (unpickle_safely, lambda f: load_weights(network(), f)):
        with pytest.raises(DataError, match=message):
            read(file)


def test_a_zip_with_a_damaged_directory_is_named(tmp_path):
    file = save(network().state_dict(), tmp_path / "w.pt")
    data = bytearray(file.read_bytes())
    data[data.find(b"PK\x01\x02")] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"w\.pt is damaged or truncated"):
        load_weights(network(), file)


def test_a_network_that_refuses_weights_itself_is_heard(tmp_path):
    class Fussy(nn.Linear):
        def load_state_dict(self, *args, **options):
            raise RuntimeError("not today")

    file = save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"cannot load the weights .*w\.pt: not today"):
        load_weights(Fussy(2, 2), file)


@pytest.mark.parametrize("content", [b"abc", b"<html>", b"\x80\x02.", b"\x80\x04\x95"])
def test_what_was_never_a_tensor_is_damaged(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"w\.pt is damaged or truncated"):
        unpickle_safely(tmp_path / "w.pt")


def test_a_zip_of_something_else_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(DataError, match=r"w\.pt is damaged or truncated"):
        unpickle_safely(tmp_path / "w.pt")
