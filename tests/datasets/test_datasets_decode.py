"""Encoded pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from levelset.datasets._decode import decode_all
from levelset.errors import DataError


def encode(array, *, kind="PNG", mode=None):
    stream = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(stream, kind)
    return stream.getvalue()


GREY = np.arange(20, dtype=np.uint8).reshape(5, 4)
COLOUR = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)


def test_grey_pictures_have_one_channel():
    assert np.array_equal(decode_all([("a", encode(GREY))]), GREY[None, None])


def test_bilevel_pictures_are_black_and_white():
    pixels = decode_all([("a", encode(GREY // 19 * 255, mode="1"))])
    assert pixels.shape == (1, 1, 5, 4)
    assert set(np.unique(pixels)) == {0, 255}


def test_one_coloured_picture_makes_all_coloured():
    pixels = decode_all([("a", encode(GREY)), ("b", encode(COLOUR))])
    assert np.array_equal(pixels[0], np.stack([GREY] * 3))
    assert np.array_equal(pixels[1], COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparency_is_dropped_and_palettes_resolved(mode):
    flat = np.full((5, 4, 3), (255, 0, 0), np.uint8)
    pixels = decode_all([("a", encode(flat, mode=mode))])
    assert np.array_equal(pixels[0], flat.transpose(2, 0, 1))


def test_sizes_that_differ_are_named_with_their_files():
    with pytest.raises(DataError, match=r"one size, got 4 x 5 in a and 5 x 4 in b\. Resize .*call"):
        decode_all([("a", encode(GREY)), ("b", encode(GREY.T.copy()))])


@pytest.mark.parametrize("cut", [0, 3, 20, 45, -40])
def test_a_truncated_picture_is_named(cut):
    with pytest.raises(DataError, match=r"cat.png does not decode as an image"):
        decode_all([("cat.png", encode(COLOUR)[:cut])])


def test_a_truncated_jpeg_is_named(noise):
    data = encode(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8), kind="JPEG")
    with pytest.raises(DataError, match=r"cat.jpg does not decode as an image"):
        decode_all([("cat.jpg", data[: len(data) // 2])])


def test_deep_pictures_are_refused_rather_than_clipped():
    with pytest.raises(DataError, match=r"x.png must have 8 bits a channel, got .* mode 'I;16'"):
        decode_all([("x.png", encode(GREY.astype(np.uint16) * 1000))])
