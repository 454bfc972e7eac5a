"""What must hold for every field and every point, whatever they are."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from levelset import LogitDifference, Margin, Newton, attach, intersect, project
from levelset.shapes import Circle, Ellipsoid, Plane, Sphere, Torus

pytestmark = pytest.mark.same_shapes

DOUBLE = torch.float64
seeds = st.integers(0, 2**31)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def network(seed: int, outputs: int = 1, width: int = 4) -> Callable[[Tensor], Tensor]:
    """Return a smooth network of random weights, as a plain function."""
    first, middle, last = (
        draw(width, 8, seed=seed), draw(8, 8, seed=seed + 1), draw(8, outputs, seed=seed + 2),
    )  # fmt: skip
    return lambda x: torch.tanh(torch.tanh(x @ first / 2) @ middle / 3) @ last


def turn(seed: int, d: int) -> Tensor:
    """Return a random orthogonal matrix."""
    q, r = torch.linalg.qr(draw(d, d, seed=seed))
    return q * r.diagonal().sign()


careful = Newton(max_iter=50, max_step=0.3)


@settings(max_examples=30)
@given(seed=seeds, equations=st.sampled_from([1, 2, 3]))
def test_projecting_twice_is_projecting_once(seed, equations):
    field = network(seed, equations)
    once = project(field, draw(20, 4, seed=seed + 9), method=careful, tol=1e-10)
    twice = project(field, once.points, method=careful, tol=1.001e-10)
    arrived = once.converged
    assert torch.equal(twice.points[arrived], once.points[arrived])
    assert (twice.iterations[arrived] == 0).all()
    assert (twice.residual <= once.residual + 1e-13).all()


@settings(max_examples=30)
@given(seed=seeds, equations=st.sampled_from([1, 2]))
def test_turning_and_shifting_the_field_turns_and_shifts_the_answer(seed, equations):
    field, start = network(seed, equations), draw(20, 4, seed=seed + 9)
    rotation, shift = turn(seed + 3, 4), draw(4, seed=seed + 4)
    moved = project(
        lambda x: field((x - shift) @ rotation),
        start @ rotation.T + shift,
        method=careful,
        tol=1e-10,
    )
    plain = project(field, start, method=careful, tol=1e-10)
    both = moved.converged & plain.converged & (plain.iterations <= 12)
    assert torch.allclose(
        moved.points[both], plain.points[both] @ rotation.T + shift, rtol=0, atol=1e-7
    )


@pytest.mark.filterwarnings("ignore::levelset.errors.PrecisionWarning")
@settings(max_examples=40)
@given(seed=seeds, power=st.floats(-12, 12), sign=st.sampled_from([-1.0, 1.0]))
def test_the_units_of_the_field_do_not_matter(seed, power, sign):
    field, start, scale = network(seed), draw(15, 4, seed=seed + 9), sign * 10**power
    plain = project(field, start, method=careful, tol=1e-8)
    scaled = project(lambda x: scale * field(x), start, method=careful, tol=1e-8 * abs(scale))
    both = plain.converged & scaled.converged & (plain.iterations <= 12)
    assert torch.allclose(scaled.points[both], plain.points[both], rtol=0, atol=1e-7)
    assert torch.allclose(scaled.residual[both] / abs(scale), plain.residual[both], atol=1e-9)


@settings(max_examples=30)
@given(seed=seeds, level=st.floats(-0.5, 0.5))
def test_a_level_is_a_shift_of_the_field(seed, level):
    field, start = network(seed), draw(15, 4, seed=seed + 9)
    by_level = project(field, start, level=level, method=careful, tol=1e-9)
    by_shift = project(lambda x: field(x) - level, start, method=careful, tol=1e-9)
    assert torch.equal(by_level.points, by_shift.points)
    assert torch.equal(by_level.residual, by_shift.residual)


@settings(max_examples=30)
@given(seed=seeds)
def test_the_order_of_the_points_does_not_matter(seed):
    field, start = network(seed), draw(20, 4, seed=seed + 9)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    plain = project(field, start, method=careful, tol=1e-10)
    mixed = project(field, start[order], method=careful, tol=1e-10)
    both = mixed.converged & plain.converged[order] & (mixed.iterations <= 12)
    assert torch.allclose(mixed.points[both], plain.points[order][both], rtol=0, atol=1e-7)


@settings(max_examples=30)
@given(seed=seeds, equations=st.sampled_from([1, 2]))
def test_residual_and_converged_tell_the_truth(seed, equations):
    field = network(seed, equations)
    start = draw(20, 4, seed=seed + 9)
    found = project(field, start, tol=1e-6, method=Newton(max_iter=6))
    values = field(found.points).abs().amax(1)
    assert torch.allclose(found.residual, values, rtol=1e-9, atol=1e-13)
    assert torch.equal(found.converged, found.residual <= 1e-6)
    assert (found.residual <= field(start).abs().amax(1) + 1e-15).all()
    assert (found.iterations <= 6).all()


@settings(max_examples=20)
@given(seed=seeds)
def test_more_steps_never_make_it_worse(seed):
    field, start = network(seed), 3.0 * draw(15, 4, seed=seed + 9)
    worst = [project(field, start, method=Newton(max_iter=k), tol=1e-12).residual for k in range(7)]
    for before, after in itertools.pairwise(worst):
        assert (after <= before + 1e-13).all()


@settings(max_examples=40)
@given(seed=seeds, axes=st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3))
def test_a_distance_changes_no_faster_than_its_point_moves(seed, axes):
    shapes = [
        Plane((1.0, 2.0, -1.0), 0.3), Sphere(1.0), Torus(1.0, 0.4), Circle(1.0),
        Ellipsoid(tuple(axes)),
    ]  # fmt: skip
    one, other = 2 * draw(40, 3, seed=seed), 2 * draw(40, 3, seed=seed + 1)
    gap = (one - other).norm(dim=1)
    for shape in shapes:
        change = (shape.distance(one) - shape.distance(other)).abs()
        assert (change <= gap * (1 + 1e-9) + 1e-12).all()


@settings(max_examples=20)
@given(seed=seeds)
def test_bracketing_and_newton_agree_on_a_line(seed):
    """Two routes to one number: restricted to a segment, a crossing is a projection in 1-D."""
    field, start, end = network(seed), draw(30, 4, seed=seed + 5), draw(30, 4, seed=seed + 6)
    across = (field(start) * field(end) < 0).squeeze(1)
    start, end = start[across], end[across]
    if len(start) == 0:
        return
    met = intersect(field, start, end, tol=1e-12)
    assert met.converged.all()
    share = ((met.points - start) * (end - start)).sum(1) / (end - start).square().sum(1)
    along = lambda t, ends: field(torch.lerp(ends[:, 0], ends[:, 1], t))  # noqa: E731
    refined = project(along, share.unsqueeze(1), labels=torch.stack([start, end], 1), tol=1e-12)
    assert refined.converged.all()
    assert (refined.points.squeeze(1) - share).abs().max() < 1e-6


@settings(max_examples=15)
@given(seed=seeds, scale=st.floats(0.1, 10.0))
def test_the_gradient_of_a_sample_does_not_depend_on_the_units_of_the_field(seed, scale):
    start, bias = draw(6, 4, seed=seed + 9), torch.zeros((), dtype=DOUBLE, requires_grad=True)
    inner = network(seed)
    plain = project(lambda x: inner(x), start, method=careful, tol=1e-10)
    plain = plain[plain.converged]
    gradients = []
    for factor in (1.0, -scale):
        field = lambda x, f=factor: f * (inner(x) - bias)  # noqa: E731
        gradients.append(torch.autograd.grad(attach(field, plain).sum(), bias)[0])
    assert gradients[0].item() == pytest.approx(gradients[1].item(), rel=1e-9, abs=1e-9)


@settings(max_examples=15)
@given(seed=seeds)
def test_of_two_classes_margin_and_difference_have_the_same_projections(seed):
    class Logits(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return network(seed, 2)(points)

    start, labels = draw(20, 4, seed=seed + 9), torch.arange(20) % 2
    by_margin = project(Margin(Logits()), start, labels=labels, method=careful, tol=1e-10)
    by_pair = project(LogitDifference(Logits(), 0, 1), start, method=careful, tol=1e-10)
    assert torch.equal(by_margin.converged, by_pair.converged)
    assert torch.allclose(by_margin.points, by_pair.points, rtol=0, atol=1e-9)


def test_the_distance_of_a_linear_classifier_is_its_margin_over_the_length_of_its_weights():
    weight, start = draw(2, 6, seed=1), draw(50, 6, seed=2)
    normal = weight[0] - weight[1]
    model = nn.Linear(6, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(weight)
    found = project(LogitDifference(model, 0, 1), start, tol=1e-13)
    travelled = (found.points - start).norm(dim=1)
    assert torch.allclose(travelled, (start @ normal).abs() / normal.norm(), rtol=1e-11)
