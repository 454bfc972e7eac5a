"""The path of a training on disk, and the parts that an optimiser's steps are made of."""

import json

import pytest
import torch
from torch import nn

from levelset._recording._files import RowsFile, packed, read_tensors, unpacked, write_tensors
from levelset._recording._recording import Plan
from levelset._recording._rule import Rule, Shares
from levelset.errors import DataError, ParameterError
from levelset.training import Recording, record

RULES = {
    "sgd": Rule(),
    "momentum": Rule(momentum=0.9, weight_decay=0.1),
    "nesterov": Rule(momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": Rule("adam", weight_decay=0.1),
    "adamw": Rule("adamw", weight_decay=0.1),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(seed: int = 0) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(seed)))
    return model


POINTS = torch.rand(10, 3, generator=seeded(1)).double()
LABELS = (POINTS[:, 0] > 0.5).long()


@pytest.fixture
def recording(tmp_path) -> Recording:
    return record(net(), POINTS, LABELS, steps=6, learning_rate=0.1, folder=tmp_path / "run")


@pytest.mark.parametrize("name", RULES)
def test_the_parts_of_a_step_sum_to_what_torch_does(name):
    rule = RULES[name]
    weights = nn.Parameter(torch.randn(7, dtype=torch.float64, generator=seeded()))
    optimizer, shares = rule.build([weights], 0.01), Shares(rule)
    for number in range(6):
        gradient = torch.randn(7, dtype=torch.float64, generator=seeded(number + 1))
        before, weights.grad = weights.detach().clone(), gradient
        optimizer.step()
        points, decay = shares.step(number, 0.01, gradient, before)
        total = points if decay is None else points + decay
        assert (weights.detach() - before - total).abs().max() < 1e-15
        assert (decay is None) == (rule.weight_decay == 0.0)


@pytest.mark.parametrize("name", RULES)
def test_the_share_of_the_points_is_linear_in_their_gradients(name):
    """A step without the decay's part is what the points' gradients make of it, and no more."""
    rule = RULES[name]
    gradients = torch.randn(3, 7, dtype=torch.float64, generator=seeded())
    shares = Shares(rule)
    for number, gradient in enumerate(gradients):
        zero = Shares(rule).step(number, 0.01, torch.zeros(7).double(), gradient)[0]
        assert not zero.any()
        points, _ = shares.step(number, 0.01, gradient, gradient)
        assert points.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "`momentum` must be at least 0 and below 1, got 1.0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be 0 or positive, got -1.0"),
        ({"optimizer": "adam", "momentum": 0.9}, "are options of optimizer='sgd', got 'adam'"),
        ({"nesterov": True}, "`nesterov` needs `momentum`"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        Rule(**options)


def test_a_plan_comes_back_from_json(recording):
    text = json.dumps(recording.plan.to_json())
    assert Plan.from_json(json.loads(text)) == recording.plan


def test_the_states_are_those_of_the_training(recording):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (shard,) = recording.shards()
    for number in range(6):
        state = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        assert (shard.state(number) - state).abs().max() < 1e-15
        assert shard.batch(number) is None
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(POINTS), LABELS).backward()
        optimizer.step()
    end = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert (recording.end() - end).abs().max() < 1e-15


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
def test_steps_of_small_batches_are_taken_again_to_the_same_bits(name, tmp_path, monkeypatch):
    rule = RULES[name]
    options = {
        "optimizer": rule.optimizer, "momentum": rule.momentum, "nesterov": rule.nesterov,
        "weight_decay": rule.weight_decay, "batch_size": 4, "steps": 11, "schedule": "cosine",
        "learning_rate": 0.1,
    }  # fmt: skip
    points, states = POINTS.float(), []
    # Files of five states each, or of one state that stands for five.
    monkeypatch.setattr("levelset.training._record._SMALL", 0)
    monkeypatch.setattr("levelset.training._record._SHARD", 5 * 4 * 26)
    for number, most in enumerate((1, 3, 32)):
        monkeypatch.setattr("levelset.training._record._MOST_STRIDE", most)
        folder = tmp_path / str(number)
        one = record(
            net().float(), points, LABELS, folder=folder, generator=seeded(), **options
        )  # fmt: skip
        again = Recording.read(folder, net(7).float(), points=points, labels=LABELS)
        assert one.summary()["stride"] == min(most, 5)
        assert one.rounding == 0.0
        for recording in (one, again):
            parts = [shard.weights[:-1] for shard in recording.shards()]
            states.append(torch.cat([*parts, recording.end().unsqueeze(0)]))
        end = torch.cat([p.detach().reshape(-1) for p in one.model.parameters()])
        assert torch.equal(recording.end(), end)
    assert len(states[0]) == 12
    assert all(torch.equal(state, states[0]) for state in states)


def test_steps_are_taken_again_from_the_points_and_the_network_of_the_recording(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("levelset.training._record._SMALL", 0)
    model = nn.Sequential(net(), nn.BatchNorm1d(2, dtype=torch.float64))
    options = {"steps": 6, "learning_rate": 0.1, "batch_size": 4, "generator": seeded()}
    recording = record(model, POINTS, LABELS, folder=tmp_path, **options)
    again = Recording.read(tmp_path, model)
    with pytest.raises(DataError, match=r"the training points are needed\. Give `points`"):
        list(again.shards())
    with pytest.raises(ParameterError, match=r"read: `points` and `labels` must be those"):
        Recording.read(tmp_path, model, points=POINTS, labels=1 - LABELS)
    model[1].running_mean += 1.0
    with pytest.raises(DataError, match=r"steps 0 to 5, taken again, end .* of their way"):
        list(recording.shards())


def test_half_precision_keeps_ten_bits_of_the_largest_in_each_tensor():
    difference = torch.tensor([1e-9, 3e-10, -1e-9, 5.0, -2.5, 0.0]).double()
    small, scales = packed(difference, [3, 3])
    assert small.dtype == torch.float16
    back = unpacked(small, scales, [3, 3], difference)
    assert ((back - difference).abs() <= difference.abs() * 2**-11 + 1e-16).all()


def test_a_recording_is_read_into_another_network_of_its_kind(recording):
    other = net(5)
    again = Recording.read(recording.folder, other)
    for name, value in recording.model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert again.plan == recording.plan
    assert "steps=6, parameters=26, points=10, shards=1" in repr(again)


def test_a_network_of_another_kind_is_refused(recording):
    with pytest.raises(ParameterError, match="must be the network of the recording"):
        Recording.read(recording.folder, nn.Linear(3, 2).double())


def test_a_loss_of_the_callers_own_must_be_given_again(tmp_path):
    def own(logits, labels):
        return logits.square().mean()

    record(net(), POINTS, LABELS, steps=1, learning_rate=0.1, folder=tmp_path, loss=own)
    with pytest.raises(ParameterError, match="`loss` must be given"):
        Recording.read(tmp_path, net())
    assert Recording.read(tmp_path, net(), loss=own).loss is own


def test_a_shard_that_is_missing_or_damaged_is_named_by_its_steps(recording):
    (path,) = recording.folder.glob("shard-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"\(steps 0 to 5\) .* does not match its own checksum"):
        list(recording.shards())
    path.write_bytes(content[:40])
    with pytest.raises(DataError, match=r"shard-0000000-0000006.safetensors \(steps 0 to 5\)"):
        list(recording.shards())
    path.unlink()
    with pytest.raises(DataError, match="steps 0 to 5 are missing"):
        Recording.read(recording.folder, net())


def test_a_state_that_is_missing_is_named(recording):
    (recording.folder / "state.safetensors").unlink()
    with pytest.raises(DataError, match=r"state\.safetensors in .* is missing. Record again"):
        Recording.read(recording.folder, net())


def test_a_folder_without_a_recording_and_another_version(tmp_path, recording):
    with pytest.raises(DataError, match=r"has no recording: recording\.json is missing"):
        Recording.read(tmp_path / "none", net())
    path = recording.folder / "recording.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    with pytest.raises(DataError, match="written by another version"):
        Recording.read(recording.folder, net())
    path.write_text("{")
    with pytest.raises(DataError, match=r"recording.json .* is damaged"):
        Recording.read(recording.folder, net())


def test_tensors_of_every_type_come_back(tmp_path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.bool)
    tensors = {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}
    tensors |= {"empty": torch.zeros(0, 2), "number": torch.tensor(3)}
    write_tensors(tmp_path / "x.safetensors", tensors, {"words": "a"})
    metadata, back = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"words": "a"}
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in tensors.items())


@pytest.mark.parametrize("width", [1, 5, 8, 300])
def test_a_file_of_rows_is_a_safetensors_file_that_shows_any_change(width, tmp_path, monkeypatch):
    monkeypatch.setattr("levelset._recording._files._PIECE", 4 * 5 * 3)
    path, rows = tmp_path / "shard-0-7.safetensors", torch.rand(7, width, generator=seeded())
    with RowsFile(path, 7, width, torch.float32) as file:
        for row in rows:
            file.row().copy_(row)
        file.finish("differences", {"start": rows[0], "rates": torch.ones(3).double()}, {"a": "b"})
    metadata, tensors = read_tensors(path)
    assert metadata == {"a": "b"}
    assert torch.equal(tensors["differences"], rows)
    assert torch.equal(tensors["start"], rows[0])
    content = path.read_bytes()
    begin = len(content) - 24 - 4 * width - 4 * rows.numel()
    for place in (begin, begin + 4 * rows.numel() - 1, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 64
        path.write_bytes(changed)
        with pytest.raises(DataError, match="does not match its own checksum"):
            read_tensors(path)
    swapped = bytearray(content)
    swapped[begin : begin + 8 * width] = (
        content[begin + 4 * width : begin + 8 * width] + content[begin : begin + 4 * width]
    )
    path.write_bytes(swapped)
    with pytest.raises(DataError, match="does not match its own checksum"):
        read_tensors(path)


def test_what_goes_wrong_in_the_thread_that_writes_is_raised(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("levelset._recording._files._PIECE", 8)
    with RowsFile(tmp_path / "x", 3, 2, torch.float32) as file:
        monkeypatch.setattr("levelset._recording._files._write_all", full)
        file.row()
        file.row()
        with pytest.raises(OSError, match="No space left"):
            file.row()


def test_points_that_are_refused_leave_the_network_as_it_was(recording):
    model = net(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    points, labels = recording.data
    with pytest.raises(ParameterError, match="must be those of the recording"):
        Recording.read(recording.folder, model, points=points + 1.0, labels=labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
