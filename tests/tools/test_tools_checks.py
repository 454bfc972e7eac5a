"""Every check, with the sentence it speaks."""

import math

import numpy as np
import pytest
import torch

from levelset._tools.checks import (
    check_batch_size,
    check_finite,
    check_labels,
    check_level,
    check_points,
    check_positive,
    check_same_rows,
    check_whole,
    first_rows,
)
from levelset.errors import DataError, ParameterError, ShapeError


@pytest.mark.parametrize(
    ("rows", "text"),
    [([], ""), ([2], "2"), ([0, 2, 5], "0, 2, 5"), ([1, 2, 3, 4], "1, 2, 3, ...")],
)
def test_the_first_rows_are_listed(rows, text):
    mask = torch.zeros(6, dtype=torch.bool)
    mask[rows] = True
    assert first_rows(mask) == text


def test_what_is_right_passes_in_silence():
    points = torch.zeros(3, 2)
    check_points("f", points)
    check_finite("f", points)
    check_same_rows("f", points, None, "labels")
    check_same_rows("f", points, torch.zeros(3, 4), "labels")
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.int8):
        check_labels("f", torch.tensor([0, 1, 2], dtype=dtype), points, 3)
    check_labels("f", torch.zeros(0, dtype=torch.int64), points[:0], 3)
    check_positive("f", "tol", 1e-300)
    check_level("f", -1e300)
    check_batch_size("f", None)
    check_batch_size("f", 1)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1.0], r"f: `start` must be a torch\.Tensor, got list\."),
        (torch.zeros(2, 2).long(), r"`start` must be floating point, got torch\.int64\. Convert w"),
        (torch.zeros(2, 2).to(torch.complex64), r"must be floating point, got torch\.complex64"),
        (torch.zeros(2), r"f: `start` must have the shape \(n, \*d\), got \(2,\)\."),
        (torch.tensor(1.0), r"f: `start` must have the shape \(n, \*d\), got \(\)\."),
    ],
)
@pytest.mark.messages
def test_points(points, message):
    with pytest.raises(ShapeError, match=message):
        check_points("f", points, "start")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_finite(bad):
    points = torch.zeros(5, 2, 2)
    points[3, 1, 0] = bad
    with pytest.raises(
        DataError,
        match=r"f: `points` must be finite, got NaN or infinity in 1 of 5 rows \(first: 3",
    ):
        check_finite("f", points)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_same_rows(shape):
    with pytest.raises(ShapeError, match=r"f: `labels` must have one row per point \(3\), got \("):
        check_same_rows("f", torch.zeros(3, 2), torch.zeros(shape), "labels")


@pytest.mark.parametrize("other", [[0, 1, 2], np.zeros(3)])
@pytest.mark.messages
def test_rows_that_are_no_tensor(other):
    kind = type(other).__name__
    with pytest.raises(ShapeError, match=rf"f: `labels` must be a torch\.Tensor, got {kind}\."):
        check_same_rows("f", torch.zeros(3, 2), other, "labels")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
@pytest.mark.messages
def test_labels_of_another_kind(dtype):
    with pytest.raises(ShapeError, match=r"f: `labels` must be integers, got torch\."):
        check_labels("f", torch.zeros(3, dtype=dtype), torch.zeros(3, 2), 2)


@pytest.mark.messages
def test_labels_of_another_shape():
    with pytest.raises(ShapeError, match=r"`labels` must have the shape \(n,\), got \(3, 1\)\."):
        check_labels("f", torch.zeros(3, 1).long(), torch.zeros(3, 2), 2)


@pytest.mark.parametrize(("bad", "text"), [(-1, "-1"), (4, "4"), (2**40, str(2**40))])
def test_labels_out_of_range(bad, text):
    labels = torch.tensor([0, 3, bad])
    with pytest.raises(
        ParameterError,
        match=rf"f: `labels` must lie in 0 to 3, got {text} \(1 of 3 rows; first: 2\)\.",
    ):
        check_labels("f", labels, torch.zeros(3, 2), 4)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_positive(value):
    with pytest.raises(ParameterError, match=rf"f: `tol` must be positive, got {value}\."):
        check_positive("f", "tol", value)


@pytest.mark.parametrize("value", [1, 2.5, 3.0, True, "3", math.nan])
def test_whole(value):
    check_whole("f", "draws", np.int64(2), at_least=2)
    with pytest.raises(ParameterError, match="f: `draws` must be an integer of at least 2, got "):
        check_whole("f", "draws", value, at_least=2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_level(value):
    with pytest.raises(ParameterError, match=rf"f: `level` must be finite, got {value}\."):
        check_level("f", value)


@pytest.mark.parametrize("value", [0, -5])
def test_batch_size(value):
    with pytest.raises(
        ParameterError, match=rf"`batch_size` must be at least 1, or None, got {value}"
    ):
        check_batch_size("f", value)
