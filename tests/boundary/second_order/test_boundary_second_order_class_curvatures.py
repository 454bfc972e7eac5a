import pytest
import torch
from torch import nn

from levelset import LogitDifference
from levelset.boundary import (
    CentralDifference,
    ForwardDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
    class_curvatures,
    curvature,
)
from levelset.boundary._second_order import _class_curvatures
from levelset.errors import FieldError, ParameterError, ShapeError


class Quadrics(nn.Module):
    """Three quadratic logits, whose second differences are exact at any step."""

    def __init__(self, noise):
        super().__init__()
        matrices = noise(3, 6, 6, seed=1)
        self.matrices = matrices + matrices.transpose(1, 2)
        self.slopes = noise(3, 6, seed=2)

    def forward(self, points):
        return torch.einsum("ni,kij,nj->nk", points, self.matrices, points) + points @ self.slopes.T


@pytest.mark.parametrize("smoothing", [CentralDifference(0.3), GaussianSmoothing(0.4, 20_000)])
def test_on_quadrics_it_is_the_mean_curvature_of_each_boundary(noise, smoothing):
    model, points = Quadrics(noise), noise(4, 6, seed=3)
    found = class_curvatures(
        model, points, smoothing=smoothing, generator=torch.Generator().manual_seed(0)
    )
    answers = model(points).argmax(1)
    for j in range(3):
        pairs = torch.stack([answers, torch.full_like(answers, j)], 1)
        rows = answers != j
        exact = curvature(LogitDifference(model), points[rows], labels=pairs[rows], level=None)
        close = {} if isinstance(smoothing, CentralDifference) else {"rtol": 0.0, "atol": 0.06}
        torch.testing.assert_close(found[rows, j], exact.mean, **close)
        assert found[~rows, j].isnan().all()


class Residual(nn.Module):
    """Adds in place what a convolution made, as residual networks do."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, points):
        kept = self.convolution(points)
        kept += points
        return kept


class Doubled(torch.autograd.Function):
    """Has no derivative in forward mode."""

    @staticmethod
    def forward(ctx, points):
        return 2.0 * points

    @staticmethod
    def backward(ctx, slopes):
        return 2.0 * slopes


class Doubling(nn.Module):
    def forward(self, points):
        return Doubled.apply(points)


SHAPES = {
    "a layer norm, whose second derivative in forward mode is wrong": (
        (6,), lambda: [nn.Linear(6, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 3)],
    ),
    "an operation that forward mode does not know": (
        (6,), lambda: [nn.Linear(6, 12), Doubling(), nn.ReLU(), nn.Linear(12, 3)],
    ),
    "linear layers": (
        (6,), lambda: [nn.Linear(6, 12), nn.ReLU(inplace=True), nn.Linear(12, 3)],
    ),
    "max-pools, batch norm and a skip": (
        (1, 6, 6),
        lambda: [
            nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(inplace=True), Residual(),
            nn.MaxPool2d(2), nn.LeakyReLU(0.1), nn.AdaptiveMaxPool2d(2), nn.Flatten(),
            nn.Linear(8, 3),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("beta", [2.0, 20.0])
def test_the_surrogate_s_is_the_mean_of_curvature_for_every_class(settled, noise, name, beta):
    shape, layers = SHAPES[name]
    model = settled(nn.Sequential(*layers()), dtype=torch.float64).eval()
    points, smoothing = noise(4, *shape), SoftplusSurrogate(beta)
    points[0].view(-1)[3:] = 0.0  # an even background, on which the pools tie
    found = class_curvatures(model, points, smoothing=smoothing, batch_size=5)
    torch.testing.assert_close(found, means_of_curvature(model, points, smoothing),
                               rtol=1e-9, atol=1e-12, equal_nan=True)  # fmt: skip


def means_of_curvature(model, points, smoothing):
    answers = model(points).argmax(1)
    found = torch.full_like(model(points), torch.nan)
    for j in range(found.shape[1]):
        rows = answers != j
        pairs = torch.stack([answers, torch.full_like(answers, j)], 1)[rows]
        found[rows, j] = curvature(
            LogitDifference(model), points[rows], labels=pairs, level=None, smoothing=smoothing
        ).mean
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_surrogate_s_scales_with_the_units_of_the_points(settled, noise, dtype):
    model = settled(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)), dtype=dtype)
    points, smoothing = noise(4, 6, dtype=dtype), SoftplusSurrogate(20.0)
    found = class_curvatures(model, points, smoothing=smoothing)
    pixels = class_curvatures(lambda x: model(x / 255.0), 255.0 * points, smoothing=smoothing)
    tol = {torch.float32: 1e-3, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(255.0 * pixels, found, rtol=tol, atol=tol, equal_nan=True)


def test_rows_do_not_depend_on_one_another_and_nothing_is_touched(settled, noise, left_as_found):
    model = settled(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))).train()
    points = noise(4, 6, dtype=torch.float32)
    with left_as_found(model, points):
        whole = class_curvatures(model, points, smoothing=CentralDifference(0.2))
        alone = class_curvatures(model, points[2:3], smoothing=CentralDifference(0.2), batch_size=1)
    torch.testing.assert_close(whole[2:3], alone, equal_nan=True, rtol=1e-3, atol=1e-4)
    assert class_curvatures(model, points[:0], smoothing=CentralDifference(0.2)).shape == (0, 3)


def test_many_points_at_once_are_each_as_alone_with_the_noise_of_their_row(settled, noise):
    model = settled(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)))
    points, smoothing = noise(7, 3, dtype=torch.float32), GaussianSmoothing(0.3, 50)

    def measure(part):
        generator = torch.Generator().manual_seed(0)
        return class_curvatures(model, part, smoothing=smoothing, generator=generator)

    whole = measure(points)
    torch.testing.assert_close(whole[:1], measure(points[:1]), equal_nan=True)
    torch.testing.assert_close(whole, measure(points), rtol=0.0, atol=0.0, equal_nan=True)


def test_held_numbers_are_bounded_and_change_nothing(settled, noise, monkeypatch):
    model = settled(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)),
                    dtype=torch.float64)  # fmt: skip
    points, told = noise(5, 6), []
    for smoothing in (CentralDifference(0.2), SoftplusSurrogate(2.0), GaussianSmoothing(0.3, 10)):
        whole = class_curvatures(model, points, smoothing=smoothing,
                                 generator=torch.Generator().manual_seed(0))  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(_class_curvatures, "_ELEMENTS", 20)
            small = class_curvatures(
                model, points, smoothing=smoothing, generator=torch.Generator().manual_seed(0),
                progress=lambda done, total: told.append((done, total)),
            )  # fmt: skip
        torch.testing.assert_close(whole, small, equal_nan=True, rtol=1e-9, atol=1e-9)
    assert told[:5] == [(n, 5) for n in range(1, 6)]


@pytest.mark.messages
@pytest.mark.parametrize("smoothing", [0.1, ForwardDifference(0.1), None, SoftplusSurrogate])
def test_other_smoothings_are_refused(smoothing):
    with pytest.raises(ParameterError, match="class_curvatures: `smoothing` must be one of"):
        class_curvatures(nn.Linear(2, 2), torch.ones(1, 2), smoothing=smoothing)


@pytest.mark.messages
def test_a_single_output_has_one_boundary():
    smoothing = CentralDifference(0.1)
    # Class 1 is outside of a sphere of radius 2, so at its inside points the mean curvature is 1/r.
    for field in (
        lambda x: x.square().sum(1) - 4.0,
        lambda x: x.square().sum(1, keepdim=True) - 4.0,
    ):
        points = torch.tensor([[1.0, 0.5, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
        found = class_curvatures(field, points, smoothing=smoothing)
        radius = points.norm(dim=1)
        # F = f_i - f_j grows inwards for class 0, and outwards for class 1.
        assert found[0, 1] == pytest.approx(-1.0 / float(radius[0]), rel=1e-9)
        assert found[1, 0] == pytest.approx(1.0 / float(radius[1]), rel=1e-9)
        assert found.isnan().tolist() == [[True, False], [False, True]]


def test_points_of_one_number_are_refused():
    smoothing = CentralDifference(0.1)
    with pytest.raises(ShapeError, match="`points` must have at least two numbers each, got 1"):
        class_curvatures(nn.Linear(1, 3), torch.ones(4, 1), smoothing=smoothing)


@pytest.mark.messages
def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(FieldError, match="must return finite logits"):
        class_curvatures(lambda x: x / 0.0, torch.ones(1, 2), smoothing=CentralDifference(0.1))
