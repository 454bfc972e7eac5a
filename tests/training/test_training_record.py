"""Recording a training: the same weights as torch's, whole or resumed, and what is refused."""

import math

import pytest
import torch
from torch import nn

from levelset.errors import (
    DataError,
    FieldError,
    NotConvergedError,
    ParameterError,
    RunError,
)  # fmt: skip
from levelset.training import Ramp, record
from levelset.training._schedule import rate_factor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


POINTS = torch.rand(11, 3, generator=seeded(1))
LABELS = (POINTS[:, 0] > 0.5).long()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.fixture
def make(settled):
    def build() -> nn.Module:
        return settled(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)))

    return build


OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_trains_as_torch_does(name, make, tmp_path):
    kind, options = OPTIMIZERS[name]
    model, other = make(), make().eval()
    optimizer = kind(other.parameters(), lr=0.05, **options)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(other(POINTS), LABELS).backward()
        optimizer.step()
    record(
        model, POINTS, LABELS, steps=5, learning_rate=0.05, folder=tmp_path,
        optimizer="sgd" if name == "momentum" else name, **options,
    )  # fmt: skip
    for one, two in zip(weights(model), weights(other), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("schedule", ["cosine", Ramp({0: 1.0, 2: 0.1})])
def test_a_schedule_is_that_of_torch_and_kept_step_by_step(schedule, make, tmp_path):
    model, other = make(), make().eval()
    options = {"momentum": 0.9, "weight_decay": 0.1}
    recording = record(
        model, POINTS, LABELS, steps=5, learning_rate=0.2, schedule=schedule, folder=tmp_path,
        batch_size=6, generator=seeded(), **options,
    )  # fmt: skip
    (shard,) = recording.shards()
    # Two steps an epoch, the third epoch broken off.
    ramp = [1.0 - 0.9 * (step + 0.5) / 4 for step in range(4)] + [0.1]
    cosine = [rate_factor("cosine", step, 5, 3) for step in range(5)]
    expected = [0.2 * factor for factor in (cosine if schedule == "cosine" else ramp)]
    assert shard.rates == pytest.approx(expected, abs=1e-15)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.2, **options)
    for step, rate in enumerate(shard.rates):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        rows = shard.batch(step)
        nn.functional.cross_entropy(other(POINTS[rows]), LABELS[rows]).backward()
        optimizer.step()
    for one, two in zip(weights(model), weights(other), strict=True):
        assert torch.equal(one, two)


def test_an_epoch_has_each_point_once(make, tmp_path):
    recording = record(
        make(), POINTS, LABELS, steps=6, learning_rate=0.1, folder=tmp_path, batch_size=4,
        generator=seeded(),
    )  # fmt: skip
    (shard,) = recording.shards()
    for first in (0, 3):
        rows = torch.cat([shard.batch(first + i) for i in range(3)])
        assert sorted(rows.tolist()) == list(range(11))


def test_flags_gradients_and_random_state_are_left(make, tmp_path, left_as_found):
    model = make()
    model.train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, place = model[0].weight.grad, model[0].weight.data_ptr()
    state = torch.get_rng_state()
    record(model, POINTS, LABELS, steps=2, learning_rate=0.1, folder=tmp_path, generator=seeded())
    assert model.training
    assert model[2].training
    assert model[0].weight.grad is before
    assert model[0].weight.data_ptr() == place
    assert model[3].weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_that_is_killed_ends_where_an_unbroken_one_ends(
    optimizer, make, tmp_path, monkeypatch
):
    # Files of two states each, so that the kill falls between them.
    monkeypatch.setattr("levelset.training._record._SHARD", 2 * 4 * 50)
    options = {"steps": 9, "learning_rate": 0.1, "optimizer": optimizer, "batch_size": 4}
    whole = make()
    one = record(whole, POINTS, LABELS, folder=tmp_path / "a", generator=seeded(), **options)

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(
            make(),
            POINTS,
            LABELS,
            folder=tmp_path / "b",
            generator=seeded(),
            progress=stop,
            **options,
        )
    with pytest.raises(RunError, match="holds a recording already"):
        record(make(), POINTS, LABELS, folder=tmp_path / "b", generator=seeded(), **options)
    resumed = make()
    two = record(
        resumed, POINTS, LABELS, folder=tmp_path / "b", resume=True, generator=seeded(), **options
    )
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.shards(), two.shards(), strict=True):
        assert torch.equal(a.weights, b.weights)
        assert torch.equal(a.rows, b.rows)


def test_a_run_goes_on_with_its_own_options_only(make, tmp_path):
    record(make(), POINTS, LABELS, steps=2, learning_rate=0.1, folder=tmp_path)
    with pytest.raises(
        RunError, match=r"cannot be resumed: `learning_rate` was 0\.1 and is now 0\.2"
    ):
        record(make(), POINTS, LABELS, steps=2, learning_rate=0.2, folder=tmp_path, resume=True)


def test_keeping_a_part_says_what_it_loses(make, tmp_path):
    options = {"steps": 10, "learning_rate": 0.5}
    full = record(make(), POINTS, LABELS, folder=tmp_path / "a", **options)
    half = record(make(), POINTS, LABELS, folder=tmp_path / "b", precision="half", **options)
    fewer = record(make(), POINTS, LABELS, folder=tmp_path / "c", every=4, **options)
    assert full.rounding == 0.0
    assert 0.0 < half.rounding < 1e-3
    assert 0.0 < fewer.rounding < 0.3
    sizes = {name: r.summary()["bytes"] for name, r in {"f": full, "h": half, "e": fewer}.items()}
    assert sizes["h"] < 0.8 * sizes["f"]
    assert sizes["e"] < 0.6 * sizes["f"]
    (shard,), (whole,) = fewer.shards(), full.shards()
    assert shard.numbers == [0, 4, 8, 10]
    assert torch.allclose(shard.state(8), whole.state(8), atol=1e-6)
    off = (shard.state(6) - whole.state(6)).norm() / (whole.state(10) - whole.state(0)).norm()
    assert 0.0 < off <= fewer.rounding * (1 + 1e-5)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + torch.rand_like(x))


BAD = {
    "no points": ({"points": POINTS[:0], "labels": LABELS[:0]}, DataError, "at least one"),
    "NaN": ({"points": POINTS * math.nan}, DataError, "finite|NaN"),
    "steps": ({"steps": 0}, ParameterError, "`steps` must be"),
    "every": ({"every": 0}, ParameterError, "`every` must be"),
    "rate": ({"learning_rate": 0.0}, ParameterError, "`learning_rate` must be"),
    "loss name": ({"loss": "hinge"}, ParameterError, "`loss` must be one of cross_entropy"),
    "loss without gradient": (
        {"loss": lambda logits, labels: (logits.argmax(1) != labels).float().mean()},
        FieldError, "`loss` must be differentiable in the logits",
    ),
    "rounding loss": (
        {"loss": lambda logits, labels: logits.round().sum()},
        FieldError, "but its gradient in them is 0. Does it",
    ),
    "loss of many": ({"loss": lambda logits, labels: logits.sum(1)}, FieldError, "one number"),
    "random": ({"model": Noisy()}, FieldError, "two evaluations differ"),
    "schedule": ({"schedule": "linear"}, ParameterError, "`schedule` must be"),
    "two dtypes": (
        {"model": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double())},
        ParameterError, "one dtype and on one device, got torch.float32 on cpu, torch.float64",
    ),
    "frozen": (
        {"model": nn.Linear(3, 2).requires_grad_(requires_grad=False)}, ParameterError, "Thaw it",
    ),
    "images": ({"model": nn.Unflatten(1, (3, 1))}, ParameterError, "got none"),
    "label": ({"labels": LABELS + 5}, ParameterError, "`labels` must lie in 0 to 1"),
    "diverging": ({"learning_rate": 1e30, "steps": 9}, NotConvergedError, "the loss became"),
}  # fmt: skip


@pytest.mark.messages
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name, make, tmp_path):
    more, error, message = BAD[name]
    options = {"model": make(), "points": POINTS, "labels": LABELS, "steps": 2, "folder": tmp_path}
    with pytest.raises(error, match=message):
        record(**({"learning_rate": 0.1, "generator": seeded()} | options | more))


def test_a_file_in_the_way_is_named(make, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(RunError, match="cannot create the folder"):
        record(make(), POINTS, LABELS, steps=1, learning_rate=0.1, folder=tmp_path / "x")
