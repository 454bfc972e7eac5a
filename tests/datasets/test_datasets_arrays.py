"""From arrays to checked images."""

import numpy as np
import pytest
import torch

from levelset.datasets._arrays import as_array, images_from_arrays
from levelset.errors import DataError


def read(points, labels, **options):
    return images_from_arrays(
        np.asarray(points), np.asarray(labels), source="SOURCE", name="toy", **options
    )


FLOATS = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 5, 4), (2, 1, 5, 4)),
        ((2, 5, 4, 3), (2, 3, 5, 4)),
        ((2, 5, 4, 1), (2, 1, 5, 4)),
        ((2, 3, 5, 4), (2, 3, 5, 4)),
        ((2, 7), (2, 7)),
    ],
)
def test_bytes_are_divided_and_put_channels_first(noise, shape, expected):
    array = noise.integers(0, 256, shape, dtype=np.uint8)
    points = read(array, [0, 1]).points
    assert tuple(points.shape) == expected
    assert points.dtype == torch.float32
    assert points.is_contiguous()
    back = (points * 255).round().to(torch.uint8).numpy()
    if len(shape) == 4 and expected != shape:
        back = back.transpose(0, 2, 3, 1)
    assert np.array_equal(back.reshape(shape), array)


def test_bytes_become_what_torch_makes_of_them():
    array = np.arange(256, dtype=np.uint8).reshape(2, 128)
    assert torch.equal(read(array, [0, 1]).points, torch.from_numpy(array).float() / 255)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2"])
@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 4, 3), (2, 7)])
def test_floats_keep_their_shape_and_are_copied(noise, dtype, shape):
    array = noise.random(shape).astype(dtype)
    points = read(array, [0, 1]).points
    assert np.array_equal(points.numpy(), array.astype(np.float32))
    points.zero_()
    assert array.any()


def test_labels_may_be_a_column_of_any_integers():
    labels = read(FLOATS, np.array([[2], [0], [1]], dtype=np.uint8)).labels
    assert labels.dtype == torch.int64
    assert labels.tolist() == [2, 0, 1]


def test_classes_are_numbered_over_all_labels_whatever_the_limit():
    images = read(FLOATS, [0, 1, 4], limit=1)
    assert images.classes == ("0", "1", "2", "3", "4")
    assert len(images) == 1


def test_tensors_of_every_kind_become_arrays():
    tensor = torch.tensor([[0.5, 0.25]], requires_grad=True)
    assert np.array_equal(as_array(tensor), [[0.5, 0.25]])
    assert np.array_equal(as_array(tensor.bfloat16()), [[0.5, 0.25]])
    assert np.array_equal(as_array([[1, 2]]), [[1, 2]])


@pytest.mark.parametrize(
    ("points", "labels", "options", "message"),
    [
        (FLOATS, [0, 1], {}, "SOURCE holds 3 images but 2 labels"),
        (np.zeros(()), [0, 1], {}, "holds 0 images but 2 labels"),
        (np.zeros(3), [0, 1, 2], {}, r"shape \(n, \*d\) with at least one value, got \(3,\)"),
        (np.zeros((3, 0)), [0, 1, 2], {}, r"with at least one value, got \(3, 0\)"),
        (np.zeros((0, 4)), np.zeros(0, int), {}, "SOURCE is empty: it holds no labelled image"),
        (FLOATS, [0.0, 1.0, 2.0], {}, "must have integer labels, got float64"),
        (FLOATS, ["a", "b", "c"], {}, "must have integer labels, got <U1"),
        (FLOATS, [True, False, True], {}, "must have integer labels, got bool"),
        (FLOATS, np.eye(3, dtype=int), {}, r"shape \(n,\), got \(3, 3\).*take the arg max"),
        (FLOATS, [0, -1, 2], {}, "from 0 to 99999, got -1 .1 of 3 rows; first: 1."),
        (FLOATS, [0, 1, 10**9], {}, "got 1000000000 .*Number the classes from 0"),
        (FLOATS, [0, 1, 2], {"classes": ["a", "b"]}, "from 0 to 1, got 2"),
        (FLOATS.astype(np.uint16), [0, 1, 2], {}, "uint8 .* or floating point .*, got uint16"),
        (FLOATS.astype(complex), [0, 1, 2], {}, "got complex128"),
        (FLOATS * np.nan, [0, 1, 2], {}, "NaN or infinite pixels in 3 of 3 images .first: 0, 1, 2"),
        (FLOATS + 1e300, [0, 1, 2], {}, "NaN or infinite pixels"),
        (FLOATS * 255, [0, 1, 2], {}, "within 0 to 1, got values from 0 to 255. Scale the data"),
        (FLOATS - 0.5, [0, 1, 2], {}, "got values from -0.5 to 0.5.*normalisation to the model"),
        (FLOATS, [0, 1, 2], {"bounds": (0.0, 0.5)}, "within 0 to 0.5"),
    ],
)
def test_unsound_arrays_are_refused(points, labels, options, message):
    with pytest.raises(DataError, match=message):
        read(points, labels, **options)
