"""Exported programs, and what they share with TorchScript."""

import io
import json
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn
from zoo import zoo

from levelset.datasets import load_model
from levelset.datasets._exported import load_exported
from levelset.errors import DataError, ParameterError


class Network(nn.Module):
    """A network with everything that an export keeps apart: buffers, constants, dropout."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout()
        self.shift = torch.linspace(0, 1, 3)

    def forward(self, x):
        return self.drop(self.norm(self.first(x))) + self.shift


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a network, the inputs of its export, and the file."""
    file = tmp_path_factory.mktemp("exported") / "m.pt2"
    model, points = Network().eval(), torch.linspace(-1, 1, 20).view(5, 4)
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(model, (points,), dynamic_shapes=shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file)
    return model, points, file


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    file = tmp_path_factory.mktemp("scripted") / "m.pt"
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), file)
    return model.eval(), torch.linspace(-1, 1, 20).view(5, 4), file


@pytest.fixture
def edit(exported, tmp_path):
    """Return a function that writes the exported program with some members changed or added."""

    def write(changes):
        target = tmp_path / "edited.pt2"
        with zipfile.ZipFile(exported[2]) as old, zipfile.ZipFile(target, "w") as new:
            members = {name: old.read(name) for name in old.namelist()}
            for name, content in {**members, **changes}.items():
                new.writestr(name, content)
        return target

    return write


def gradient(model, points):
    points = points.clone().requires_grad_()
    return torch.autograd.grad(model(points).square().sum(), points)[0]


@pytest.mark.parametrize("name", ["m.pt2", "m.zip", "model"])
def test_an_exported_program_computes_the_same(exported, tmp_path, name):
    model, points, file = exported
    (tmp_path / name).write_bytes(file.read_bytes())
    loaded = load_model(tmp_path / name)
    for batch in (points, points[:1], torch.cat([points, points])):
        assert torch.equal(loaded(batch), model(batch))
    assert torch.allclose(gradient(loaded, points), gradient(model, points))
    assert sum(p.numel() for p in loaded.parameters()) == 21


def test_an_exported_program_can_be_held_in_evaluation_mode(exported):
    loaded = load_model(exported[2])
    assert not any(module.training for module in loaded.modules())
    loaded.train()
    loaded.eval()
    assert not loaded.training


def test_torchscript_computes_the_same_without_a_warning(scripted, tmp_path):
    model, points, file = scripted
    (tmp_path / "renamed.bin").write_bytes(file.read_bytes())
    for path in (file, tmp_path / "renamed.bin"):
        loaded = load_model(path)
        assert not loaded.training
        assert torch.equal(loaded(points), model(points))
        assert torch.allclose(gradient(loaded, points), gradient(model, points))


def test_a_file_takes_no_weights(exported, scripted):
    for _, _, file in (exported, scripted):
        with pytest.raises(ParameterError, match=r"leave out `weights`: .* carries its own"):
            load_model(file, "w.safetensors")


@pytest.mark.parametrize("cut", [10, 1000, 0.5, 0.9, -1])
def test_truncated_files_are_named(exported, scripted, tmp_path, cut):
    for _, _, file in (exported, scripted):
        data = file.read_bytes()
        path = tmp_path / file.name
        path.write_bytes(data[: cut if isinstance(cut, int) else int(len(data) * cut)])
        with pytest.raises(DataError, match=rf"{file.name} is damaged or truncated"):
            load_model(path)


def test_a_flipped_byte_is_noticed(exported, scripted, tmp_path):
    for index, (model, _, file) in enumerate((exported, scripted)):
        weight = next(model.parameters()).detach().numpy().tobytes()
        data = bytearray(file.read_bytes())
        data[bytes(data).find(weight) + 2] ^= 0xFF
        path = tmp_path / f"{index}{file.suffix}"
        path.write_bytes(bytes(data))
        with pytest.raises(DataError, match=r"damaged or truncated .the checksum of its member"):
            load_model(path)


def test_a_program_of_nonsense_is_named(edit):
    with pytest.raises(DataError, match=r"edited\.pt2 is damaged, or no exported program that PyT"):
        load_model(edit({"m/models/model.json": b"{}"}))


def test_a_script_of_nonsense_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as archive:
        archive.writestr("s/constants.pkl", b"x")
    with pytest.raises(DataError, match=r"s\.pt is damaged, or no TorchScript module"):
        load_model(tmp_path / "s.pt")


class Guarded(Network):
    """The same inside `no_grad`, which an export keeps as a graph of its own."""

    def forward(self, x):
        with torch.no_grad():
            y = super().forward(x)
        return y + x[:, :3]


@pytest.mark.parametrize("kind", [Network, Guarded])
def test_a_program_exported_in_training_mode_is_refused(tmp_path, kind):
    program = torch.export.export(kind().train(), (torch.zeros(5, 4),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, tmp_path / "t.pt2")
    with pytest.raises(DataError, match=r"t\.pt2 must be exported in evaluation mode, got .*eval"):
        load_model(tmp_path / "t.pt2")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it ran",))


def bomb():
    stream = io.BytesIO()
    torch.save((Bomb(),), stream)
    return stream.getvalue()


def test_a_pickle_among_the_sample_inputs_is_not_run(edit):
    file = edit({"m/data/sample_inputs/model.pt": bomb()})
    # torch 2.13 would fall back to unpickling it in full
    with pytest.raises(DataError, match=r"refused: its member data/sample_inputs/model\.pt holds"):
        load_model(file)


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_a_pickled_tensor_is_not_run(exported, edit, kind):
    with zipfile.ZipFile(exported[2]) as archive:
        config = json.loads(archive.read(f"m/data/{kind}/model_{kind}_config.json"))
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    folder = f"m/data/{kind}"
    name = f"{folder}/model_{kind}_config.json"
    file = edit({f"{folder}/{first['path_name']}": bomb(), name: json.dumps(config).encode()})
    with pytest.raises(DataError, match=f"its member data/{kind}/model_{kind}_config.json"):
        load_model(file)


@pytest.mark.parametrize(
    "member",
    ["constants/opaque_obj_0", "constants/custom_obj_0", "aotinductor/m/x.so"],
)
def test_objects_and_compiled_code_are_refused(edit, member):
    with pytest.raises(DataError, match=r"holds pickled objects or compiled code"):
        load_model(edit({f"m/data/{member}": pickle.dumps(Bomb())}))


def test_disguised_members_are_refused(edit):
    # a model of another name brings files of its own; PyTorch ignores the case of names
    config = b'{"config": {"w": {"path_name": "w", "use_pickle": true}}}'
    for name, content in {
        "m/data/weights/a/b_weights_config.json": config,
        "m/data/weights/A_WEIGHTS_CONFIG.JSON": config,
        "m/data/sample_inputs/OTHER.PT": bomb(),
        "m/data/constants/opaque_obj_a/b": bomb(),
    }.items():
        with pytest.raises(DataError, match=r"holds pickled objects or compiled code"):
            load_model(edit({name: content}))


def test_two_members_of_one_name_are_refused(edit):
    with pytest.raises(DataError, match=r"it has members of the same name"):
        load_model(edit({"m/data/sample_inputs/MODEL.PT": b""}))


def test_members_of_the_older_format_are_refused(edit):
    with pytest.raises(DataError, match=r"is of an older format of torch\.export: export it again"):
        load_model(edit({"serialized_example_inputs.pt": bomb()}))


NETWORKS = zoo()


def exported_to(file, model, points, axes):
    shapes = (dict.fromkeys(axes, torch.export.Dim.AUTO),) if axes else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model.eval(), (points,), dynamic_shapes=shapes)
        torch.export.save(program, file)
    return program


@pytest.mark.parametrize("name", NETWORKS)
def test_ordinary_networks_compute_the_same(tmp_path, name):
    model, points, axes = NETWORKS[name]
    expected = exported_to(tmp_path / "m.pt2", model, points, axes).module()
    loaded = load_exported(tmp_path / "m.pt2")
    batches = [points, torch.cat([points, points])] if axes else [points]
    if 2 in axes:
        batches.append(torch.cat([points, points], 2))
    for batch in batches:
        torch.testing.assert_close(loaded(batch), expected(batch), rtol=0, atol=0)
    assert loaded.state_dict().keys() == expected.state_dict().keys()


def test_sizes_that_the_export_excludes_stay_excluded(tmp_path):
    model, points, axes = NETWORKS["causal"]
    exported_to(tmp_path / "m.pt2", model, points, axes)
    with pytest.raises((AssertionError, RuntimeError), match=r"size\(\)\[1\] <= 64"):
        load_exported(tmp_path / "m.pt2")(torch.rand(2, 65))


@pytest.mark.slow
def test_a_decomposed_program_computes_the_same(tmp_path):
    for name in ("residual", "encoder"):
        model, points, axes = NETWORKS[name]
        program = exported_to(tmp_path / "m.pt2", model, points, axes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions()
            torch.export.save(program, tmp_path / "m.pt2")
        loaded = load_exported(tmp_path / "m.pt2")
        torch.testing.assert_close(loaded(points), program.module()(points), rtol=0, atol=0)


@pytest.mark.data
@pytest.mark.slow
def test_squeezenet_computes_the_same(data_home, tmp_path):
    weights = data_home / "imagenet" / "squeezenet1_0.safetensors"
    model = load_model("squeezenet1_0", weights)
    points = torch.rand(2, 3, 224, 224)
    exported_to(tmp_path / "m.pt2", model, points, (0,))
    loaded = load_model(tmp_path / "m.pt2")
    torch.testing.assert_close(loaded(points[:1]), model(points[:1]))
