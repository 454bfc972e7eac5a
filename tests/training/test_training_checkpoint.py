"""A run that is stopped anywhere and resumed ends where the unbroken one ends, or says why not."""

import errno
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from levelset.errors import NotConvergedError, ParameterError, RunError
from levelset.networks import fc
from levelset.training import Checkpoint, cross_entropy, train

Make = Callable[[], nn.Module]


class StopError(Exception):
    """Stands for whatever ends a process."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stopping_at(step: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise StopError

    return progress


def options(toy: Any) -> dict[str, Any]:
    return {"epochs": 4, "batch_size": 16, "held_out": toy, "learning_rate": 0.01}


def assert_same(a: nn.Module, b: nn.Module) -> None:
    mine, other = a.state_dict(), b.state_dict()
    assert list(mine) == list(other)
    for name, tensor in mine.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("step", [1, 4, 5, 9, 12, 16])
@pytest.mark.parametrize("seed", [0, None])
def test_resumed_equals_unbroken_bit_for_bit(
    toy: Any, make: Make, tmp_path: Path, step: int, seed: int | None
) -> None:
    """Four steps an epoch: stopped in, or at the last step of, each of the four epochs."""
    unbroken, broken = make(), make()
    whole = train(unbroken, toy, generator=seeded(), out=tmp_path / "a", **options(toy))
    with pytest.raises(StopError):
        train(
            broken,
            toy,
            generator=seeded(),
            out=tmp_path / "b",
            progress=stopping_at(step),
            **options(toy),
        )
    other = make()  # a new process has new weights; these must not matter
    with torch.no_grad():
        other[0].weight.zero_()
    generator = None if seed is None else seeded(seed)
    told: list[int] = []
    resumed = train(
        other,
        toy,
        generator=generator,
        out=tmp_path / "b",
        resume=True,
        progress=lambda done, total: told.append(done),
        **options(toy),
    )
    assert_same(other, unbroken)
    assert_same(fill(make(), tmp_path / "b"), unbroken)
    for name in ("loss", "accuracy", "held_out"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name))
    assert told == list(range((step - 1) // 4 * 4 + 1, 17))
    assert memory_only(make(), toy) == [t.tolist() for t in unbroken.state_dict().values()]


def fill(network: nn.Module, folder: Path) -> nn.Module:
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network


def memory_only(network: nn.Module, toy: Any) -> list[Any]:
    """Train without a folder: writing one must change nothing."""
    train(network, toy, generator=seeded(), **options(toy))
    return [t.tolist() for t in network.state_dict().values()]


def test_a_finished_run_resumes_to_itself(toy: Any, make: Make, tmp_path: Path) -> None:
    done, again = make(), make()
    first = train(done, toy, out=tmp_path, **options(toy))
    weights = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").unlink()  # stopped between the last epoch and the end
    second = train(again, toy, out=tmp_path, resume=True, **options(toy))
    assert_same(done, again)
    assert (tmp_path / "weights.safetensors").read_bytes() == weights
    assert torch.equal(first.seconds, second.seconds)
    names = {"checkpoint.safetensors", "history.json", "log.csv", "weights.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names
    columns = json.loads((tmp_path / "history.json").read_text())
    assert columns["loss"] == first.loss.tolist()


def test_resume_where_nothing_was_begun_starts(toy: Any, make: Make, tmp_path: Path) -> None:
    one, two = make(), make()
    train(one, toy, generator=seeded(), **options(toy))
    train(two, toy, generator=seeded(), out=tmp_path / "x" / "y", resume=True, **options(toy))
    assert_same(one, two)


def test_tied_weights_and_half_precision_survive(toy: Any, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = fc(2, 3)
            self.b = self.a
            self.register_buffer("pair", torch.tensor([1.5, 2.5], dtype=torch.bfloat16))

        def forward(self, points: Tensor) -> Tensor:
            return self.a(points) + self.b(points)

    network = Tied()
    train(network, toy, epochs=1, out=tmp_path)
    other = Tied()
    train(other, toy, epochs=1, out=tmp_path, resume=True)
    assert_same(network, other)


def named(model: nn.Module, points: Tensor, labels: Tensor, weight: float = 1.0) -> Tensor:
    return weight * cross_entropy(model, points, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 5}, "`epochs` was 4 and is now 5"),
        ({"learning_rate": 0.02}, "`learning_rate` was 0.01 and is now 0.02"),
        ({"weight_decay": 0.0}, "`weight_decay` was 0.0001 and is now 0.0"),
        ({"schedule": "constant"}, "`schedule` was 'cosine' and is now 'constant'"),
        ({"batch_size": 8, "epochs": 5}, "`epochs` was 4 and is now 5; `batch_size` was 16 and"),
        ({"held_out": None}, "`held_out` was '[0-9a-f]{16}' and is now None"),
        ({"loss": named}, "`loss` was 'cross_entropy' and is now 'named'"),
        ({"loss": functools.partial(named, weight=2.0)}, r"is now 'named\(weight=2.0\)'"),
        ({"generator": seeded(1)}, "`generator` gives another seed"),
    ],
)
def test_other_options_are_not_resumed(
    toy: Any, make: Make, tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(StopError):
        train(
            make(),
            toy,
            out=tmp_path,
            generator=seeded(),
            progress=stopping_at(6),
            **options(toy),
        )
    checkpoint = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunError, match=message):
        train(make(), toy, out=tmp_path, resume=True, **(options(toy) | change))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == checkpoint


def test_other_data_and_other_models_are_not_resumed(toy: Any, make: Make, tmp_path: Path) -> None:
    train(make(), toy, out=tmp_path, epochs=1)
    points = toy.points.clone()
    points[17, 1] += 1e-6
    with pytest.raises(RunError, match=r"`data` was '[0-9a-f]{16}' and is now '[0-9a-f]{16}'"):
        train(make(), type(toy)(points, toy.labels), out=tmp_path, epochs=1, resume=True)
    labels = toy.labels.roll(1)
    with pytest.raises(RunError, match="`data` was"):
        train(make(), type(toy)(toy.points, labels), out=tmp_path, epochs=1, resume=True)
    with pytest.raises(RunError, match="`model` was 'Sequential with 131 parameters"):
        train(fc(2, 16, 3), toy, out=tmp_path, epochs=1, resume=True)
    thawed = make()
    thawed[0].bias.requires_grad_(False)
    with pytest.raises(RunError, match="`model` was"):
        train(thawed, toy, out=tmp_path, epochs=1, resume=True)


def test_a_run_is_not_overwritten(toy: Any, make: Make, tmp_path: Path) -> None:
    train(make(), toy, out=tmp_path, epochs=1)
    with pytest.raises(RunError, match=r"holds a training already. Give `resume=True`"):
        train(make(), toy, out=tmp_path, epochs=1)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "edited"])
def test_a_damaged_checkpoint_is_not_believed(
    toy: Any, make: Make, tmp_path: Path, damage: str
) -> None:
    with pytest.raises(StopError):
        train(make(), toy, out=tmp_path, progress=stopping_at(9), **options(toy))
    path = tmp_path / "checkpoint.safetensors"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif damage == "foreign":
        save_file(make().state_dict(), path)
    else:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata())
        metadata["training"] = metadata["training"].replace('"epochs": 4', '"epochs": 5')
        save_file(load_file(path), path, metadata)
    network = make()
    before = [t.tolist() for t in network.state_dict().values()]
    with pytest.raises(RunError, match=r"cannot be believed: .* Delete it to train from the start"):
        train(network, toy, out=tmp_path, resume=True, **options(toy))
    assert [t.tolist() for t in network.state_dict().values()] == before


def test_a_checkpoint_of_another_format_is_not_believed(
    toy: Any, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("levelset.training._checkpoint._FORMAT", 0)
        train(make(), toy, out=tmp_path, epochs=1)
    with pytest.raises(RunError, match="written by another version of levelset"):
        train(make(), toy, out=tmp_path, epochs=1, resume=True)


def test_a_full_disk_leaves_the_checkpoint_before(
    toy: Any, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, resumed = make(), make()
    train(unbroken, toy, generator=seeded(), **options(toy))
    real, calls = Path.write_bytes, []

    def full(path: Path, content: bytes) -> int:
        calls.append(path)
        if len(calls) < 4:
            return real(path, content)
        real(path, content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(RunError, match=r"cannot write .*checkpoint.safetensors: No space left"):
            train(make(), toy, generator=seeded(), out=tmp_path, **options(toy))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.safetensors", "log.csv"}
    history = train(resumed, toy, out=tmp_path, resume=True, **options(toy))
    assert len(history) == 4
    assert_same(resumed, unbroken)


def test_a_folder_that_cannot_be_made_is_named(toy: Any, make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot create the folder"):
        train(make(), toy, out=tmp_path / "file" / "run", epochs=1)


def test_diverging_keeps_the_last_good_checkpoint(toy: Any, make: Make, tmp_path: Path) -> None:
    calls = []

    def loss(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
        calls.append(0)
        value = cross_entropy(model, points, labels)
        return value * float("nan") if len(calls) == 7 else value

    loss.__qualname__ = "loss"
    with pytest.raises(
        NotConvergedError,
        match=r"the loss became nan in epoch 2 of 4: its term `loss` is nan\. Lower .* The last "
        r"good checkpoint, after epoch 1, is .*checkpoint.safetensors",
    ):
        train(make(), toy, loss=loss, out=tmp_path, **options(toy))
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(torch.isfinite(tensor.double()).all() for tensor in kept.values())
    # The seventh call came and went; the same run now goes through, after the first epoch.
    history = train(make(), toy, loss=loss, out=tmp_path, resume=True, **options(toy))
    assert len(history) == 4
    assert len(calls) == 7 + 12


def test_a_checkpoint_is_copied_written_read_and_restored(tmp_path: Path) -> None:
    path, steps = tmp_path / "checkpoint.safetensors", 3
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.eye(2)).square().sum().backward()
        optimizer.step()
    more = {"turn": torch.tensor(7)}
    epochs = ({"loss": 0.5, "quality": None},)
    saved = Checkpoint.of(
        model, optimizer, settings={"steps": steps}, seed=5, epochs=epochs, more=more
    )
    saved.write(path)
    read = Checkpoint.read(path)
    assert (read.settings, read.seed, read.epochs) == ({"steps": steps}, 5, epochs)
    assert repr(read) == "Checkpoint(epochs=1, tensors=20, numbers=57)"
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    follower = torch.optim.Adam(other.parameters())
    read.restore(other, follower)
    assert all(torch.equal(a, b) for a, b in zip(
        model.state_dict().values(), other.state_dict().values(), strict=True
    ))  # fmt: skip
    assert torch.equal(
        follower.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )
    assert int(read.tensors["turn"]) == 7
    with pytest.raises(ParameterError, match="must be of the kind that the checkpoint was made of"):
        read.restore(nn.Linear(2, 2), follower)
