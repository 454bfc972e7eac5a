"""Distances: exact for affine models, witnessed for all, honest about what was not found."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from levelset import Classifier
from levelset.attacks import Attack, direct_boundary
from levelset.boundary import distance
from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.networks import fc

NORMS = (2.0, math.inf)
UNBOUNDED = (-math.inf, math.inf)


def affine(inputs: int, classes: int, seed: int, dtype: torch.dtype = torch.float64) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(inputs, classes).to(dtype)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return model


def exact(model: nn.Linear, points: Tensor, norm: float) -> Tensor:
    """Return margin over the dual norm of the difference of weights, least over the rivals."""
    logits = model(points).detach()
    own = logits.argmax(1)
    rows = torch.arange(len(points))
    gap = logits[rows, own].unsqueeze(1) - logits
    weights = model.weight.detach()[own].unsqueeze(1) - model.weight.detach()
    slope = torch.linalg.vector_norm(weights, ord=1.0 if math.isinf(norm) else 2.0, dim=2)
    ratio = gap / slope
    ratio[rows, own] = math.inf
    return ratio.amin(1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_affine_models_are_exact(norm: float, classes: int, effort: str) -> None:
    model = affine(12, classes, seed=classes)
    points = torch.randn(40, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = distance(model, points, norm=norm, bounds=UNBOUNDED, effort=effort)  # type: ignore[arg-type]
    torch.testing.assert_close(found.distance, exact(model, points, norm), rtol=1e-9, atol=0)
    assert found.converged.all()


@pytest.mark.parametrize("norm", NORMS)
def test_single_precision_is_exact_to_its_rounding(norm: float) -> None:
    model = affine(12, 4, seed=3, dtype=torch.float32)
    points = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    found = distance(model, points, norm=norm, bounds=UNBOUNDED)
    truth = exact(model.double(), points.double(), norm)
    # The margin itself is known to a few roundings of the logits only.
    slack = 2e-5 * model(points.double()).abs().amax(1) / (truth + 1e-9)
    assert ((found.distance.double() - truth).abs() <= 1e-6 * truth + slack * truth).all()
    assert (found.distance.double() >= truth * (1 - 1e-5) - 1e-6).all()


@pytest.mark.parametrize("norm", NORMS)
def test_witnesses_are_inside_of_another_class_and_as_far_as_said(norm: float) -> None:
    torch_seed = torch.Generator().manual_seed(5)
    model = fc(20, 30, 5).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch_seed)
    points = torch.rand(60, 20, generator=torch_seed)
    found = distance(model, points, norm=norm)
    held = found.distance.isfinite()
    assert held.sum() > 50
    witness = found.points[held]
    assert witness.min() >= 0
    assert witness.max() <= 1
    assert (model(witness).argmax(1) != model(points[held]).argmax(1)).all()
    assert torch.equal(model(witness).argmax(1), found.classes[held])
    order = math.inf if math.isinf(norm) else 2
    length = torch.linalg.vector_norm(witness - points[held], ord=order, dim=1)
    torch.testing.assert_close(length, found.distance[held])
    assert found.converged[held].all()


def test_no_nearer_than_a_grid_allows_in_the_plane() -> None:
    """In the plane every point can be tried: nothing nearer exists, nor is much overlooked."""
    generator = torch.Generator().manual_seed(11)
    model = fc(2, 16, 3).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    axis = torch.linspace(0, 1, 401)
    grid = torch.cartesian_prod(axis, axis)
    grid_class = model(grid).argmax(1)
    points = torch.rand(50, 2, generator=generator)
    own = model(points).argmax(1)
    away = torch.cdist(points, grid)
    away[own.unsqueeze(1) == grid_class.unsqueeze(0)] = math.inf
    brute = away.amin(1)
    there = brute.isfinite()
    found = distance(model, points[there])
    cell = math.sqrt(2) / 400
    assert (found.distance >= brute[there] - cell).all()
    assert (found.distance <= brute[there] + cell).double().mean() >= 0.9
    assert found.distance.isfinite().all()


def boxed_exact(model: nn.Linear, point: Tensor) -> float:
    """Return the distance to the boundary of two classes within the unit box, by its multiplier."""
    normal = (model.weight[0] - model.weight[1]).detach()
    offset = (model.bias[0] - model.bias[1]).detach()
    side = (normal @ point + offset).sign()

    def value(multiplier: float) -> float:
        moved = (point - multiplier * side * normal).clamp(0, 1)
        return float(side * (normal @ moved + offset))

    multiplier = brentq(value, 0.0, 1e3, xtol=1e-15, rtol=1e-14)
    return float(((point - multiplier * side * normal).clamp(0, 1) - point).norm())


def test_the_box_is_kept_and_costs_distance() -> None:
    model = affine(6, 2, seed=2)
    model.bias.data = -0.6 * model.weight.data.sum(1)  # the boundary meets the box
    points = torch.rand(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = distance(model, points, bounds=(0.0, 1.0))
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    truth = torch.tensor([boxed_exact(model, point) for point in points], dtype=torch.float64)
    free = exact(model, points, 2.0)
    assert (truth > free * 1.01).any(), "the bounds bind somewhere, or this tests nothing"
    assert (found.distance >= truth * (1 - 1e-9)).all()
    assert (found.distance <= truth * 1.05).all()


def test_bounds_may_be_one_a_channel() -> None:
    model = affine(2, 2, seed=2, dtype=torch.float64)
    points = torch.zeros(1, 2, dtype=torch.float64)
    low, high = torch.tensor([-1.0, 0.0]).double(), torch.tensor([1.0, 1e-9]).double()
    found = distance(model, points, bounds=(low, high))
    if found.distance.isfinite().all():
        assert (found.points >= low).all()
        assert (found.points <= high).all()


def test_misclassified_inputs_are_at_distance_zero_and_kept_apart() -> None:
    model = affine(4, 3, seed=1, dtype=torch.float32)
    points = torch.rand(20, 4, generator=torch.Generator().manual_seed(3))
    labels = (model(points).argmax(1) + (torch.arange(20) < 5).long()) % 3
    found = distance(model, points, labels, bounds=UNBOUNDED)
    assert (found.distance[:5] == 0).all()
    assert torch.equal(found.points[:5], points[:5])
    assert (found.distance[5:] > 0).all()
    assert found.summary()["already_misclassified"] == 5


def test_a_class_that_nothing_leaves_is_missed_honestly() -> None:
    model = nn.Linear(3, 2)
    model.weight.data.zero_()
    model.weight.data[0, 0] = 1e-3
    model.bias.data = torch.tensor([100.0, 0.0])
    found = distance(model, torch.rand(4, 3))
    assert found.distance.isinf().all()
    assert found.points.isnan().all()
    assert (found.classes == -1).all()
    assert not found.converged.any()
    assert found.summary()["missed"] == 4


@pytest.mark.slow
def test_more_effort_never_finds_less() -> None:
    generator = torch.Generator().manual_seed(8)
    model = fc(10, 20, 4).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    points = torch.rand(30, 10, generator=generator)
    medians = [
        float(distance(model, points, effort=e).distance.median())  # type: ignore[arg-type]
        for e in ("quick", "standard", "thorough")
    ]
    assert medians[2] <= medians[1] * 1.001
    assert medians[1] <= medians[0] * 1.001


def boaster(model: nn.Module, points: Tensor, labels: Tensor, **options: object) -> Attack:
    """Search longer than `quick` does, and lie about the distance."""
    found = direct_boundary(model, points, labels, steps=200, **options)  # type: ignore[arg-type]
    return replace(found, distance=torch.zeros_like(found.distance))


def test_an_extra_attack_that_finds_a_nearer_point_wins_and_is_named() -> None:
    generator = torch.Generator().manual_seed(8)
    model = fc(10, 20, 4).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    points = torch.rand(30, 10, generator=generator)
    alone = distance(model, points, effort="quick")
    both = distance(model, points, effort="quick", extra_attacks=(partial(boaster),))
    won = both.attack == both.attacks.index("boaster")
    assert won.any()
    assert (both.distance[won] < alone.distance[won]).all()
    assert torch.equal(both.distance[~won], alone.distance[~won])
    # What an attack says of itself counts for nothing: its points are measured again.
    torch.testing.assert_close(both.distance, (both.points - points).norm(dim=1))


def test_the_classifier_brings_its_own_bounds() -> None:
    model = Classifier(affine(3, 2, seed=4, dtype=torch.float32), bounds=(0.0, 255.0))
    found = distance(model, torch.full((2, 3), 200.0))
    held = found.distance.isfinite()
    assert (found.points[held] <= 255).all()


@pytest.mark.messages
def test_messages() -> None:
    model, points = affine(3, 2, seed=0, dtype=torch.float32), torch.rand(4, 3)
    with pytest.raises(ParameterError, match=r"`norm` must be one of 2, inf, got 3"):
        distance(model, points, norm=3)
    with pytest.raises(ParameterError, match=r"`effort` must be one of quick, standard, thorough"):
        distance(model, points, effort="lots")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"within the bounds 0 to 1, got values from .* to 7"):
        distance(model, torch.full((2, 3), 7.0))
    with pytest.raises(ParameterError, match=r"`labels` must lie in 0 to 1, got 2"):
        distance(model, points, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ShapeError, match=r"one row per point \(4\), got \(3,\)"):
        distance(model, points, torch.tensor([0, 1, 0]))
    with pytest.raises(
        FieldError, match=r"must map points \(\d, 3\) to \(\d, k\), got \(\d, 1, 3\)"
    ):
        distance(nn.Unflatten(1, (1, 3)), points)
    with pytest.raises(FieldError, match=r"failed on points of shape \(\d, 3\)"):
        distance(nn.Linear(5, 2), points)
