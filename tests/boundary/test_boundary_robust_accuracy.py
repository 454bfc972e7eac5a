"""Robust accuracy at a radius: exact where the answer is known, never below it, with witnesses."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import pgd, square
from levelset.boundary import robust_accuracy
from levelset.errors import LevelSetWarning, ParameterError, ShapeError

EFFORTS = ("quick", "standard", "thorough")
NO_BOUNDS = (-math.inf, math.inf)


class Masked(nn.Module):
    """A model whose answers change only where its input crosses a multiple of a sixteenth."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model((points * 16).round() / 16)


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4)
    return settled(nn.Sequential(*layers), seed=11)


@pytest.mark.parametrize(("norm", "classes"), [(2.0, 3), (math.inf, 2), (math.inf, 3)])
@pytest.mark.slow
def test_linear_models_are_answered_exactly(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor], norm: float, classes: int
) -> None:
    model = settled(nn.Linear(20, classes), dtype=torch.float64)
    points = noise(100, 20)
    logits = model(points).detach()
    labels = logits.argmax(1)
    labels[:5] = (labels[:5] + 1) % classes
    dual = 1.0 if math.isinf(norm) else 2.0
    weights = model.weight.detach()
    own = weights[labels].unsqueeze(1) - weights
    gaps = logits.gather(1, labels.unsqueeze(1)) - logits
    lengths = (gaps / own.norm(p=dual, dim=2)).nan_to_num(math.inf)
    lengths = lengths.masked_fill(own.abs().sum(2) == 0, math.inf).amin(1)
    radius = float(lengths[5:].quantile(0.5))
    expected = lengths > radius
    result = robust_accuracy(model, points, labels, radius=radius, norm=norm, bounds=NO_BOUNDS)
    clear = (lengths / radius - 1).abs() > 1e-3
    wrong = clear & (result.robust != expected)
    assert not wrong.any(), lengths[wrong] / radius
    assert clear.sum() > 95
    assert result.clean_accuracy == 0.95
    assert not result.robust[:5].any()


@pytest.mark.parametrize("norm", [2.0, math.inf])
@pytest.mark.slow
def test_every_broken_input_has_a_witness(
    network: nn.Module, noise: Callable[..., Tensor], norm: float
) -> None:
    points = noise(30, 1, 8, 8, dtype=torch.float32).sigmoid()
    labels = network(points).argmax(1)
    labels[:5] = (labels[:5] + 1) % 4
    radius = 0.1 if math.isinf(norm) else 0.5
    result = robust_accuracy(network, points, labels, radius=radius, norm=norm)
    broken = ~result.robust
    assert 7 < broken.sum() < 29
    witnesses = result.points[broken]
    assert (network(witnesses).argmax(1) != labels[broken]).all()
    lengths = (witnesses - points[broken]).flatten(1).norm(p=norm, dim=1)
    assert (lengths <= radius * (1 + 1e-6)).all()
    assert witnesses.min() >= 0
    assert witnesses.max() <= 1
    assert torch.equal(witnesses[:5], points[:5])
    assert result.points[result.robust].isnan().all()
    assert (result.attack[5:] >= 0).equal(broken[5:])
    assert (result.attack[:5] == -1).all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_a_higher_effort_leaves_no_other_input_standing(
    network: nn.Module, noise: Callable[..., Tensor], norm: float
) -> None:
    points = noise(12, 1, 8, 8, dtype=torch.float32).sigmoid()
    labels = network(points).argmax(1)
    radius = 0.1 if math.isinf(norm) else 0.5
    masks = [
        robust_accuracy(network, points, labels, radius=radius, norm=norm, effort=effort).robust
        for effort in EFFORTS
    ]
    assert not (masks[1] & ~masks[0]).any()
    assert not (masks[2] & ~masks[1]).any()
    alone = pgd(network, points, labels, radius=radius, norm=norm, loss="margin")
    assert masks[2].sum() <= (~alone.success).sum()


@pytest.mark.slow
def test_masked_gradients_do_not_pass_for_robustness(
    network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(40, 1, 8, 8, dtype=torch.float32).sigmoid()
    masked = Masked(network)
    labels = masked(points).argmax(1)
    with pytest.warns(LevelSetWarning, match="has no gradient at 40 of 40 inputs"):
        result = robust_accuracy(masked, points, labels, radius=0.12, effort="thorough")
    plain = robust_accuracy(network, points, network(points).argmax(1), radius=0.12)
    assert plain.accuracy < 0.5
    assert result.accuracy < plain.accuracy + 0.2
    assert {result.attacks[i] for i in result.attack[result.attack >= 0].tolist()} == {"square"}


def test_a_model_that_answers_at_random_is_named(noise: Callable[..., Tensor]) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, points: Tensor) -> Tensor:
            return self.layer(points) + torch.rand(len(points), 3)

    points = noise(30, 6, dtype=torch.float32).sigmoid()
    with pytest.warns(LevelSetWarning, match="answers .* of 30 inputs otherwise when it is asked"):
        robust_accuracy(Noisy(), points, torch.zeros(30, dtype=torch.long), radius=0.1)


def test_a_sound_model_is_not_warned_of(
    network: nn.Module, noise: Callable[..., Tensor], recwarn: pytest.WarningsRecorder
) -> None:
    points = noise(10, 1, 8, 8, dtype=torch.float32).sigmoid()
    robust_accuracy(network, points, network(points).argmax(1), radius=0.06, effort="quick")
    assert not [warning for warning in recwarn if issubclass(warning.category, LevelSetWarning)]


@pytest.mark.slow
def test_what_becomes_of_an_input_does_not_depend_on_the_others(
    network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(20, 1, 8, 8, dtype=torch.float32).sigmoid()
    labels = network(points).argmax(1)
    whole = robust_accuracy(network, points, labels, radius=0.08, effort="standard")
    assert 2 < whole.robust.sum() < 18
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for rows in (order[:7], order[7:]):
        some = robust_accuracy(
            network, points[rows], labels[rows], radius=0.08, effort="standard", batch_size=3
        )
        assert torch.equal(some.robust, whole.robust[rows])


def test_the_scale_of_the_logits_does_not_matter(
    network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(30, 1, 8, 8, dtype=torch.float32).sigmoid()
    labels = network(points).argmax(1)
    shares = []
    for scale in (1e-3, 1.0, 1e3):
        scaled = nn.Sequential(network, nn.Identity())
        scaled[1].forward = lambda x, scale=scale: scale * x  # type: ignore[method-assign]
        shares.append(robust_accuracy(scaled, points, labels, radius=0.06, effort="quick").accuracy)
    soft = nn.Sequential(network, nn.Softmax(1))
    with pytest.warns(LevelSetWarning, match="robust_accuracy: .* probabilities"):
        shares.append(robust_accuracy(soft, points, labels, radius=0.06, effort="quick").accuracy)
    assert max(shares) - min(shares) <= 1 / 30 + 1e-9


def test_the_same_seed_gives_the_same_result_and_moves_no_other(
    network: nn.Module, noise: Callable[..., Tensor], same_bits: Callable[..., bool]
) -> None:
    points = noise(20, 1, 8, 8, dtype=torch.float32).sigmoid()
    labels = network(points).argmax(1)
    before = torch.get_rng_state()
    one, two = (robust_accuracy(network, points, labels, radius=0.06) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.robust, two.robust)
    assert same_bits(one.points[~one.robust], two.points[~two.robust])


def test_summary_and_interval(noise: Callable[..., Tensor]) -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
        model.bias.zero_()
    points = torch.tensor([[0.7, 0.5], [1.0, 0.0], [0.2, 0.9], [0.1, 0.9]])
    result = robust_accuracy(model, points, torch.tensor([0, 0, 0, 1]), radius=0.25)
    summary = result.summary()
    assert result.robust.tolist() == [False, True, False, True]
    assert (summary["accuracy"], summary["clean_accuracy"]) == (0.5, 0.75)
    # Clopper-Pearson for 2 of 4, by the quantiles of beta distributions.
    assert result.interval == pytest.approx((0.06758599, 0.93241401), abs=1e-7)
    assert summary["broken_1_fgsm"] == 1
    assert "accuracy=0.5" in repr(result)


def test_a_tie_with_the_label_breaks_nothing(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    model = settled(nn.Linear(6, 20), dtype=torch.float64)
    with torch.no_grad():
        for parameter in (model.weight, model.bias):
            parameter[1:] = parameter[:1]  # all classes answer alike
    points = noise(40, 6).sigmoid()
    result = robust_accuracy(model, points, torch.zeros(40, dtype=torch.long), radius=0.1)
    assert result.clean_accuracy == 1.0
    assert result.robust.all()


@pytest.mark.parametrize("effort", EFFORTS)
def test_no_inputs(effort: str) -> None:
    result = robust_accuracy(
        nn.Linear(3, 2), torch.empty(0, 3), torch.empty(0, dtype=torch.long), radius=0.1,
        effort=effort,
    )  # fmt: skip
    assert len(result) == 0
    assert math.isnan(result.accuracy)


@pytest.mark.messages
def test_what_is_refused(network: nn.Module) -> None:
    points, labels = torch.full((3, 1, 8, 8), 0.5), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ParameterError, match=r"robust_accuracy: `radius` must be"):
        robust_accuracy(network, points, labels, radius=0.0)
    with pytest.raises(ParameterError, match=r"`effort` must be one of quick, .*, got 'high'"):
        robust_accuracy(network, points, labels, radius=0.1, effort="high")
    with pytest.raises(ParameterError, match=r"robust_accuracy: `norm` must be"):
        robust_accuracy(network, points, labels, radius=0.1, norm=1.0)
    with pytest.raises(ShapeError, match=r"square: `starts` must have the shape"):
        square(network, points, labels, radius=0.1, starts=points[:2])


def test_square_goes_on_from_where_it_is_told(network: nn.Module) -> None:
    points = torch.linspace(0.2, 0.8, 64).view(1, 1, 8, 8).repeat(6, 1, 1, 1)
    labels = network(points).argmax(1)
    best = pgd(network, points, labels, radius=0.3, loss="margin", steps=60)
    assert best.success.all()
    # What is across already needs no window.
    made = square(network, points, labels, radius=0.3, steps=50, starts=best.points)
    assert made.success.all()
    assert torch.equal(made.points, best.points)
    assert (made.evaluations <= 4).all()
