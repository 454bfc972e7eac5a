"""`project`: where points land, when they stop, and what may not change that."""

import itertools
import math
import pickle
import warnings

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from levelset import GradientDescent, Margin, Newton, Projection, project
from levelset.datasets import read_images
from levelset.errors import (
    FieldError,
    NotConvergedError,
    ParameterError,
    PrecisionWarning,
    ShapeError,
)
from levelset.networks import convnet_4a
from levelset.shapes import Circle, Ellipsoid, Plane, Sphere, Torus


def affine(matrix: Tensor, offset: Tensor):
    return lambda x: x.flatten(1) @ matrix.T + offset


# Lemma 1


@pytest.mark.parametrize("equations", [1, 2, 3])
@pytest.mark.parametrize("width", [4, 7, 50])
def test_one_step_on_an_affine_field_is_the_orthogonal_projection(noise, equations, width):
    matrix, offset = noise(equations, width, seed=1), noise(equations, seed=2)
    start = noise(40, width, seed=3)
    field = affine(matrix, offset)
    found = project(field, start, method=Newton(max_iter=1), tol=1e-11)
    values = field(start)
    shortest = torch.linalg.lstsq(matrix.expand(40, -1, -1), values.unsqueeze(2), driver="gelsd")
    assert found.converged.all()
    assert (found.iterations == 1).all()
    assert (found.points - (start - shortest.solution.squeeze(2))).abs().max() < 1e-12
    # Independent of any solver: the displacement lies in the row space, the end point on the set.
    q, _ = torch.linalg.qr(matrix.T)
    moved = found.points - start
    assert (moved - moved @ q @ q.T).abs().max() < 1e-12
    assert field(found.points).abs().max() < 1e-12


def test_one_equation_as_a_vector_or_a_column_is_the_same(noise, same_bits):
    normal, start = noise(1, 5, seed=1), noise(6, 5)
    column = project(lambda x: x @ normal.T - 0.3, start)
    vector = project(lambda x: (x @ normal.T - 0.3).squeeze(1), start)
    assert same_bits(column.points, vector.points)
    assert same_bits(column.residual, vector.residual)


def test_nearly_parallel_equations_are_still_solved(noise):
    first, other = noise(1, 6, seed=1), noise(1, 6, seed=2)
    matrix = torch.cat([first, first + 1e-6 * other])
    field = affine(matrix, torch.tensor([0.2, -0.1], dtype=torch.float64))
    found = project(field, noise(10, 6, seed=3), tol=1e-8, method=Newton(max_iter=3))
    assert found.converged.all()
    assert field(found.points).abs().max() <= 1e-8


def test_dependent_equations_that_agree_are_solved_by_the_shortest_step(noise):
    row, start = noise(1, 5, seed=1), noise(8, 5)
    matrix = torch.cat([row, 2.0 * row, -row])
    offset = torch.tensor([0.5, 1.0, -0.5], dtype=torch.float64)
    found = project(affine(matrix, offset), start, tol=1e-11, method=Newton(max_iter=1))
    one = project(affine(row, offset[:1]), start, tol=1e-11, method=Newton(max_iter=1))
    assert found.converged.all()
    assert (found.points - one.points).abs().max() < 1e-12


def test_dependent_equations_that_contradict_end_at_the_least_squares_residual(noise):
    row, start = noise(1, 5, seed=1), noise(8, 5)
    matrix, offset = torch.cat([row, row]), torch.tensor([1.0, -1.0], dtype=torch.float64)
    found = project(affine(matrix, offset), start, tol=1e-6)
    assert not found.converged.any()
    assert torch.allclose(found.residual, torch.ones(8, dtype=torch.float64))
    assert (found.points @ row.T).abs().max() < 1e-12


@pytest.mark.filterwarnings("ignore::levelset.errors.PrecisionWarning")
@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_gradients_whose_square_under_or_overflows_still_point_the_way(noise, scale):
    start = noise(5, 4)
    field = lambda x: scale * (x.sum(1) - 1.0)  # noqa: E731
    found = project(field, start, tol=1e-9 * scale)
    assert found.converged.all()
    assert (found.points.sum(1) - 1.0).abs().max() < 1e-9


# Shapes with exact answers


SHAPES = [
    (Plane((1.0, -2.0, 0.5), 0.3), 1),
    (Sphere(radius=1.5, center=(0.1, -0.2, 0.3)), 1),
    (Torus(1.0, 0.3), 1),
    (Circle(0.8), 2),
]


@pytest.mark.parametrize(("shape", "equations"), SHAPES, ids=lambda p: type(p).__name__)
def test_signed_distances_are_projected_to_the_nearest_point_in_one_step(noise, shape, equations):
    start = noise(200, 3)
    found = project(shape, start, tol=1e-12)
    assert found.converged.all()
    assert found.iterations.max() <= 1
    assert (found.points - shape.project(start)).abs().max() < 1e-12
    assert found.residual.shape == (200,)
    assert (found.residual <= 1e-12).all()
    assert shape(start[:1]).reshape(1, -1).shape[1] == equations


def test_an_ellipsoid_is_reached_though_not_at_its_nearest_point(noise):
    shape, start = Ellipsoid((1.0, 2.0, 0.5)), noise(100, 3)
    found = project(shape, start, tol=1e-11)
    assert found.converged.all()
    assert shape(found.points).abs().max() <= 1e-11
    travelled = (found.points - start).norm(dim=1)
    assert (travelled >= shape.distance(start) - 1e-12).all()
    assert (travelled > shape.distance(start) * 1.01).any()


@pytest.mark.parametrize("level", [-0.5, 0.25, 3.0])
def test_other_levels_of_a_sphere_are_other_spheres(noise, level):
    start = noise(50, 3)
    found = project(Sphere(1.0), start, level=level, tol=1e-12)
    expected = Sphere(1.0 + level).project(start)
    assert found.converged.all()
    assert (found.points - expected).abs().max() < 1e-12


def test_labels_travel_with_their_points_and_reach_the_field(noise):
    start, radius = noise(30, 3), 0.5 + torch.arange(30, dtype=torch.float64)
    field = lambda x, r: x.norm(dim=1) - r  # noqa: E731
    for size in (None, 1, 7):
        found = project(field, start, labels=radius, tol=1e-11, batch_size=size)
        assert (found.points.norm(dim=1) - radius).abs().max() < 1e-11
        assert found.labels is not None
        assert torch.equal(found.labels, radius)
    some = found[radius > 20.0]
    assert some.labels is not None
    assert torch.equal(some.labels, radius[radius > 20.0])


# Stopping


def test_points_that_have_arrived_are_not_evaluated_again():
    # On x^3 = 0 a step takes x to 2x/3: the number of steps is known for every start.
    start = torch.tensor([[0.0], [1.0], [1e-4], [10.0], [0.5]], dtype=torch.float64)
    seen: list[int] = []

    def field(x: Tensor, row: Tensor) -> Tensor:
        seen.extend(row.tolist())
        return x[:, 0] ** 3

    found = project(field, start, labels=torch.arange(5), tol=1e-6, method=Newton(max_iter=100))
    steps = [max(0, math.ceil(math.log(1e-2 / max(x, 1e-9)) / math.log(2 / 3))) for (x,) in start]
    assert found.iterations.tolist() == steps
    assert found.converged.all()
    for row, taken in enumerate(steps):
        # Once a step and once on arrival; a derivative put off costs the step a second pass.
        assert taken + 1 <= seen.count(row) <= 2 * taken + 1


def test_a_start_on_the_level_set_stays_to_the_bit(noise, same_bits):
    shape = Sphere(1.0)
    start = torch.tensor([[1.0, -0.0, 0.0], [0.0, 0.0, -1.0], [0.6, 0.8, 0.0]])
    found = project(shape, start)
    assert (found.iterations == 0).all()
    assert same_bits(found.points, start)


def test_zero_steps_only_judge(same_bits, noise):
    start = noise(5, 3)
    found = project(Sphere(1.0), start, method=Newton(max_iter=0))
    assert same_bits(found.points, start)
    assert torch.equal(found.residual, Sphere(1.0).distance(start))
    assert (found.iterations == 0).all()


def test_the_best_iterate_is_kept_when_steps_lead_away():
    # Undamped Newton on atan diverges from beyond 1.3917.
    start = torch.tensor([[3.0], [0.5]], dtype=torch.float64)
    found = project(lambda x: torch.atan(x[:, 0]), start, method=Newton(max_iter=5))
    assert found.converged.tolist() == [False, True]
    assert found.points[0].item() == 3.0
    assert found.residual[0].item() == pytest.approx(math.atan(3.0), rel=1e-15)


def test_short_steps_cure_the_divergence():
    start = torch.tensor([[3.0], [-40.0]], dtype=torch.float64)
    field = lambda x: torch.atan(x[:, 0])  # noqa: E731
    for method in (Newton(max_iter=60, max_step=1.0), Newton(max_iter=1200, damping=0.02)):
        if method.damping < 1.0:
            start = start.clamp(min=-2.0, max=2.0)
        assert project(field, start, method=method, tol=1e-9).converged.all()


@pytest.mark.parametrize("limit", [0.01, 0.5])
def test_no_step_is_longer_than_max_step(noise, limit):
    start = 5.0 * noise(20, 3)
    places = [start]
    for steps in range(1, 6):
        places.append(
            project(Sphere(1.0), start, method=Newton(max_iter=steps, max_step=limit)).points
        )
    for before, after in itertools.pairwise(places):
        assert (after - before).norm(dim=1).max() <= limit * (1 + 1e-12)


def test_damping_shortens_every_step_by_its_factor(noise):
    start = 3.0 * noise(20, 4)
    plane = Plane((1.0, 2.0, -1.0, 0.5), 0.7)
    found = project(plane, start, method=Newton(max_iter=3, damping=0.25), tol=1e-12)
    assert torch.allclose(found.residual, 0.75**3 * plane.distance(start), rtol=1e-12)


def test_nan_never_replaces_a_finite_best():
    # The first step leaves the domain of the logarithm.
    start = torch.tensor([[5.0], [1.5]], dtype=torch.float64)
    found = project(lambda x: torch.log(x[:, 0]), start, tol=1e-9)
    assert found.points.isfinite().all()
    assert found.converged.tolist() == [False, True]
    assert found.points[0].item() == 5.0
    assert found.residual[0].item() == pytest.approx(math.log(5.0), rel=1e-15)


@pytest.mark.parametrize("equations", [1, 2])
def test_a_row_that_is_nan_from_the_start_does_not_disturb_the_others(noise, equations):
    start = noise(6, 3)
    start[2] = math.nan
    shape = Sphere(1.0) if equations == 1 else Circle(1.0)
    found = project(shape, start, tol=1e-10)
    others = torch.arange(6) != 2
    assert found.converged.tolist() == others.tolist()
    assert (found.points - shape.project(start))[others].abs().max() < 1e-12
    assert found.residual[2] == math.inf


@pytest.mark.parametrize("equations", [1, 2])
def test_an_infinite_gradient_stops_its_own_point_only(equations):
    start = torch.tensor([[0.0, 1.0], [2.25, 1.0]], dtype=torch.float64)

    def field(x: Tensor) -> Tensor:
        root = x[:, 0].sqrt() - 1.0
        return root if equations == 1 else torch.stack([root, x[:, 1] - 2.0], 1)

    found = project(field, start, tol=1e-10)
    assert found.converged.tolist() == [False, True]
    assert found.points[0].tolist() == [0.0, 1.0]
    assert found.points[1, 0].item() == pytest.approx(1.0, abs=1e-9)


def test_points_without_a_gradient_stay_where_they_are():
    start = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    found = project(Sphere(1.0), start)
    assert found.converged.tolist() == [False, True]
    assert found.points[0].tolist() == [0.0, 0.0, 0.0]
    assert found.residual.tolist() == [1.0, 0.0]
    assert found.iterations.tolist() == [0, 1]


# Kinds of input


def test_no_points_give_no_points():
    found = project(Sphere(1.0), torch.empty(0, 3), labels=None)
    assert len(found) == 0
    assert found.points.shape == (0, 3)
    assert found.converged.dtype == torch.bool
    assert found.iterations.dtype == torch.int64
    assert found.summary() == {
        "points": 0, "converged": 0, "residual_max": 0.0, "iterations_max": 0,
    }  # fmt: skip
    assert found.raise_if_unconverged() is found


@pytest.mark.parametrize("size", [1, 3, 7, None])
def test_the_batch_size_changes_nothing_but_rounding(settled, noise, size):
    model = settled(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)))
    start = noise(25, 6, dtype=torch.float32)
    whole = project(model, start, method=Newton(max_step=0.5))
    part = project(model, start, method=Newton(max_step=0.5), batch_size=size)
    both = whole.converged & part.converged
    assert both.float().mean() > 0.9
    assert torch.equal(whole.converged, part.converged)
    assert (whole.points - part.points)[both].abs().max() < 1e-5


def test_images_of_any_strides_are_treated_alike(settled, noise):
    model = settled(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(64, 1))
    ).double()
    start = noise(7, 3, 6, 6)
    plain = project(model, start, tol=1e-10)
    assert plain.converged.all()
    assert plain.points.shape == start.shape
    assert plain.points.is_contiguous()
    layouts = (
        start.to(memory_format=torch.channels_last),
        start.transpose(2, 3).contiguous().transpose(2, 3),
        torch.stack([start, start], dim=1)[:, 1],
    )
    for laid_out in layouts:
        other = project(model, laid_out, tol=1e-10)
        assert (other.points - plain.points).abs().max() < 1e-11


def test_progress_is_told_after_each_batch(noise):
    told: list[tuple[int, int]] = []
    project(
        Sphere(1.0),
        noise(10, 3),
        batch_size=4,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_a_start_that_requires_a_gradient_gives_a_result_that_does_not(noise):
    start = noise(4, 3).requires_grad_()
    found = project(Sphere(1.0), start * 2.0)
    assert not found.points.requires_grad
    assert not found.residual.requires_grad
    with torch.no_grad():
        again = project(Sphere(1.0), start * 2.0)
    assert torch.equal(found.points, again.points)


# Gradient descent


def test_gradient_descent_arrives_at_the_same_set_with_many_more_steps(noise):
    shape, start = Ellipsoid((1.0, 2.0, 0.5)), 0.3 * noise(50, 3) + 1.0
    newton = project(shape, start, tol=1e-6)
    descent = project(shape, start, tol=1e-6, method=GradientDescent(max_iter=20_000, step=0.02))
    assert newton.converged.all()
    assert descent.converged.all()
    assert shape(descent.points).abs().max() <= 1e-6
    ratio = descent.iterations.double().median() / newton.iterations.double().median()
    assert ratio > 30


@pytest.mark.parametrize("equations", [1, 2])
def test_a_step_of_gradient_descent_is_the_gradient_of_half_the_square(noise, equations):
    matrix, start = noise(equations, 5, seed=4), noise(9, 5)
    leaf = start.clone().requires_grad_()
    half = 0.5 * ((leaf @ matrix.T - 0.2) ** 2).sum()
    (slope,) = torch.autograd.grad(half, leaf)
    found = project(
        lambda x: x @ matrix.T, start, level=0.2, method=GradientDescent(max_iter=1, step=1e-3)
    )
    assert (found.points - (start - 1e-3 * slope)).abs().max() < 1e-15


# Results


def test_at_takes_points_on_their_own_level(noise, same_bits):
    points, labels = noise(5, 3), torch.arange(5)
    field = lambda x, y: x.norm(dim=1) + y  # noqa: E731
    taken = Projection.at(field, points, labels)
    assert same_bits(taken.points, points)
    assert taken.points.data_ptr() != points.data_ptr()
    assert taken.converged.all()
    assert (taken.residual == 0).all()
    assert (taken.iterations == 0).all()
    assert taken.labels is not None
    assert torch.equal(taken.labels, labels)


def test_at_marks_points_where_the_field_is_not_finite():
    points = torch.tensor([[1.0], [-1.0], [0.0]])
    taken = Projection.at(lambda x: torch.log(x[:, 0]), points)
    assert taken.converged.tolist() == [True, False, False]
    assert taken.residual.tolist() == [0.0, math.inf, math.inf]


def test_results_are_cut_by_masks_slices_and_lists(noise):
    found = project(Sphere(1.0), noise(6, 3), labels=None)
    assert len(found[2:4]) == 2
    assert torch.equal(found[[5, 0]].points, found.points[[5, 0]])
    assert torch.equal(found[found.residual >= 0].points, found.points)


@pytest.mark.messages
def test_results_are_not_indexed_by_one_integer(noise):
    found = project(Sphere(1.0), noise(6, 3))
    with pytest.raises(TypeError, match="a mask, a slice or a list of rows, not one integer"):
        found[0]


def test_results_print_on_one_line_and_pickle(noise, same_bits):
    found = project(Circle(1.0), noise(6, 3, dtype=torch.float32))
    assert repr(found).startswith("Projection(points=(6, 3), converged=6, residual_max=")
    assert "\n" not in repr(found)
    copy = pickle.loads(pickle.dumps(found))
    assert same_bits(copy.points, found.points)
    assert copy.summary() == found.summary()


# Messages


def test_unconverged_points_are_counted_and_named():
    start = torch.tensor([[2.0], [-1.0], [-1.0], [-1.0], [-3.0]])
    found = project(lambda x: torch.relu(x[:, 0]) + 0.5, start, method=Newton(max_iter=3))
    with pytest.raises(
        NotConvergedError,
        match=r"5 of 5 points missed the level set \(first: 0, 1, 2, \.\.\.\); largest residual "
        r"5\.0e-01\. Raise `max_iter`, lower `damping`, or start closer\.",
    ):
        found.raise_if_unconverged()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Newton(max_iter=-1), r"Newton: `max_iter` must be 0 or more, got -1\."),
        (lambda: Newton(damping=0.0), r"Newton: `damping` must lie in \(0, 1\], got 0\.0\."),
        (lambda: Newton(damping=1.5), r"Newton: `damping` must lie in \(0, 1\], got 1\.5\."),
        (lambda: Newton(damping=math.nan), r"Newton: `damping` must lie in \(0, 1\], got nan\."),
        (lambda: Newton(max_step=0.0), r"Newton: `max_step` must be positive, got 0\.0\."),
        (lambda: GradientDescent(max_iter=-2), r"GradientDescent: `max_iter` must be 0 or more"),
        (lambda: GradientDescent(step=-1.0), r"GradientDescent: `step` must be positive, got -1"),
        (lambda: GradientDescent(step=math.inf), r"`step` must be positive, got inf"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0}, r"project: `tol` must be positive, got 0\.0\."),
        ({"tol": math.nan}, r"project: `tol` must be positive, got nan\."),
        ({"level": math.nan}, r"project: `level` must be finite, got nan\."),
        ({"level": -math.inf}, r"project: `level` must be finite, got -inf\."),
        ({"batch_size": 0}, r"project: `batch_size` must be at least 1, or None, got 0\."),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        project(Sphere(1.0), torch.ones(2, 3), **options)


def test_labels_of_another_length_are_refused():
    with pytest.raises(
        ShapeError, match=r"project: `labels` must have one row per point \(2\), got \(3,\)\."
    ):
        project(Sphere(1.0), torch.ones(2, 3), labels=torch.zeros(3))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[1.0]], r"project: `points` must be a torch\.Tensor, got list\."),
        (torch.ones(2, 3).int(), r"must be floating point, got torch\.int32\. Convert with `poin"),
        (torch.ones(3), r"project: `points` must have the shape \(n, \*d\), got \(3,\)\."),
    ],
)
def test_points_that_are_none_are_refused(points, message):
    with pytest.raises(ShapeError, match=message):
        project(Sphere(1.0), points)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (lambda x: x.detach().sum(1), r"must be differentiable in its points, but its values carr"),
        (lambda x: x.sum(), r"`field` must map points \(2, 3\) to \(2,\) or \(2, l\), got \(\)\."),
        (lambda x: x.mean(0), r"must map points \(2, 3\) to \(2,\) or \(2, l\), got \(3,\)"),
        (lambda x: x.view(2, 3, 1), r"to \(2,\) or \(2, l\), got \(2, 3, 1\)"),
        (lambda x: (x > 0).all(1), r"`field` must return floating point, got torch\.bool"),
        (lambda x: x @ torch.ones(4, 1), r"`field` failed on points of shape \(2, 3\) on cpu of"),
    ],
)
def test_callables_that_are_no_fields_are_refused(field, message):
    with pytest.raises(FieldError, match=message):
        project(field, torch.ones(2, 3))


@pytest.mark.messages
def test_a_field_that_returns_no_tensor_is_refused():
    with pytest.raises(FieldError, match=r"project: `field` must return a tensor, got float\."):
        project(lambda x: 1.0, torch.ones(2, 3))


def test_a_model_of_another_dtype_is_run_in_its_own():
    model, points = nn.Linear(3, 1), torch.ones(2, 3, dtype=torch.float64)
    found = project(model, points)
    assert found.points.dtype == found.residual.dtype == torch.float64
    torch.testing.assert_close(
        found.points, project(model.double(), points).points, atol=1e-5, rtol=0
    )


def test_a_model_that_fails_is_named_with_its_dtype_and_device():
    with pytest.raises(
        FieldError,
        match=r"project: `field` with parameters on cpu of torch\.float32 failed on points of "
        r"shape \(2, 3\) on cpu of torch\.float64",
    ):
        project(nn.Linear(4, 1), torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.gpu
def test_points_elsewhere_than_the_model_are_named_with_both():
    with pytest.raises(FieldError, match=r"parameters on cpu of .* on points .* on cuda:0"):
        project(nn.Linear(3, 1), torch.ones(2, 3, device="cuda"))


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 4e-7), (torch.float64, 8e-16)])
def test_a_tolerance_that_rounding_hides_is_warned_of_at_the_callers_line(hooked, dtype, tol):
    with pytest.warns(PrecisionWarning, match=r"finer than torch\.float.. resolves") as caught:
        project(Sphere(1.0), torch.ones(2, 3, dtype=dtype), tol=tol)
    assert hooked or caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        project(Sphere(1.0), torch.ones(2, 3, dtype=dtype), tol=2 * tol)


# Real images on a network of the paper


@pytest.mark.data
def test_the_boundary_of_the_papers_network_is_reached_from_real_images(levelset_data):
    model = convnet_4a().eval()
    weights = load_file(levelset_data / "networks" / "mnist-convnet4a-xent.safetensors")
    model.load_state_dict(weights)
    points = read_images(levelset_data / "mnist", limit=200).points
    with torch.no_grad():
        labels = model(points).argmax(1)
    field = Margin(model)
    found = project(field, points, labels=labels, tol=1e-4)
    assert found.converged.double().mean() >= 0.995
    # Judged again, plainly, one layout and one batch: what is called converged lies on the set.
    with torch.no_grad():
        again = field(found.points, labels).abs()
    assert again[found.converged].max() <= 2e-4
    assert found.iterations[found.converged].double().median() <= 10
