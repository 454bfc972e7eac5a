"""`intersect`: every bracket closes, within the steps that bisection would need and two more."""

import math
import warnings

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from levelset import Projection, intersect
from levelset.errors import BracketError, FieldError, ParameterError, PrecisionWarning, ShapeError
from levelset.shapes import Circle, Ellipsoid, Plane, Sphere, Torus

DOUBLE = torch.float64


def unit(dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 1, dtype=dtype), torch.ones(1, 1, dtype=dtype)


def most_steps(slope: float, tol: float) -> int:
    """Return how many steps suffice on [0, 1]: after j, bisection's bracket has the width 2^-j.

    A field that climbs by at most `slope` a unit has an end within half of slope times width. So
    bisection needs log2(slope / tol) - 1 steps, and two more are allowed.
    """
    return max(0, math.ceil(math.log2(slope / tol)) + 1)


class Counting:
    def __init__(self, field) -> None:
        self.field, self.rows = field, 0

    def __call__(self, points: Tensor) -> Tensor:
        self.rows += len(points)
        return self.field(points)


# Nasty brackets: the field, and the most it climbs a unit

NASTY = {
    "line": (lambda x: x - 0.3, 1.0),
    "steep line": (lambda x: 1e6 * (x - math.pi / 10), 1e6),
    "ninth power": (lambda x: 1e9 * (x - 0.37) ** 9, 9e9 * 0.63**8),
    "flat ninth power": (lambda x: (x - 0.37) ** 9 - 1e-4, 9 * 0.63**8),
    "odd power of 41": (lambda x: 1e6 * ((x - 0.9) ** 41 - 1e-60), 41e6 * 0.9**40),
    "growth": (lambda x: torch.exp(20 * x) - 1.5, 20 * math.exp(20)),
    "fast growth": (lambda x: torch.exp(24 * x) - 1e6, 24 * math.exp(24)),
    "decay": (lambda x: torch.exp(-700 * x) - 0.9, 700.0),
    "step": (lambda x: torch.tanh(1e6 * (x - 0.123)), 1e6),
    "step off the middle": (lambda x: torch.tanh(1e6 * (x - 0.123)) + 0.9, 1e6),
    "step near the end": (lambda x: torch.tanh(1e6 * (x - 0.99999)) + 0.5, 1e6),
    "root": (lambda x: (x + 1e-12).sqrt() - 1e-3, 0.5e6),
    "cubic root": (
        lambda x: (x - 0.77) / ((x - 0.77) ** 2 + 1e-12) ** (1 / 3),
        1e4,
    ),
    "knee at the end": (
        lambda x: torch.where(x > 0.9999, 1e8 * (x - 0.9999), x - 0.9999) + 1e-3,
        1e8,
    ),
    "knee at the start": (
        lambda x: torch.where(x < 1e-4, 1e8 * (x - 1e-4), 1e-3 * (x - 1e-4)),
        1e8,
    ),
    "plateau above": (lambda x: (x - 0.6).relu() - (0.4 - x).relu() + 1e-3, 1.0),
    "oscillation": (lambda x: torch.sin(50 * x) + x - 0.5, 51.0),
    "many crossings": (lambda x: torch.sin(31 * math.pi * (x + 0.017)) * (2 - x), 200.0),
    "tiny": (lambda x: 1e-3 * (x - 0.3), 1e-3),
}


@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize("name", NASTY)
def test_nasty_brackets_close_in_time(name, turned, tol):
    function, slope = NASTY[name]
    field = Counting(lambda x: function(x[:, 0]))
    start, end = unit()[::-1] if turned else unit()
    found = intersect(field, start, end, tol=tol)
    assert found.converged.all()
    assert found.residual.item() <= tol
    assert function(found.points[:, 0]).abs().item() == found.residual.item()
    assert 0 <= found.points.item() <= 1
    assert found.iterations.item() <= most_steps(slope, tol)
    assert field.rows == found.iterations.item() + 2


def test_fewer_evaluations_than_bisection_where_the_field_is_smooth():
    shifts = torch.linspace(0.05, 0.95, 91, dtype=DOUBLE)
    smooth = {
        "line": lambda x, s: x - s,
        "exponential": lambda x, s: torch.exp(5 * (x - s)) - 1,
        "cubic": lambda x, s: (x - s) ** 3 + (x - s),
        "sigmoid": lambda x, s: torch.sigmoid(10 * (x - s)) - 0.5,
    }
    for function in smooth.values():
        found = intersect(
            lambda x, s, f=function: f(x[:, 0], s),
            torch.zeros(91, 1, dtype=DOUBLE), torch.ones(91, 1, dtype=DOUBLE),
            labels=shifts, tol=1e-12,
        )  # fmt: skip
        assert found.converged.all()
        assert found.iterations.double().mean() <= 10  # bisection: 38 to 43
        assert (found.points[:, 0] - shifts).abs().max() < 1e-11


def test_a_discontinuity_closes_to_the_last_bit_and_is_not_called_converged():
    for place in (0.4321, 0.25, 1e-9, 1 - 1e-12):
        found = intersect(
            lambda x, p=place: torch.where(x[:, 0] > p, 1.0, -1.0).double(), *unit(), max_iter=100
        )
        assert not found.converged.any()
        assert abs(found.points.item() - place) <= 2.3e-16 * max(place, 1.0)
        assert found.residual.item() == 1.0
    assert (
        intersect(
            lambda x: torch.where(x[:, 0] > 0.4321, 1.0, -1.0).double(), *unit()
        ).iterations.item()
        <= 55
    )


knots = st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=9)
scales = st.floats(-6.0, 6.0)


@settings(max_examples=150)
@given(values=knots, power=scales)
@example(values=[-1.0, 1e-12, 1.0], power=0.0)
@example(values=[-1e-9, 1.0], power=6.0)
@example(values=[-1.0, 1.0, -1.0, 1.0, -1.0, 1.0], power=3.0)
def test_random_piecewise_linear_fields_close_in_time(values, power):
    heights = 10**power * torch.tensor(values, dtype=DOUBLE)
    assume(heights[0] * heights[-1] < 0)
    pieces = len(values) - 1

    def field(x: Tensor) -> Tensor:
        place = (x[:, 0] * pieces).clamp(0, pieces)
        left = place.floor().long().clamp(max=pieces - 1)
        return torch.lerp(heights[left], heights[left + 1], place - left)

    slope = pieces * heights.diff().abs().max().item()
    tol = max(1e-6, 1e-13 * slope)
    found = intersect(field, *unit(), tol=tol)
    assert found.converged.all()
    assert field(found.points).abs().item() <= tol
    assert found.iterations.item() <= most_steps(slope, tol)


@settings(max_examples=150)
@given(
    root=st.floats(0.001, 0.999),
    rate=st.floats(-6.0, 4.0),
    power=st.sampled_from([1, 3, 5, 9]),
    bend=st.floats(-8.0, 8.0),
)
def test_random_monotone_fields_close_in_time(root, rate, power, bend):
    def function(x: Tensor) -> Tensor:
        away = torch.expm1(bend * (x - root)) / bend if abs(bend) > 1e-6 else x - root
        return 10**rate * (away + away.sign() * away.abs() ** power)

    # The slope is largest at an end, as both factors are monotone.
    ends = torch.tensor([0.0, 1.0], dtype=DOUBLE).requires_grad_()
    (climbs,) = torch.autograd.grad(function(ends).sum(), ends)
    tol = max(1e-9, 1e-13 * climbs.max().item())
    found = intersect(lambda x: function(x[:, 0]), *unit(), tol=tol)
    assert found.converged.all()
    assert function(found.points[:, 0]).abs().item() <= tol
    assert found.iterations.item() <= most_steps(climbs.max().item(), tol)


@pytest.mark.parametrize("name", ["line", "decay", "plateau above", "oscillation", "tiny"])
def test_float32_closes_too(name):
    function, slope = NASTY[name]
    found = intersect(lambda x: function(x[:, 0]), *unit(torch.float32), tol=1e-4)
    assert found.converged.all()
    assert found.points.dtype == torch.float32
    assert found.iterations.item() <= most_steps(slope, 1e-4)


# Where it ends up


@pytest.mark.parametrize(
    "shape",
    [Sphere(1.0), Ellipsoid((0.5, 1.0, 2.0)), Torus(1.0, 0.3), Plane((1.0, 1.0, 0.2), 0.4)],
    ids=lambda s: type(s).__name__,
)
def test_crossings_lie_on_the_surface_and_on_their_segment(noise, shape):
    start, end = noise(4000, 3, seed=1), noise(4000, 3, seed=2)
    across = shape(start).sign() != shape(end).sign()
    start, end = start[across], end[across]
    assert len(start) > 200
    found = intersect(shape, start, end, tol=1e-11)
    assert found.converged.all()
    assert shape(found.points).abs().max() <= 1e-11
    along = end - start
    share = ((found.points - start) * along).sum(1, keepdim=True) / along.square().sum(
        1, keepdim=True
    )
    assert share.min() >= -1e-12
    assert share.max() <= 1 + 1e-12
    assert (found.points - start - share * along).abs().max() < 1e-13


def test_a_plane_is_met_where_it_is_met(noise):
    plane = Plane((2.0, -1.0, 0.5), 0.3)
    start, end = noise(300, 3, seed=1), noise(300, 3, seed=2)
    across = plane(start) * plane(end) < 0
    start, end = start[across], end[across]
    share = (plane(start) / (plane(start) - plane(end))).unsqueeze(1)
    found = intersect(plane, start, end, tol=1e-13)
    assert (found.points - torch.lerp(start, end, share)).abs().max() < 1e-11


def test_other_levels_are_met_too(noise):
    start, end = 0.1 * noise(20, 3), 4.0 * Sphere(1.0).project(noise(20, 3, seed=1))
    found = intersect(Sphere(1.0), start, end, level=1.0, tol=1e-12)
    assert found.converged.all()
    assert (found.points.norm(dim=1) - 2.0).abs().max() < 1e-11


def test_ends_may_be_swapped(noise):
    start, end = 0.1 * noise(20, 3), 3.0 + noise(20, 3, seed=1).abs()
    there = intersect(Sphere(1.0), start, end, tol=1e-12)
    back = intersect(Sphere(1.0), end, start, tol=1e-12)
    assert there.converged.all()
    assert back.converged.all()
    assert (there.points - back.points).abs().max() < 1e-11


@pytest.mark.parametrize("which", ["start", "end", "both"])
def test_an_end_on_the_level_is_returned_as_it_is(same_bits, which):
    on, off = torch.tensor([[0.6, -0.8, -0.0]]), torch.tensor([[0.1, 0.0, 0.0]])
    other = torch.tensor([[0.0, 1.0, 0.0]]) if which == "both" else off
    start, end = (other, on) if which == "end" else (on, other)
    field = lambda x: x.norm(dim=1) - on.norm()  # noqa: E731
    found = intersect(field, start, end)
    assert found.converged.all()
    assert found.iterations.item() == 0
    assert found.residual.item() == 0
    assert same_bits(found.points, start if which == "both" else on)


def test_segments_stop_each_by_itself():
    seen: list[int] = []

    def field(x: Tensor, row: Tensor) -> Tensor:
        seen.extend(row.tolist())
        return torch.tanh(10.0 ** row.double() * (x[:, 0] - 0.3))

    start, end = unit()
    found = intersect(field, start.expand(6, 1), end.expand(6, 1), labels=torch.arange(6), tol=1e-7)
    assert found.converged.all()
    assert len(set(found.iterations.tolist())) > 2
    for row in range(6):
        assert seen.count(row) == found.iterations[row] + 2


def test_nan_in_between_counts_as_the_far_side():
    # Finite at both ends, undefined in (0.5, 0.9), with the crossing at 0.2.
    def field(x: Tensor) -> Tensor:
        value = x[:, 0] - 0.2
        return torch.where((x[:, 0] > 0.5) & (x[:, 0] < 0.9), math.nan, value)

    found = intersect(field, *unit(), tol=1e-10)
    assert found.converged.all()
    assert found.points.item() == pytest.approx(0.2, abs=1e-9)


def test_a_crossing_hidden_by_nan_is_not_called_converged():
    def field(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] < 0.5, -1.0, torch.where(x[:, 0] < 0.9, math.nan, 1.0)).double()

    found = intersect(field, *unit())
    assert not found.converged.any()
    assert found.residual.isfinite().all()
    assert found.points.item() < 0.5


@pytest.mark.parametrize("size", [1, 3, None])
def test_the_batch_size_changes_nothing_but_rounding(settled, noise, size):
    model = settled(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), dtype=DOUBLE)
    start, end = noise(80, 4, seed=1), noise(80, 4, seed=2)
    with torch.no_grad():
        across = (model(start) * model(end) < 0).squeeze(1)
    start, end = start[across], end[across]
    whole = intersect(model, start, end, tol=1e-12)
    part = intersect(model, start, end, tol=1e-12, batch_size=size)
    assert whole.converged.all()
    assert part.converged.all()
    assert (whole.points - part.points).abs().max() < 1e-10


def test_images_keep_their_shape(settled, noise):
    model = settled(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 1)), dtype=DOUBLE)
    start = noise(30, 2, 4, 4)
    with torch.no_grad():
        end = start - 2.0 * model(start).view(-1, 1, 1, 1) * _slope(model, start)
    found = intersect(model, start, end.transpose(2, 3).contiguous().transpose(2, 3), tol=1e-11)
    assert found.points.shape == start.shape
    assert found.converged.all()
    # An affine field and its mirror image: the crossing is half-way.
    assert (found.points - (start + end) / 2).abs().max() < 1e-9


def _slope(model: nn.Module, points: Tensor) -> Tensor:
    """Return gradient over its squared length, of an affine model."""
    with torch.enable_grad():
        leaf = points.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(leaf).sum(), leaf)
    return gradient / gradient.flatten(1).square().sum(1).view(-1, 1, 1, 1)


def test_no_segments_give_no_crossings():
    empty = torch.empty(0, 3)
    found = intersect(Sphere(1.0), empty, empty)
    assert isinstance(found, Projection)
    assert len(found) == 0
    assert found.points.shape == (0, 3)
    assert found.converged.dtype == torch.bool
    assert found.iterations.dtype == torch.int64


def test_progress_is_told_after_each_batch(noise):
    told: list[tuple[int, int]] = []
    end = 5.0 + noise(5, 3).abs()
    intersect(Sphere(1.0), 0.0 * end, end, batch_size=2, progress=lambda *count: told.append(count))
    assert told == [(2, 5), (4, 5), (5, 5)]


# Messages


def test_ends_on_one_side_are_counted_and_named():
    start = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.5], [0.0, 3.0]])
    end = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 0.1], [0.0, 0.0]])
    with pytest.raises(
        BracketError,
        match=r"intersect: `start` and `end` must lie on opposite sides of the level, but 2 of 4 "
        r"segments have both ends on one side \(first: 1, 2\)\. Leave these out, or move an end",
    ):
        intersect(Sphere(1.0), start, end)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at_end", [False, True])
def test_ends_where_the_field_is_not_finite_are_counted_and_named(bad, at_end):
    start, end = torch.tensor([[-1.0], [-1.0]]), torch.tensor([[1.0], [1.0]])
    (end if at_end else start)[1] = bad
    with pytest.raises(
        FieldError,
        match=r"intersect: `field` must be finite at both ends, got NaN or infinity on 1 of 2 "
        r"segments \(first: 1\)\.",
    ):
        intersect(lambda x: x[:, 0], start, end)


def test_several_equations_are_refused():
    with pytest.raises(ShapeError, match=r"must have one equation, got 2: a segment meets the com"):
        intersect(Circle(1.0), torch.zeros(1, 3), torch.ones(1, 3))


@pytest.mark.messages
def test_ends_of_another_shape_are_refused():
    with pytest.raises(
        ShapeError, match=r"`end` must have the shape of `start` \(2, 3\), got \(3, 3\)\."
    ):
        intersect(Sphere(1.0), torch.zeros(2, 3), torch.ones(3, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, r"intersect: `max_iter` must be at least 1, got 0\."),
        ({"tol": -1.0}, r"intersect: `tol` must be positive, got -1\.0\."),
        ({"level": math.nan}, r"intersect: `level` must be finite, got nan\."),
        ({"batch_size": -3}, r"intersect: `batch_size` must be at least 1, or None, got -3\."),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        intersect(Sphere(1.0), torch.zeros(1, 3), 2.0 * torch.ones(1, 3), **options)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ShapeError, match=r"intersect: `labels` must have one row per point \(1\)"):
        intersect(Sphere(1.0), *unit(), labels=torch.zeros(2))


@pytest.mark.messages
def test_ends_that_are_no_points_are_refused():
    with pytest.raises(ShapeError, match=r"intersect: `end` must be floating point, got torch\.in"):
        intersect(Sphere(1.0), torch.zeros(1, 3), torch.ones(1, 3).long())


def test_a_tolerance_that_rounding_hides_is_warned_of_at_the_callers_line(hooked):
    with pytest.warns(PrecisionWarning, match=r"intersect: `tol` 1\.0e-08 is finer") as caught:
        intersect(Sphere(1.0), torch.zeros(1, 3), 2.0 * torch.ones(1, 3), tol=1e-8)
    assert hooked or caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        intersect(Sphere(1.0), torch.zeros(1, 3), 2.0 * torch.ones(1, 3))
