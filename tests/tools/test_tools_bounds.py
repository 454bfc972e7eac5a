"""Boxes: what is read as bounds, what is refused, and how a box fits points."""

import math

import numpy as np
import pytest
import torch

from levelset._tools.bounds import bounds_pair, check_bounds, fit_bounds
from levelset.errors import ParameterError, ShapeError

IMAGES = torch.full((4, 3, 2, 5), 0.5)


@pytest.mark.parametrize(
    "sides",
    [
        ([-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]),
        ((-1, -2, -3), (1, 2, 3)),
        (np.array([-1.0, -2.0, -3.0]), np.array([1, 2, 3], dtype=np.int32)),
        (torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1, 2, 3])),
        (torch.tensor([-1.0, -2.0, -3.0]).view(3, 1, 1), torch.tensor([1.0, 2, 3]).view(3, 1, 1)),
        (torch.tensor([-1.0, -2.0, -3.0]).view(1, 3, 1, 1), [1.0, 2.0, 3.0]),
        (np.broadcast_to(np.array([-1.0, -2.0, -3.0])[:, None, None], (3, 2, 5)), [1, 2, 3]),
    ],
)
def test_one_number_a_channel_however_it_comes(sides):
    low, high = fit_bounds("f", sides, IMAGES)
    expected = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(IMAGES.shape)
    assert torch.equal(high.expand(IMAGES.shape), expected)
    assert torch.equal(low.expand(IMAGES.shape), -expected)
    assert low.dtype == high.dtype == torch.float32


@pytest.mark.parametrize(
    "bounds",
    [(0, 1), [0.0, 1.0], np.array([0.0, 1.0]), torch.tensor([0.0, 1.0]),
     (torch.tensor(0.0), np.float32(1.0)), (torch.tensor([0.0]), [1.0])],
)  # fmt: skip
def test_two_numbers_however_they_come(bounds):
    low, high = fit_bounds("f", bounds, IMAGES.double())
    assert (low.shape, high.shape) == ((), ())
    assert (float(low), float(high)) == (0.0, 1.0)
    assert low.dtype == torch.float64


def test_infinite_sides_and_one_side_for_each_entry():
    low, high = fit_bounds("f", (-math.inf, math.inf), IMAGES)
    assert (float(low), float(high)) == (-math.inf, math.inf)
    sides = torch.zeros(5), torch.arange(1.0, 6.0)
    assert torch.equal(fit_bounds("f", sides, torch.zeros(2, 5))[1], sides[1])


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((1.0, 0.0), r"`bounds` must be \(low, high\) with low < high, got \(1, 0\)\."),
        ((0.5, 0.5), r"got \(0\.5, 0\.5\)\."),
        ((math.nan, 1.0), r"got \(nan, 1\)\."),
        ((0.0, [1.0, 1.0, -1.0]), r"got \(0, values of the shape \(3,\)\)\."),
        ((0.0,), r"with low < high, got tuple\."),
        ((0.0, 1.0, 2.0), r"with low < high, got tuple\."),
        (0.5, r"with low < high, got 0\.5\."),
        ("ab", r"with low < high, got 'ab'\."),
        (None, r"with low < high, got None\."),
        (("0", "1"), r"must be \(low, high\), each a number, .* got '0'\."),
        ((None, 1.0), r"each a number, .* got None\."),
        ((False, True), r"each a number, .* got False\."),
        ((0.0, 1j), r"each a number, .* got 1j\."),
        ((0.0, []), r"each a number, .* got list\."),
        ((0.0, [[1.0], [1.0, 2.0]]), r"each a number, .* got list\."),
        (({}, 1.0), r"each a number, .* got dict\."),
    ],
)
def test_what_is_no_box(bounds, text):
    with pytest.raises(ParameterError, match=text):
        bounds_pair("f", bounds)


@pytest.mark.parametrize("shape", [(2,), (5,), (4,), (3, 2), (4, 3, 2, 5), (2, 5), (3, 2, 4)])
def test_sides_that_fit_no_point(shape):
    with pytest.raises(
        ShapeError,
        match=r"`bounds` must be numbers, \(3,\) for one number a channel, or of the shape "
        r"\(3, 2, 5\) of a point, got the shape \(",
    ):
        fit_bounds("f", (0.0, torch.ones(shape)), IMAGES)


def test_sides_that_the_dtype_does_not_tell_apart():
    with pytest.raises(ParameterError, match=r"got \(0\.5, 0\.5\) in torch\.float32"):
        fit_bounds("f", (0.5, 0.5 + 1e-12), torch.full((1, 2), 0.5))


def test_bounds_say_what_was_found_and_what_to_do():
    points = torch.tensor([[0.5, 0.5], [0.0, 255.0], [-3.0, 0.0]])
    with pytest.raises(
        ParameterError,
        match=r"f: `points` must lie within the bounds 0 to 1, got values from -3 to 255 \(2 of 3 "
        r"rows; first: 1, 2\)\. Scale the data, or give `bounds=\(low, high\)`",
    ):
        check_bounds("f", points, torch.tensor(0.0), torch.tensor(1.0))
    with pytest.raises(ParameterError, match=r"1 of 3 rows; first: 2"):
        check_bounds("f", points, torch.tensor([0.0, 0.0]), torch.tensor([1.0, 300.0]))


def test_sides_of_different_shapes_are_compared_on_the_points():
    high = torch.ones(3, 2, 5)
    low, _ = fit_bounds("f", ([0.0, 0.1, 0.2], high), IMAGES)
    assert low.shape == (3, 1, 1)
    with pytest.raises(ParameterError, match=r"with low < high, got \(values of the shape"):
        fit_bounds("f", ([0.0, 0.1, 1.5], high), IMAGES)
