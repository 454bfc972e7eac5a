import math
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from levelset import LogitDifference, Margin
from levelset.boundary import (
    CentralDifference,
    Exact,
    ForwardDifference,
    GaussianSmoothing,
    Lanczos,
    SoftplusSurrogate,
    curvature,
)
from levelset.errors import DataError, FieldError, LevelSetWarning, ParameterError, ShapeError
from levelset.shapes import Ellipsoid, Plane, Sphere, Torus


class Quadric(nn.Module):
    """x^T A x / 2 + b^T x, with the Hessian A."""

    def __init__(self, matrix, slope):
        super().__init__()
        self.matrix, self.slope = matrix, slope

    def forward(self, points):
        flat = points.flatten(1)
        return ((flat @ self.matrix) * flat).sum(1) / 2 + flat @ self.slope


def on_sphere(noise, n, d, radius, seed=0):
    points = noise(n, d, seed=seed)
    return radius * points / points.norm(dim=1, keepdim=True)


def smooth(settled, d=12, dtype=torch.float64):
    return settled(nn.Sequential(nn.Linear(d, 30), nn.Tanh(), nn.Linear(30, 1)), dtype=dtype)


def rectified(settled, d=12, dtype=torch.float64):
    return settled(nn.Sequential(nn.Linear(d, 30), nn.ReLU(), nn.Linear(30, 1)), dtype=dtype)


@pytest.mark.parametrize("d", [2, 3, 10, 784])
def test_every_curvature_of_a_sphere_is_one_over_its_radius(noise, d):
    found = curvature(Sphere(radius=2.5), on_sphere(noise, 3, d, 2.5))
    assert found.principal.shape == (3, d - 1)
    torch.testing.assert_close(found.principal, torch.full_like(found.principal, 0.4),
                               rtol=1e-9, atol=0)  # fmt: skip
    torch.testing.assert_close(found.mean, torch.full((3,), 0.4, dtype=torch.float64),
                               rtol=1e-9, atol=0)  # fmt: skip
    assert (found.mean_error == 0).all()
    assert torch.allclose(found.gradient_norm, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("ends", ["top", "bottom", "both", "extreme"])
def test_lanczos_finds_equal_curvatures_with_their_multiplicity(noise, ends):
    found = curvature(
        Sphere(radius=0.5), on_sphere(noise, 4, 50, 0.5), count=5, ends=ends, method=Lanczos(12, 0)
    )
    assert found.principal.shape == (4, 10 if ends == "both" else 5)
    torch.testing.assert_close(found.principal, torch.full_like(found.principal, 2.0),
                               rtol=1e-9, atol=0)  # fmt: skip
    assert found.mean.isnan().all()


def test_an_ellipsoid_has_the_curvatures_of_its_closed_forms(noise):
    axes = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    points = Ellipsoid(tuple(axes.tolist())).project(noise(20, 3))
    found = curvature(Ellipsoid(tuple(axes.tolist())), points)
    support = (points / axes**2).norm(dim=1)
    gauss = 1.0 / (axes.prod() ** 2 * support**4)
    mean = (axes.square().sum() - points.square().sum(1)) / (2 * axes.prod() ** 2 * support**3)
    torch.testing.assert_close(found.principal.prod(1), gauss, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.mean, mean, rtol=1e-9, atol=0)


def test_a_torus_has_the_curvatures_of_its_closed_forms(noise):
    major, minor = 2.0, 0.6
    angle, around = noise(15, seed=1), noise(15, seed=2)
    ring = major + minor * angle.cos()
    points = torch.stack([ring * around.cos(), ring * around.sin(), minor * angle.sin()], 1)
    found = curvature(Torus(major, minor), points)
    torch.testing.assert_close(found.principal[:, 0] * minor, torch.ones(15, dtype=torch.float64),
                               rtol=1e-9, atol=0)  # fmt: skip
    torch.testing.assert_close(found.principal[:, 1], angle.cos() / ring, rtol=1e-9, atol=1e-12)


def test_directions_of_a_torus_run_around_the_tube_and_around_the_axis():
    found = curvature(Torus(2.0, 0.5), torch.tensor([[2.5, 0.0, 0.0]], dtype=torch.float64))
    expected = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found.directions[0].abs(), expected)


def test_goldmans_formula_as_printed_has_the_other_sign_and_half_the_sum(noise):
    matrix, slope = noise(5, 5, seed=1), noise(5, seed=2)
    matrix = matrix + matrix.T
    points = noise(4, 5, seed=3)
    found = curvature(Quadric(matrix, slope), points, level=None)
    for point, printed in zip(points, found.goldman, strict=True):
        g = matrix @ point + slope
        formula = (g @ matrix @ g - matrix.trace() * g @ g) / (2 * g.norm() ** 3)
        torch.testing.assert_close(printed, formula, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.goldman, -found.principal.sum(1) / 2, rtol=1e-9, atol=1e-12)


def test_the_principal_curvatures_are_those_of_the_definition(noise):
    matrix, slope = noise(7, 7, seed=1), noise(7, seed=2)
    matrix = matrix + matrix.T
    points = noise(3, 7, seed=3)
    found = curvature(Quadric(matrix, slope), points, level=None)
    for point, principal, directions in zip(points, found.principal, found.directions, strict=True):
        g = matrix @ point + slope
        p = torch.eye(7, dtype=g.dtype) - torch.outer(g, g) / (g @ g)
        whole = p @ matrix @ p / g.norm()
        torch.testing.assert_close(whole @ directions.T, directions.T * principal)
        torch.testing.assert_close(directions @ directions.T, torch.eye(6, dtype=g.dtype))
        torch.testing.assert_close(directions @ g, torch.zeros(6, dtype=g.dtype))
        assert (principal.diff() <= 0).all()


def test_few_curvatures_are_those_at_the_ends_of_all(settled, noise):
    field, points = smooth(settled), noise(5, 12)
    whole = curvature(field, points, level=None)
    for method in (Exact(), Lanczos(11)):
        top = curvature(field, points, level=None, count=3, method=method)
        bottom = curvature(field, points, level=None, count=3, ends="bottom", method=method)
        both = curvature(field, points, level=None, count=3, ends="both", method=method)
        extreme = curvature(field, points, level=None, count=3, ends="extreme", method=method)
        torch.testing.assert_close(top.principal, whole.principal[:, :3])
        torch.testing.assert_close(bottom.principal, whole.principal[:, -3:])
        torch.testing.assert_close(both.principal, torch.cat([top.principal, bottom.principal], 1))
        sizes = whole.principal.abs().sort(1, descending=True).values[:, :3]
        torch.testing.assert_close(extreme.principal.abs().sort(1, descending=True).values, sizes)
        torch.testing.assert_close(top.mean, whole.mean)


def test_lanczos_bounds_its_error_and_the_mean_has_an_honest_standard_error(settled, noise):
    field, points = smooth(settled, d=80), noise(60, 80)
    whole = curvature(field, points, level=None)
    method = Lanczos(15, 30)
    generator = torch.Generator().manual_seed(0)
    few = curvature(field, points, level=None, count=3, method=method, generator=generator)
    nearest = (few.principal.unsqueeze(2) - whole.principal.unsqueeze(1)).abs().amin(2)
    assert (nearest <= few.error + 1e-12).all()
    assert (few.mean_error > 0).all()
    off = (few.mean - whole.mean) / few.mean_error
    assert 0.7 < float(off.square().mean().sqrt()) < 1.4
    assert float(off.abs().max()) < 5.0


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5.0), st.integers(0, 10_000))
def test_curvature_scales_as_one_over_length_and_turns_with_the_surface(scale, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix, slope = matrix + matrix.T, torch.ones(4, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    points = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    field = Quadric(matrix, slope)
    before = curvature(field, points, level=None).principal
    turned = curvature(lambda x: field(x @ turn), points @ turn.T, level=None).principal
    larger = curvature(lambda x: field(x / scale), points * scale, level=None).principal
    negative = curvature(lambda x: -3.0 * field(x), points, level=None).principal
    torch.testing.assert_close(turned, before, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(larger, before / scale, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(negative, -before.flip(1), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "smoothing", [CentralDifference(1e-3), ForwardDifference(1e-6)], ids=["central", "forward"]
)
def test_differences_of_a_smooth_field_tend_to_the_exact_curvatures(settled, noise, smoothing):
    field, points = smooth(settled), noise(3, 12)
    exact = curvature(field, points, level=None)
    found = curvature(field, points, level=None, smoothing=smoothing)
    torch.testing.assert_close(found.principal, exact.principal, rtol=1e-4, atol=1e-5)
    assert found.smoothing == smoothing


def test_the_forward_form_follows_procedure_3_1_2(settled, noise):
    field, point, h = rectified(settled), noise(1, 12), 0.1

    def gradient(where):
        leaf = where.clone().requires_grad_()
        return torch.autograd.grad(field(leaf).sum(), leaf)[0][0]

    here = gradient(point)
    unit = here / here.norm()
    steps = torch.eye(12, dtype=torch.float64) - torch.outer(unit, unit)
    g = torch.stack(
        [torch.stack([v @ (gradient(point + h * w) - here) / h for w in steps]) for v in steps]
    )
    values = torch.linalg.eigvalsh((g + g.T) / 2 / here.norm()).flip(0)
    found = curvature(field, point, level=None, smoothing=ForwardDifference(h)).principal[0]
    kept = values[values.abs() > 1e-12]
    torch.testing.assert_close(found[found.abs() > 1e-12], kept, rtol=1e-6, atol=1e-9)


def test_the_surrogate_is_the_network_with_softplus_for_relu(settled, noise):
    field, points = rectified(settled), noise(4, 12)
    twin = nn.Sequential(field[0], nn.Softplus(beta=3.0, threshold=100), field[2])
    found = curvature(field, points, level=None, smoothing=SoftplusSurrogate(3.0))
    exact = curvature(twin, points, level=None)
    torch.testing.assert_close(found.principal, exact.principal)
    torch.testing.assert_close(found.gradient_norm, exact.gradient_norm)


def test_gaussian_smoothing_of_a_quadric_is_the_quadric(noise):
    matrix, slope = noise(6, 6, seed=1), 5.0 * noise(6, seed=2)
    matrix = matrix + matrix.T
    points = noise(3, 6, seed=3)
    field = Quadric(matrix, slope)
    exact = curvature(field, points, level=None)
    generator = torch.Generator().manual_seed(0)
    smoothing = GaussianSmoothing(0.5, 4000)
    found = curvature(field, points, level=None, smoothing=smoothing, generator=generator)
    off = (found.mean - exact.mean) / found.mean_error
    assert (found.mean_error > 0).all()
    assert float(off.abs().max()) < 4.0
    torch.testing.assert_close(found.principal, exact.principal, rtol=0.1, atol=0.03)


def test_a_relu_network_without_smoothing_is_an_error_that_names_the_choices(settled, noise):
    with pytest.raises(
        FieldError, match=r"zero along the level set at 3 of these 3 points.*CentralDifference"
    ):
        curvature(rectified(settled), noise(3, 12), level=None)
    with pytest.raises(FieldError, match=r"SoftplusSurrogate\(beta\)"):
        curvature(rectified(settled), noise(3, 12), level=None, count=2, method=Lanczos(5))
    with pytest.raises(FieldError, match="as of a field that is linear"):
        curvature(Plane((1.0, 2.0), 0.0), torch.zeros(1, 2))


def test_a_vanishing_gradient_is_an_error_that_names_the_points():
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(
        FieldError, match=r"vanishes or is not finite at 1 of these 2 points \(first: 1"
    ):
        curvature(lambda x: x.square().sum(1) - 1.0, points, level=None)


def test_points_off_the_level_are_told_with_their_residual(noise):
    points = on_sphere(noise, 3, 4, 1.2)
    with pytest.warns(LevelSetWarning, match=r"3 of 3 points are off the level 0.*residual 0\.2"):
        found = curvature(Sphere(radius=1.0), points)
    assert torch.allclose(found.residual, torch.full((3,), 0.2, dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curvature(Sphere(radius=1.0), points, level=None)
        curvature(Sphere(radius=1.0), points, level=0.2)
        curvature(Sphere(radius=1.0), points, tol=0.3)


def test_what_is_too_large_is_refused_with_the_memory_and_the_way_out():
    points = torch.ones(1, 3, 224, 224)
    with pytest.raises(ParameterError, match=r"d = 150,528 would take 634.4 GB.*`count=`"):
        curvature(Sphere(radius=1.0), points.flatten(1), level=None)
    words = r"CentralDifference with d = 150,528.*take `SoftplusSurrogate.*`method=Exact\(memory="
    with pytest.raises(ParameterError, match=words):
        curvature(
            Sphere(), points.flatten(1), level=None, count=5, smoothing=CentralDifference(0.1)
        )
    with pytest.raises(ParameterError, match="more than the 1e-06 GB allowed"):
        curvature(Sphere(), torch.ones(1, 30), level=None, method=Exact(memory=1e3))


class Rounded(nn.Module):
    def forward(self, points):
        return points.detach().round().sum(1)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2.0 * g.unsqueeze(1) * ctx.saved_tensors[0]


def test_models_that_cannot_be_differentiated_are_refused():
    points = torch.rand(2, 3)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        curvature(Rounded(), points, level=None)
    with pytest.raises(FieldError, match=r"twice differentiable.*CentralDifference"):
        curvature(lambda x: torch.cdist(x, torch.ones(1, 3), p=3.0).sum(1), points, level=None)
    with pytest.raises(FieldError, match="identically zero"):  # torch's answer to half a derivative
        curvature(lambda x: Once.apply(x).square(), points, level=None)
    exact = curvature(
        Once.apply, points.double(), level=None, smoothing=CentralDifference(0.1)
    ).principal
    torch.testing.assert_close(
        exact, (1.0 / points.double().norm(dim=1, keepdim=True)).expand(-1, 2)
    )


@pytest.mark.messages
def test_bad_options_are_refused(noise):
    points, field = noise(2, 3), Sphere()
    for options, words in (
        ({"count": 3}, "`count` must be an integer in 1 to 2"),
        ({"count": 1.5}, "`count` must be an integer, got 1.5"),
        ({"ends": "left"}, "`ends` must be one of top, bottom, both, extreme"),
        ({"tol": 0.0}, "`tol` must be positive"),
        ({"level": math.nan}, "`level` must be finite"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"method": Lanczos()}, "`count` must be given with Lanczos"),
        ({"method": Lanczos(1), "count": 2}, "`products` must be at least `count`"),
        (
            {"method": "lanczos", "count": 1},
            "`method` must be one of Exact, Lanczos, or None, got 'lanczos'",
        ),
        (
            {"method": Lanczos, "count": 1},
            "`method` must be one of Exact, Lanczos, or None, got the class",
        ),
        ({"smoothing": 0.1}, r"`smoothing` must be one of Central.*, or None, got 0\.1"),
        ({"smoothing": "softplus"}, "`smoothing` must be one of .* got 'softplus'"),
        ({"smoothing": CentralDifference}, "got the class CentralDifference"),
    ):
        with pytest.raises(ParameterError, match=words):
            curvature(field, points, **options)
    with pytest.raises(ShapeError, match="`labels` must be a tensor, array or list of one label"):
        curvature(field, points, labels="ab")
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ShapeError, match=r"must be float32 or float64, got torch\..*float16"):
            curvature(field, points.to(dtype))
    with pytest.raises(ShapeError, match="at least two numbers each, got 1"):
        curvature(field, noise(2, 1))
    with pytest.raises(DataError, match="`points` must be finite"):
        curvature(field, torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(FieldError, match=r"one value a point, \(2,\), got \(2, 4\)"):
        curvature(nn.Linear(3, 4), points.float())
    with pytest.raises(FieldError, match="must return finite values"):
        curvature(lambda x: x.sum(1) / 0.0, points)
    for make, words in (
        (lambda: CentralDifference(0.0), "`h` must be positive"),
        (lambda: ForwardDifference(-1.0), "`h` must be positive"),
        (lambda: SoftplusSurrogate(0.0), "`beta` must be positive"),
        (lambda: GaussianSmoothing(0.0), "`sigma` must be positive"),
        (lambda: GaussianSmoothing(1.0, 1), "`draws` must be an integer of at least 2"),
        (lambda: GaussianSmoothing(1.0, 2.5), "`draws` must be an integer, got 2.5"),
        (lambda: Lanczos(0), "`products` must be an integer of at least 1"),
        (lambda: Lanczos(2.5), "`products` must be an integer, got 2.5"),
        (lambda: Lanczos(5, 1), "`mean_products` must be an integer of at least 2"),
        (lambda: Exact(0.0), "`memory` must be positive"),
    ):
        with pytest.raises(ParameterError, match=words):
            make()


@pytest.mark.parametrize("method", [Exact(), Lanczos(10, 10)])
def test_the_mean_under_noise_has_an_honest_standard_error(settled, noise, method):
    field = rectified(settled, d=20).float()
    points = noise(1, 20).float().expand(200, 20)  # the same point, 200 streams of noise
    found = curvature(
        field, points, level=None, count=3, method=method, smoothing=GaussianSmoothing(0.3, 50),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    said = float(found.mean_error.square().mean().sqrt())
    assert 0.85 < float(found.mean.std()) / said < 1.15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shifts_lost_in_the_rounding_of_the_points_are_refused(settled, noise, dtype):
    field = smooth(settled, dtype=dtype)
    points = noise(2, 12).to(dtype)
    for smoothing in (CentralDifference(1e-17), ForwardDifference(1e-17), GaussianSmoothing(1e-17)):
        with pytest.raises(
            ParameterError, match=rf"must be at least .* points of {dtype}.*float64"
        ):
            curvature(field, points, level=None, smoothing=smoothing)
    far = 1e13 if dtype == torch.float64 else 1e5
    with pytest.raises(ParameterError, match=r"`h` must be at least .* got 0\.0001, which is lost"):
        curvature(field, points + far, level=None, smoothing=CentralDifference(1e-4))


def test_second_derivatives_that_are_not_finite_are_refused(noise):
    field = lambda x: x.abs().pow(1.5).sum(1) - 1.0  # noqa: E731
    points = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.5]], dtype=torch.float64)
    for options in ({}, {"count": 1, "method": Lanczos(2)}):
        with pytest.raises(FieldError, match=r"must be finite, .* 1 of these 2 points \(first: 1"):
            curvature(field, points, level=None, **options)
    assert len(curvature(field, points[:1], level=None)) == 1


class Writing(nn.Module):
    """Writes into its input, as a first layer of nn.ReLU(inplace=True) does."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, points):
        points -= 0.5
        return self.model(points)


def test_models_may_write_into_their_input(settled, noise):
    points = noise(3, 12)
    for field, smoothing in (
        (smooth(settled), None), (rectified(settled), SoftplusSurrogate(2.0)),
        (rectified(settled), CentralDifference(0.1)),
    ):  # fmt: skip
        kept = points.clone()
        found = curvature(Writing(field), points, level=None, smoothing=smoothing)
        plain = curvature(field, points - 0.5, level=None, smoothing=smoothing)
        torch.testing.assert_close(found.principal, plain.principal)
        assert torch.equal(points, kept)


def test_a_surrogate_needs_a_relu(settled, noise):
    with pytest.raises(FieldError, match="must find a ReLU to replace"):
        curvature(smooth(settled), noise(1, 12), level=None, smoothing=SoftplusSurrogate(1.0))


def test_the_batch_size_changes_nothing(settled, noise):
    field, points = rectified(settled, d=9), noise(7, 9)
    for smoothing in (CentralDifference(0.2), SoftplusSurrogate(4.0), GaussianSmoothing(0.3, 50)):
        for method in (Exact(), Lanczos(4, 4)):
            results = [
                curvature(
                    field, points, level=None, count=2, smoothing=smoothing, method=method,
                    batch_size=size, generator=torch.Generator().manual_seed(3),
                )
                for size in (None, 1, 3)
            ]  # fmt: skip
            for other in results[1:]:
                torch.testing.assert_close(other.principal, results[0].principal)
                torch.testing.assert_close(other.mean, results[0].mean)


def test_labels_travel_with_the_points(settled, noise):
    model = settled(
        nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)), dtype=torch.float64
    )
    points, pairs = noise(4, 6), torch.tensor([[0, 1], [1, 2], [2, 0], [1, 0]])
    together = curvature(LogitDifference(model), points, labels=pairs, level=None)
    for row, (i, j) in enumerate(pairs.tolist()):
        alone = curvature(LogitDifference(model, i, j), points[row : row + 1], level=None)
        torch.testing.assert_close(together.principal[row], alone.principal[0])
    margin = curvature(Margin(model), points, labels=torch.tensor([0, 1, 2, 0]), level=None)
    assert len(margin) == 4


def test_the_model_and_the_world_are_left_as_found(settled, noise, left_as_found):
    field = rectified(settled).train()
    points = noise(3, 12)
    with left_as_found(field, points):
        curvature(field, points, level=None, smoothing=SoftplusSurrogate(2.0))
        curvature(field, points, level=None, smoothing=CentralDifference(0.1))
        curvature(
            field, points, level=None, smoothing=GaussianSmoothing(0.1, 5), count=2,
            method=Lanczos(4), generator=torch.Generator(),
        )  # fmt: skip


def test_images_float32_no_points_slices_and_pickles(settled):
    model = settled(nn.Sequential(nn.Flatten(), nn.Linear(8, 20), nn.Tanh(), nn.Linear(20, 1)))
    points = torch.rand(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    seen = []
    found = curvature(model, points, level=None, progress=lambda a, b: seen.append((a, b)))
    assert seen[-1] == (3, 3)
    assert found.directions.shape == (3, 7, 2, 2, 2)
    assert found.principal.dtype == torch.float32
    short = curvature(model, points, level=None, directions=False)
    assert short.directions.shape == (3, 0, 2, 2, 2)
    torch.testing.assert_close(short.principal, found.principal)
    torch.testing.assert_close(short.goldman, -3.5 * found.mean)
    torch.testing.assert_close(found[1:].principal, found.principal[1:])
    again = pickle.loads(pickle.dumps(found))
    assert torch.equal(again.principal, found.principal)
    assert repr(again).startswith("Curvature(principal=(3, ")
    none = curvature(model, points[:0], count=2)
    assert none.principal.shape == (0, 2)
    assert none.summary() == {"points": 0}


@pytest.mark.parametrize(
    ("smoothing", "words"),
    [
        (CentralDifference(0.125), "central differences with step 0.125"),
        (ForwardDifference(1e-3), "forward differences with step 0.001"),
        (SoftplusSurrogate(5.0), "a softplus of sharpness 5 for each ReLU"),
        (GaussianSmoothing(0.1, 100), "Gaussian noise of standard deviation 0.1"),
    ],
)
def test_a_smoothing_says_what_it_is(smoothing, words):
    assert smoothing.words == words
