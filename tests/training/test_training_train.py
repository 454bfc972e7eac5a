"""What `train` computes, what it leaves alone, and what it refuses."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset import Classifier, frozen
from levelset.datasets import read_images
from levelset.errors import DataError, FieldError, NotConvergedError, ParameterError, ShapeError
from levelset.networks import digits, fc
from levelset.training import History, cross_entropy, initialise, train

Make = Callable[[], nn.Module]


wrong_word = pytest.mark.skipif(
    hasattr(train, "__wrapped__"), reason="under the type checker's hook, the hook speaks first"
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_state(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return list(mine) == list(other) and all(torch.equal(mine[k], other[k]) for k in mine)


@pytest.mark.slow
def test_digits_are_learnt_to_98_percent() -> None:
    generator = seeded(1)
    network = initialise(digits(), generator=generator)
    learn, held_out = read_images("digits", split="train"), read_images("digits", split="test")
    history = train(
        network,
        learn,
        epochs=16,
        learning_rate=5e-3,
        batch_size=64,
        held_out=held_out,
        generator=generator,
    )
    assert len(history) == 16
    network.eval()
    with torch.no_grad():
        right = (network(held_out.points).argmax(1) == held_out.labels).double().mean()
    assert right >= 0.98
    assert history.held_out[-1] == right
    assert history.seconds.sum() < 20


def test_one_epoch_in_one_batch_is_one_step_of_adamw(toy: Any) -> None:
    network = initialise(fc(2, 3), generator=seeded()).double()
    data = type(toy)(toy.points.double(), toy.labels)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    value = functional.cross_entropy(network(data.points), data.labels)
    gradients = torch.autograd.grad(value, list(network.parameters()))
    right = (network(data.points).argmax(1) == data.labels).double().mean()
    options: Any = {"learning_rate": 0.1, "weight_decay": 0.5, "schedule": "constant"}
    history = train(network, data, epochs=1, batch_size=50, generator=seeded(), **options)
    torch.testing.assert_close(history.loss, value.detach().reshape(1), rtol=1e-12, atol=0)
    assert history.accuracy == right
    for (name, after), gradient in zip(network.named_parameters(), gradients, strict=True):
        # The first step of Adam with its bias correction is the sign of the gradient, but for eps.
        step = 0.1 * gradient / (gradient.abs() + 1e-8)
        expected = before[name] * (1 - 0.1 * 0.5) - step
        torch.testing.assert_close(after.detach(), expected, rtol=1e-9, atol=1e-12)


def test_each_epoch_shows_every_point_once_in_an_order_of_its_own(toy: Any) -> None:
    seen: list[list[Tensor]] = []

    def loss(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
        batches.append(points)
        return cross_entropy(model, points, labels)

    for _ in range(2):
        batches: list[Tensor] = []
        train(fc(2, 3), toy, loss=loss, epochs=2, batch_size=8, generator=seeded(5))
        seen.append(batches)
    first, second = seen
    assert [len(batch) for batch in first] == 2 * [8, 7, 7, 7, 7, 7, 7]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    epochs = torch.cat(first[:7]), torch.cat(first[7:])
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert torch.equal(epoch[epoch[:, 0].argsort()], toy.points[toy.points[:, 0].argsort()])


def test_same_seed_same_weights_whatever_the_global_state(toy: Any, make: Make) -> None:
    runs = []
    for seed in (4, 4, 5):
        torch.rand(len(runs) + 1)
        network = make()
        train(network, toy, epochs=3, batch_size=16, generator=seeded(seed))
        runs.append(network)
    assert same_state(runs[0], runs[1])
    assert not same_state(runs[0], runs[2])


def test_without_generator_the_global_one_decides_by_one_draw(toy: Any, make: Make) -> None:
    runs = []
    with torch.random.fork_rng():
        for _ in range(2):
            network = make()
            torch.manual_seed(9)
            train(network, toy, epochs=2, batch_size=16)
            runs.append((network, torch.get_rng_state()))
        torch.manual_seed(9)
        torch.randint(2**63 - 1, ())
        assert torch.equal(runs[0][1], torch.get_rng_state())
    assert same_state(runs[0][0], runs[1][0])


def test_everything_but_the_weights_is_left_as_found(toy: Any, make: Make) -> None:
    network = make()
    network.eval()
    network[3].train()
    network[0].bias.requires_grad_(False)
    network[4].weight.grad = torch.ones(3, 16)
    frozen = network[0].bias.clone()
    modes = [m.training for m in network.modules()]
    wanted = [p.requires_grad for p in network.parameters()]
    gradients = [p.grad for p in network.parameters()]
    data = type(toy)(*(t.clone() for t in toy))
    state = torch.get_rng_state()
    train(network, toy, epochs=2, held_out=toy, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == wanted
    assert all(p.grad is g for p, g in zip(network.parameters(), gradients, strict=True))
    assert torch.equal(network[4].weight.grad, torch.ones(3, 16))
    assert torch.equal(network[0].bias, frozen)
    assert all(not m._forward_hooks for m in network.modules())
    assert all(torch.equal(a, b) for a, b in zip(toy, data, strict=True))


def test_also_after_an_exception(toy: Any, make: Make) -> None:
    network = make().eval()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(network, toy, epochs=2, generator=seeded(), progress=stop)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m.training for m in network.modules())
    assert all(p.grad is None for p in network.parameters())
    assert all(not m._forward_hooks for m in network.modules())


def test_progress_counts_steps(toy: Any) -> None:
    told: list[tuple[int, int]] = []
    train(fc(2, 3), toy, epochs=2, batch_size=20, progress=lambda *at: told.append(at))
    assert told == [(step, 6) for step in range(1, 7)]


def test_accuracy_where_the_loss_never_asks_about_the_batch(toy: Any) -> None:
    def moved(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(model, points + 100.0, labels)

    network = initialise(fc(2, 3), generator=seeded())
    with torch.no_grad():
        right = (network(toy.points).argmax(1) == toy.labels).double().mean()
    history = train(network, toy, loss=moved, epochs=1, generator=seeded())
    assert history.accuracy == right
    assert torch.isnan(history.held_out).all()


def test_a_parameter_that_the_loss_does_not_use_stays(toy: Any) -> None:
    network = fc(2, 4, 3)
    spare = nn.ModuleDict({"used": network, "spare": nn.Linear(1, 1)})
    spare.forward = network.forward
    before = spare["spare"].weight.clone()
    train(spare, toy, epochs=1)
    assert torch.equal(spare["spare"].weight, before)


def test_history_reads_on_one_line_and_travels(toy: Any) -> None:
    history = train(fc(2, 3), toy, epochs=2, held_out=toy)
    summary = history.summary()
    assert list(summary) == ["epochs", "loss", "accuracy", "held_out", "seconds"]
    assert summary["epochs"] == 2
    assert repr(history).startswith("History(epochs=2, loss=")
    copy = pickle.loads(pickle.dumps(history))
    assert torch.equal(copy.loss, history.loss)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, points: Tensor) -> Tensor:
        return self.scale * points[:, 0]


class Exported(nn.Linear):
    def train(self, mode: bool = True) -> "Exported":
        raise NotImplementedError


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ParameterError, "train: `epochs` must be at least 1, got 0"),
        ({"learning_rate": 0.0}, ParameterError, "`learning_rate` must be positive, got 0.0"),
        ({"weight_decay": -1.0}, ParameterError, "`weight_decay` must be 0 or positive, got -1"),
        pytest.param(
            {"schedule": "step"},
            ParameterError,
            "`schedule` must be 'cosine' or 'constant', got 'step'",
            marks=wrong_word,
        ),
        ({"batch_size": 0}, ParameterError, "`batch_size` must be at least 1"),
        ({"resume": True}, ParameterError, "`resume` needs the folder of the run, got out=None"),
        ({"model": fc(2, 3).requires_grad_(False)}, ParameterError, "Thaw it with"),
        ({"model": fc(2, 2)}, ParameterError, "`labels` must lie in 0 to 1, got 2"),
        ({"model": fc(3, 3)}, FieldError, r"failed on points of shape \(2, 2\)"),
        ({"model": Flat()}, FieldError, r"map \(n, \*d\) to logits \(n, k\), got \(2,\)"),
        ({"model": Exported(2, 3)}, ParameterError, "Train the module that it was exported from"),
        ({"loss": lambda m, x, y: m(x)}, FieldError, r"one number, shape \(\), got \(50, 3\)"),
        ({"loss": lambda m, x, y: 1.0}, FieldError, r"one number, shape \(\), got float"),
        ({"loss": lambda m, x, y: m(x).sum().detach()}, FieldError, "carries no gradient"),
        ({"loss": lambda m, x, y: m(x).sum() / 0}, NotConvergedError, "loss became .*in epoch 1"),
    ],
)
def test_bad_options_are_named(toy: Any, change: Any, error: Any, message: str) -> None:
    options = {"model": fc(2, 3), "data": toy, "epochs": 2} | change
    with pytest.raises(error, match=message):
        train(options.pop("model"), options.pop("data"), **options)


@pytest.mark.parametrize("name", ["data", "held_out"])
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x, y: (x[:0], y[:0]), DataError, "must hold at least one point, got none"),
        (lambda x, y: (x / 0 * 0, y), DataError, "must be finite, got NaN or infinity in 50 of 50"),
        (lambda x, y: (x, y[:9]), ShapeError, r"one row per point \(50\), got \(9,\)"),
        (lambda x, y: (x, y + 1), ParameterError, "must lie in 0 to 2, got 3"),
        (lambda x, y: (x, y - 1), ParameterError, "must lie in 0 to 2, got -1"),
        (lambda x, y: (x, y.float()), ShapeError, "`labels` must be integers, got torch.float32"),
        (lambda x, y: (x.long(), y), ShapeError, "must be floating point, got torch.int64"),
        (lambda x, y: (x.to("meta"), y), ShapeError, "must hold values, got a tensor on the meta"),
    ],
)
def test_bad_data_are_named(toy: Any, name: str, spoil: Any, error: Any, message: str) -> None:
    given = {"data": toy, name: type(toy)(*spoil(*toy))}
    network = fc(2, 3)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(error, match=message):
        train(network, given.pop("data"), epochs=1, **given)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_gradient_that_spoils_the_weights_stops_the_run(toy: Any) -> None:
    def kink(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
        # Finite everywhere, but the root has an infinite slope at 0: its gradient is NaN.
        return cross_entropy(model, points, labels) + (model(points) * 0).sum().sqrt()

    with pytest.raises(
        NotConvergedError, match=r"gradient of the term `.*kink` became NaN .* epoch 1"
    ):
        train(fc(2, 3), toy, loss=kink, epochs=1)


def test_batch_statistics_reach_the_field_that_a_loss_sees(toy: Any, make: Make) -> None:
    seen: dict[str, list[Tensor]] = {"running": [], "batch": []}
    for mode, values in seen.items():

        def loss(model: nn.Module, points: Tensor, labels: Tensor, to: Any = values) -> Tensor:
            with frozen(model):
                to.append(model[:2](points).mean(0))
            return cross_entropy(model, points, labels)

        options: Any = {"statistics": mode}
        train(make(), toy, loss=loss, epochs=1, batch_size=25, generator=seeded(), **options)
    zero = torch.zeros(16)
    assert torch.allclose(seen["batch"][0], zero, atol=1e-5)
    assert not torch.allclose(seen["running"][0], zero, atol=1e-2)


def test_history_of_nothing_is_empty() -> None:
    empty = History.of([])
    assert len(empty) == 0
    assert empty.summary() == {"epochs": 0, "seconds": 0.0}


def test_one_output_is_refused_with_the_remedy(toy: Any, noise: Callable[..., Tensor]) -> None:
    points = noise(40, 3, dtype=torch.float32)
    data = type(toy)(points, (points[:, 0] > 0).long())
    with pytest.raises(FieldError, match=r"one output a point\. Give `Classifier\(model, outputs="):
        train(nn.Linear(3, 1), data, epochs=1)
    model = Classifier(nn.Linear(3, 1), bounds=(-9.0, 9.0), outputs="logit")
    history = train(model, data, epochs=40, learning_rate=0.1, batch_size=10, generator=seeded())
    assert history.accuracy[-1] > 0.95


def test_a_long_gradient_is_shortened_to_the_norm_asked_for(toy: Any) -> None:
    moves = {}
    for clip_norm in (None, 1e-3, 1e6):
        network = initialise(fc(2, 3), generator=seeded())
        before = [p.detach().clone() for p in network.parameters()]
        train(
            network, toy, epochs=1, batch_size=50, optimizer="sgd", learning_rate=0.5,
            weight_decay=0.0, schedule="constant", clip_norm=clip_norm, generator=seeded(),
        )  # fmt: skip
        steps = [
            (p.detach() - q).flatten() for p, q in zip(network.parameters(), before, strict=True)
        ]
        moves[clip_norm] = torch.cat(steps)
    assert float(moves[1e-3].norm()) == pytest.approx(0.5e-3, rel=1e-3)
    assert torch.equal(moves[1e6], moves[None])
    torch.testing.assert_close(
        moves[1e-3] / moves[1e-3].norm(), moves[None] / moves[None].norm(), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("nan")])
def test_a_norm_to_clip_to_must_be_positive(toy: Any, clip_norm: float) -> None:
    with pytest.raises(ParameterError, match="`clip_norm` must be positive"):
        train(fc(2, 3), toy, epochs=1, clip_norm=clip_norm)
