"""Distances where rounding decides: two classes, ties, coarse models, inputs without a gradient."""

import math

import pytest
import torch
from torch import Tensor, nn

from levelset import attacks
from levelset.boundary import distance
from levelset.errors import NoGradientError

UNBOUNDED = (-math.inf, math.inf)


class Binary(nn.Module):
    """Two logits of one affine function f: (0, f), (-f, f), or both far from zero."""

    def __init__(self, d: int, dtype: torch.dtype, form: str = "(0, f)") -> None:
        super().__init__()
        self.inner = nn.Linear(d, 1, dtype=dtype)
        self.form = form

    def forward(self, points: Tensor) -> Tensor:
        f = self.inner(points)
        first = {"(0, f)": 0 * f, "(-f, f)": -f, "(100, 100 + f)": 0 * f + 100}[self.form]
        return torch.cat([first, f + 100 if self.form.startswith("(100") else f], 1)


def balanced(d: int, dtype: torch.dtype, form: str, seed: int) -> tuple[Binary, Tensor]:
    """Return a model that gives each of 200 uniform inputs either class, half of them each."""
    generator = torch.Generator().manual_seed(seed)
    model, points = Binary(d, dtype, form), torch.rand(200, d, generator=generator, dtype=dtype)
    with torch.no_grad():
        weight = (2.0 * torch.rand(1, d, generator=generator, dtype=dtype) - 1.0) / math.sqrt(d)
        model.inner.weight.copy_(weight)
        model.inner.bias.copy_(-(points @ weight.T).median(0).values)
    return model, points


def exact(model: Binary, points: Tensor, norm: float) -> Tensor:
    weight, bias = model.inner.weight.double().detach(), model.inner.bias.double().detach()
    value = points.double() @ weight.T + bias
    dual = 1.0 if math.isinf(norm) else 2.0
    return value.abs().squeeze(1) / torch.linalg.vector_norm(weight, dual)


@pytest.mark.parametrize("form", ["(0, f)", "(-f, f)"])
@pytest.mark.parametrize("d", [2, 30, 64, 784])
@pytest.mark.parametrize("norm", [2.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_classes(d: int, norm: float, dtype: torch.dtype, form: str) -> None:
    """Logits near zero at every input say nothing of how coarsely they are computed."""
    for seed in range(2):
        model, points = balanced(d, dtype, form, seed)
        found = distance(model, points, norm=norm, bounds=UNBOUNDED, effort="quick")
        truth = exact(model, points, norm)
        slack = 1e-5 if dtype == torch.float32 else 1e-13
        assert ((found.distance.double() - truth).abs() <= slack).all()
        assert found.converged.all()
        labels = model(points).argmax(1)
        for size in (1, 7, 200):
            classes = torch.cat([model(part) for part in found.points.split(size)]).argmax(1)
            assert (classes != labels).all()
            assert torch.equal(classes, found.classes)


def test_logits_far_from_zero_round_more() -> None:
    model, points = balanced(30, torch.float32, "(100, 100 + f)", seed=3)
    found = distance(model, points, bounds=UNBOUNDED, effort="quick")
    # An ulp of 100 is 7.6e-6, and the weights have a norm of about 0.6.
    assert ((found.distance.double() - exact(model, points, 2.0)).abs() <= 2e-4).all()
    assert (model(found.points).argmax(1) == found.classes).all()


class Coarse(nn.Module):
    """Rounds its logits to multiples of 1/64, and adds 1/128 in batches of odd size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 2)

    def forward(self, points: Tensor) -> Tensor:
        logits = self.inner(points)
        rounded = logits + ((64 * logits).round() / 64 - logits).detach()
        return rounded + torch.tensor([len(points) % 2 / 128.0, 0.0])


def test_a_model_coarser_than_its_dtype_keeps_its_witnesses() -> None:
    torch.manual_seed(0)
    model, points = Coarse(), torch.rand(41, 6)
    found = distance(model, points, bounds=(-9.0, 10.0), effort="quick")
    assert found.distance.isfinite().all()
    labels = model(points).argmax(1)
    assert (model(found.points).argmax(1) != labels).all()


def test_an_input_on_the_boundary_is_at_the_distance_of_rounding() -> None:
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, -2.0]]))
    found = distance(model, torch.tensor([[0.25, 0.25, 0.25]]), bounds=UNBOUNDED)
    assert found.distance < 1e-6
    assert found.classes.tolist() == [1]


def test_a_tie_is_a_witness_where_there_is_no_other() -> None:
    """The second logit never wins; it ties at 1 and beyond, where the first is given."""

    class Ties(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            lead = (1.0 - points[:, 0]).clamp(min=0.0)
            return torch.stack([lead, 0.0 * lead], 1)

    found = distance(Ties(), torch.tensor([[0.25], [0.5]]), bounds=(-2.0, 2.0), effort="quick")
    torch.testing.assert_close(found.distance, torch.tensor([0.75, 0.5]), rtol=0.03, atol=0)
    assert found.classes.tolist() == [1, 1]


class Dead(nn.Module):
    """A ball of radius 1.5, with no gradient within a radius of 1."""

    def forward(self, points: Tensor) -> Tensor:
        value = (points.norm(dim=1) - 1.0).relu() - 0.5
        return torch.stack([-value, value], 1)


@pytest.mark.slow
def test_an_input_without_gradient_is_answered_alone_as_in_company() -> None:
    generator = torch.Generator().manual_seed(0)
    points = 0.2 * torch.randn(12, 5, generator=generator, dtype=torch.float64)
    points[0] *= 6.0 / points[0].norm() / 5.0
    together = distance(Dead(), points, bounds=(-5.0, 5.0)).distance
    torch.testing.assert_close(together, 1.5 - points.norm(dim=1), rtol=1e-4, atol=0)
    for row in (0, 1, 7):
        alone = distance(Dead(), points[row : row + 1], bounds=(-5.0, 5.0))
        torch.testing.assert_close(alone.distance, together[row : row + 1], rtol=1e-4, atol=0)


def test_models_without_gradients_are_measured_along_random_directions() -> None:
    class Rounded(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            value = (8.0 * points).round().sum(1) / 8.0 - 0.3
            return torch.stack([0.0 * value, value], 1).detach()

    points = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
    found = distance(Rounded(), points, bounds=(-5.0, 5.0))
    assert found.distance.isfinite().all()
    assert (Rounded()(found.points).argmax(1) == found.classes).all()
    with pytest.raises(NoGradientError, match="carry no gradient"):
        attacks.direct_boundary(Rounded(), points, bounds=(-5.0, 5.0))


def test_an_attack_refuses_a_model_but_no_input() -> None:
    points = torch.tensor([[0.1, 0.2, 0.0, 0.0, 0.0]])
    assert not attacks.fmn(Dead(), points, bounds=(-5.0, 5.0)).success.any()

    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(8.0 * x).round().sum(1), 0.0 * x.sum(1)], 1)

    with pytest.raises(NoGradientError, match=r"zero for all 1 inputs, and at 16 random points"):
        attacks.fmn(Flat(), points, bounds=(-5.0, 5.0))


def test_the_walk_resumes_from_a_point_that_something_else_found() -> None:
    points = 0.1 * torch.ones(3, 5, dtype=torch.float64)
    starts = torch.zeros_like(points)
    starts[:, 0] = torch.tensor([4.0, -4.0, 0.5], dtype=torch.float64)
    found = attacks.direct_boundary(Dead(), points, starts=starts, bounds=(-5.0, 5.0))
    # The third start is not across, and the input has no gradient.
    assert found.success.tolist() == [True, True, False]
    expected = 1.5 - points.norm(dim=1)
    torch.testing.assert_close(found.distance[:2], expected[:2], rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_the_scale_of_the_logits_does_not_matter(scale: float, norm: float) -> None:
    torch.manual_seed(4)
    inner = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4))
    points = torch.rand(30, 8)

    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scale * inner(x)

    plain = distance(inner, points, norm=norm, bounds=UNBOUNDED, effort="standard")
    scaled = distance(Scaled(), points, norm=norm, bounds=UNBOUNDED, effort="standard")
    torch.testing.assert_close(scaled.distance, plain.distance, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("form", ["(0, f)", "(-f, f)"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_alma_is_exact_on_two_classes(form: str, scale: float) -> None:
    model, points = balanced(30, torch.float64, form, seed=5)
    with torch.no_grad():
        model.inner.weight.mul_(scale)
        model.inner.bias.mul_(scale)
    found = attacks.alma(model, points, bounds=UNBOUNDED)
    torch.testing.assert_close(found.distance, exact(model, points, 2.0), rtol=1e-6, atol=1e-9)


def test_jsma_takes_any_two_logits_alike() -> None:
    first, points = balanced(30, torch.float32, "(0, f)", seed=6)
    second, _ = balanced(30, torch.float32, "(-f, f)", seed=6)
    one, other = (attacks.jsma(model, points) for model in (first, second))
    assert one.success.sum() >= 190
    assert torch.equal(one.success, other.success)
    torch.testing.assert_close(one.points, other.points)


def test_cross_entropy_moves_as_many_as_the_margin_whatever_the_scale() -> None:
    torch.manual_seed(2)
    inner = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 10))
    points = torch.rand(100, 20)

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e4 * inner(x)

    moved = {
        loss: int(attacks.pgd(Sure(), points, radius=0.05, steps=20, loss=loss,
                              generator=torch.Generator().manual_seed(0)).success.sum())
        for loss in ("cross_entropy", "margin")
    }  # fmt: skip
    assert moved["margin"] > 20
    assert abs(moved["cross_entropy"] - moved["margin"]) <= 1
