"""What every least-norm attack promises, whatever its method."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from levelset import attacks
from levelset._tools.norms import norm_of
from levelset.attacks import Attack
from levelset.errors import FieldError, ParameterError

Method = Callable[..., Attack]

TARGETED: dict[str, Method] = {
    "alma": partial(attacks.alma, steps=30),
    "alma_l1": partial(attacks.alma, steps=30, norm=1.0),
    "carlini_wagner": partial(attacks.carlini_wagner, steps=40, searches=3, first_weight=1.0),
    "ddn": partial(attacks.ddn, steps=30),
    "direct_boundary": partial(attacks.direct_boundary, steps=30),
    "direct_boundary_inf": partial(attacks.direct_boundary, steps=30, norm=math.inf),
    "direct_boundary_once": partial(attacks.direct_boundary, steps=20, rivals=0),
    "fmn": partial(attacks.fmn, steps=30),
    "fmn_l0": partial(attacks.fmn, steps=30, norm=0.0),
    "fmn_l1": partial(attacks.fmn, steps=30, norm=1.0),
    "fmn_inf": partial(attacks.fmn, steps=30, norm=math.inf),
    "jsma": partial(attacks.jsma, share=1.0),
    "lbfgs": partial(attacks.lbfgs, steps=8, searches=4, first_weight=0.1),
}
METHODS: dict[str, Method] = TARGETED | {
    "deepfool": attacks.deepfool,
    "deepfool_inf": partial(attacks.deepfool, norm=math.inf),
}
every = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
every_targeted = pytest.mark.parametrize("method", TARGETED.values(), ids=TARGETED)


class Breaks(nn.Module):
    """A network whose gradient is NaN at points whose first entry is above 0.99."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, points: Tensor) -> Tensor:
        logits = self.inner(points)
        rows = (points[:, 0] > 0.99).nonzero().flatten()
        first = points[rows, :1].expand(-1, logits.shape[1])
        root = (first - first.detach()).sqrt()
        return logits + torch.zeros_like(logits).index_put((rows,), 0.0 * root)


class Rounds(nn.Module):
    """A network without a gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, points: Tensor) -> Tensor:
        return self.inner(points.round())


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4, bias=False))


def centred(model: nn.Module) -> nn.Module:
    """Move what the model does about the origin to the middle of the unit box, magnified."""
    with torch.no_grad():
        model[0].weight *= 4.0
        model[0].bias -= 0.5 * model[0].weight.sum(1)
    return model


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    return centred(settled(mlp(), seed=5, dtype=torch.float64))


@pytest.fixture
def points(noise: Callable[..., Tensor]) -> Tensor:
    return noise(12, 6, seed=2).sigmoid()


@every
def test_success_is_true_and_inside_and_at_its_distance(
    method: Method, network: nn.Module, points: Tensor
) -> None:
    labels = network(points).argmax(1)
    found = method(network, points, labels)
    done = found.success
    assert done.float().mean() >= 0.75
    assert (network(found.points[done]).argmax(1) != labels[done]).all()
    assert ((found.points >= 0) & (found.points <= 1)).all()
    torch.testing.assert_close(
        found.distance[done], norm_of(found.points - points, found.norm)[done], rtol=0, atol=0
    )
    assert torch.equal(found.points[~done], points[~done])
    assert found.distance[~done].isinf().all()
    assert (found.evaluations >= found.gradients.clamp(max=1)).all()


@every_targeted
def test_targets_are_reached(method: Method, network: nn.Module, points: Tensor) -> None:
    targets = network(points).topk(2, dim=1).indices[:, 1]
    found = method(network, points, targets=targets)
    assert found.success.float().mean() >= 0.6
    assert torch.equal(network(found.points).argmax(1)[found.success], targets[found.success])


@every
def test_rows_do_not_know_of_each_other(method: Method, network: nn.Module, points: Tensor) -> None:
    together = method(network, points)
    one_by_one = method(network, points, batch_size=1)
    some = torch.tensor([7, 3, 0, 9])
    alone = method(network, points[some])
    # Rounding may grow on a kink, and then a row ends elsewhere: one in ten may.
    same = (one_by_one.distance - together.distance).abs() < 1e-9
    same |= one_by_one.distance == together.distance
    assert same.float().mean() >= 0.9
    torch.testing.assert_close(one_by_one.distance, together.distance, rtol=1e-3, atol=0)
    torch.testing.assert_close(alone.distance, together.distance[some], rtol=1e-3, atol=0)
    assert torch.equal(one_by_one.success, together.success)


@every
def test_inputs_already_across_are_left_alone(
    method: Method, network: nn.Module, points: Tensor
) -> None:
    labels = network(points).argmax(1)
    labels[:5] = (labels[:5] + 1) % 4
    found = method(network, points, labels)
    assert (found.distance[:5] == 0).all()
    assert found.success[:5].all()
    assert torch.equal(found.points[:5], points[:5])
    assert (found.gradients[:5] == 0).all()
    assert (found.distance[5:] > 0).all()
    assert found.summary()["already_misclassified"] == 5


@every
def test_nothing_is_touched(
    method: Method,
    settled: Callable[..., nn.Module],
    points: Tensor,
    left_as_found: Callable[..., AbstractContextManager[None]],
) -> None:
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
    model = settled(nn.Sequential(*layers), seed=3, dtype=torch.float64).train()
    labels = torch.zeros(12, dtype=torch.int64)
    with left_as_found(model, points, labels):
        method(model, points, labels)


@every
def test_no_inputs(method: Method, network: nn.Module) -> None:
    found = method(network, torch.zeros(0, 6, dtype=torch.float64))
    assert len(found) == 0
    assert found.points.shape == (0, 6)


@every
def test_the_dtype_of_the_points_is_kept(
    method: Method, settled: Callable[..., nn.Module], points: Tensor
) -> None:
    model = centred(settled(mlp(), seed=5))
    found = method(model, points.float())
    assert found.points.dtype == found.distance.dtype == torch.float32
    assert found.gradients.dtype == torch.int64


@every
def test_a_row_with_a_broken_gradient_fails_alone(
    method: Method, network: nn.Module, points: Tensor
) -> None:
    points[4, 0] = 1.0
    points[:4, 0], points[5:, 0] = 0.3, 0.3
    found = method(Breaks(network), points)
    others = torch.arange(12) != 4
    assert not found.success[4]
    assert torch.equal(found.points[4], points[4])
    expected = method(network, points[others])
    assert found.success[others].sum() >= expected.success.sum() - 1
    assert found.points.isfinite().all()


@every
def test_a_model_without_gradients_is_refused(
    method: Method, network: nn.Module, points: Tensor
) -> None:
    with pytest.raises(FieldError, match=r"zero for all 12 inputs.*gradient-free `square`"):
        method(Rounds(network), points)


@every_targeted
def test_a_target_that_is_the_label(method: Method, network: nn.Module, points: Tensor) -> None:
    labels = network(points).argmax(1)
    with pytest.raises(ParameterError, match="`targets` must differ from the labels, but 12 of 12"):
        method(network, points, labels, targets=labels)


@every
def test_points_outside_the_bounds(method: Method, network: nn.Module, points: Tensor) -> None:
    with pytest.raises(ParameterError, match=r"`points` must lie within the bounds 0 to 0\.25"):
        method(network, points, bounds=(0.0, 0.25))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (attacks.alma, {"steps": 0}, "alma: `steps` must be at least 1, got 0"),
        (attacks.alma, {"norm": math.inf}, "alma: `norm` must be one of 2, 1, got inf"),
        (attacks.alma, {"first_step": -1.0}, "alma: `first_step` must be positive, got -1"),
        (attacks.alma, {"memory": 1.0}, r"alma: `memory` must lie in \[0, 1\), got 1"),
        (attacks.carlini_wagner, {"searches": 0}, "`searches` must be at least 1, got 0"),
        (attacks.carlini_wagner, {"confidence": -1.0}, "`confidence` must be 0 or more, got -1"),
        (attacks.carlini_wagner, {"first_weight": 0.0}, "`first_weight` must be positive"),
        (attacks.carlini_wagner, {"bounds": (0.0, math.inf)}, "`bounds` must be finite"),
        (attacks.ddn, {"rate": 1.0}, "ddn: `rate` must lie between 0 and 1, got 1"),
        (attacks.ddn, {"first_radius": 0.0}, "ddn: `first_radius` must be positive, got 0"),
        (attacks.deepfool, {"candidates": 0}, "`candidates` must be at least 1, got 0"),
        (attacks.deepfool, {"overshoot": -0.1}, "`overshoot` must be 0 or more, got -0.1"),
        (attacks.direct_boundary, {"steps": 3}, "`steps` must be 4 or more, got 3"),
        (attacks.direct_boundary, {"rivals": -1}, "`rivals` must be 0 or more, got -1"),
        (attacks.direct_boundary, {"norm": 3}, "`norm` must be one of 2, inf, 1, got 3"),
        (attacks.fmn, {"step_size": 0.0}, "fmn: `step_size` must be positive, got 0"),
        (attacks.fmn, {"norm": 3}, "fmn: `norm` must be one of 2, inf, 1, 0, got 3"),
        (attacks.jsma, {"share": 0.0}, r"jsma: `share` must lie in \(0, 1\], got 0"),
        (attacks.jsma, {"step": 1.5}, r"jsma: `step` must lie in \(0, 1\], got 1.5"),
        (attacks.jsma, {"bounds": (0.0, math.inf)}, "jsma: `bounds` must be finite"),
        (attacks.lbfgs, {"searches": 0}, "lbfgs: `searches` must be at least 1, got 0"),
        (attacks.lbfgs, {"first_weight": 0.0}, "lbfgs: `first_weight` must be positive"),
    ],
)
def test_options_out_of_range(
    method: Method, options: dict[str, float], message: str, network: nn.Module, points: Tensor
) -> None:
    with pytest.raises(ParameterError, match=message):
        method(network, points, **options)


@every
def test_progress_counts_to_its_total(method: Method, network: nn.Module, points: Tensor) -> None:
    told: list[tuple[int, int]] = []
    method(network, points[:3], progress=lambda done, total: told.append((done, total)))
    assert told
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert len({total for _, total in told}) == 1
    assert told[-1][0] <= told[-1][1]
