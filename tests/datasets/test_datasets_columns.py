"""Which columns of a file are coordinates, normals and colours."""

import numpy as np
import pytest

from levelset.datasets._columns import by_name, by_place, colours_of, plain_name


@pytest.mark.parametrize(
    "name", ["X", "x_coordinate", "X (m)", "easting", "East", "//X", "point-x", "cartesianX"]
)
def test_names_of_an_axis(name):
    assert by_name(["time", name, "y", "z"])["points"] == [1, 2, 3]


def test_names_of_normals_and_colours_and_what_is_incomplete():
    names = ["x", "y", "z", "Normal_X", "Normal_Y", "Normal_Z", "Red", "Green", "Blue"]
    places = {"points": [0, 1, 2], "normals": [3, 4, 5], "colours": [6, 7, 8]}
    assert by_name(names) == places
    assert by_name(["x", "y", "nx", "ny", "r", "g"]) == {"points": [0, 1]}
    assert by_name(["a", "b", "c"]) == {}
    assert plain_name("Height [m] (above sea)") == "height"


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (np.array([[255, 0, 51]], np.uint8), [1.0, 0.0, 0.2]),
        (np.array([[65535, 0, 13107]], np.uint16), [1.0, 0.0, 0.2]),
        (np.array([[1.0, 0.0, 0.2]]), [1.0, 0.0, 0.2]),
        (np.array([[255.0, 0.0, 51.0]]), [1.0, 0.0, 0.2]),
        (np.array([[1, 0, 1]], np.uint8), [1 / 255, 0.0, 1 / 255]),
        (np.array([[np.nan, 0.0, -0.1]]), [0.0, 0.0, 0.0]),
    ],
)
def test_colours_of_any_depth_lie_between_0_and_1(values, first):
    assert colours_of(values)[0].tolist() == pytest.approx(first)


def test_further_columns_are_told_by_their_values(noise):
    points = noise.standard_normal((30, 3))
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    colours = noise.integers(0, 256, (30, 3)).astype(float)
    found = by_place(np.hstack([points, normals]))
    assert np.array_equal(found.normals, normals)
    assert found.colours is None
    assert found.notes == ("Columns 4 to 6 have length 1 and were taken as normals.",)
    found = by_place(np.hstack([points, colours]))
    assert found.normals is None
    assert np.allclose(found.colours, colours)
    assert found.notes == ("Columns 4 to 6 were taken as red, green and blue, by their values.",)
    for table in ([points, colours, normals], [points, normals, colours]):
        found = by_place(np.hstack(table))
        assert np.array_equal(found.normals, normals)
        assert np.allclose(found.colours, colours)
    found = by_place(np.hstack([points, 1000 * points[:, :1], colours]))
    assert np.allclose(found.colours, colours)
    assert by_place(np.hstack([points, 40 * points])).colours is None
