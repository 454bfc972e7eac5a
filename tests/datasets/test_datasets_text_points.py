"""Points in text: tables as people have them, and the files of scanners and meshes."""

import numpy as np
import pytest
import torch

from levelset.datasets import read_points
from levelset.errors import DataError

ROWS = [[1.5, 2.5, 3.5], [4.25, -5.0, 6e-3]]


def read(tmp_path, text, name="a.txt", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_points(tmp_path / name)


@pytest.mark.parametrize("separator", [";", "\t", " ", "; ", "   "])
def test_decimal_commas_where_commas_do_not_separate(tmp_path, separator):
    lines = [separator.join(f"{v}".replace(".", ",") for v in row) for row in ROWS]
    found = read(tmp_path, "\n".join(lines))
    assert found.points.tolist() == ROWS
    assert found.notes == ("Decimal commas were read as points.",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_of_other_encodings(tmp_path, encoding):
    found = read(tmp_path, "x;y;z\r\n1,5;2,5;3,5\r\n4,25;-5;6e-3\r\n", "a.csv", encoding)
    assert found.points.tolist() == ROWS


def test_names_in_other_words_and_in_a_comment(tmp_path):
    found = read(tmp_path, "id,Northing,Easting,Height (m)\n7,2,1,3\n8,5,4,6\n", "a.csv")
    assert found.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    found = read(tmp_path, "//X Y Z R G B\n1 2 3 255 0 51\n4 5 6 0 0 0\n", "a.asc")
    assert found.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.colours[0].tolist() == [1.0, 0.0, 0.2]
    # a comment that names nothing leaves the columns to their places
    found = read(tmp_path, "# of my scan\n1 2 3\n4 5 6\n")
    assert found.points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_names_that_say_nothing_are_refused_with_their_list(tmp_path):
    with pytest.raises(DataError, match=r"4 columns and the names time, u, v, w, which do not say"):
        read(tmp_path, "time,u,v,w\n1,2,3,4\n", "a.csv")
    with pytest.raises(DataError, match="3 columns and the names x, y, which do not say"):
        read(tmp_path, "x,y\n1,2,3\n", "a.csv")


def test_a_first_row_of_nan_is_data(tmp_path):
    found = read(tmp_path, "nan nan nan\n1 2 3\n")
    assert len(found) == 2
    assert found.points[0].isnan().all()


def test_named_columns_that_are_no_coordinates_are_scalars(tmp_path):
    text = "x,y,z,nx,ny,nz,red,green,blue,Intensity,time [s]\n1,2,3,0,0,1,255,0,0,0.5,7\n"
    cloud = read(tmp_path, text, "a.csv")
    assert {name: value.tolist() for name, value in cloud.scalars.items()} == {
        "Intensity": [0.5], "time [s]": [7.0],
    }  # fmt: skip
    assert read(tmp_path, "x,y,z\n1,2,3\n", "b.csv").scalars == {}


def test_rasters_are_no_points(tmp_path):
    with pytest.raises(DataError, match="is a raster of heights"):
        read(tmp_path, "ncols 2\nnrows 1\n1 2\n", "a.asc")


def test_pts_of_several_clouds_with_intensity_and_colours(tmp_path):
    found = read(tmp_path, "1\n1 2 3 -100 255 0 51\n1\n4 5 6 7 0 0 0\n", "a.pts")
    assert found.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.colours[0].tolist() == [1.0, 0.0, 0.2]
    assert found.scalars["intensity"].tolist() == [-100, 7]
    assert read(tmp_path, "1 2 3\n4 5 6\n", "b.pts").colours is None
    with pytest.raises(DataError, match="is cut short: 5 points announced, 1 there"):
        read(tmp_path, "5\n1 2 3\n", "c.pts")
    with pytest.raises(DataError, match=r"must have the columns x y z, .*got 5"):
        read(tmp_path, "1 2 3 4 5\n", "d.pts")


def scan(rows, shift):
    """Return a PTX scan whose matrix turns x into y, and shifts."""
    matrix = ["0 1 0 0", "-1 0 0 0", "0 0 1 0", " ".join(map(str, [*shift, 1]))]
    head = [str(len(rows)), "1", "0 0 0", "1 0 0", "0 1 0", "0 0 1", *matrix]
    return "\n".join([*head, *(" ".join(map(str, row)) for row in rows), ""])


def test_ptx_scans_are_put_in_their_places(tmp_path):
    first = scan([[1, 0, 0, 0.5], [0, 0, 0, 0.5]], [10, 0, 0])
    found = read(tmp_path, first + scan([[0, 2, 3, 0.5]], [0, 0, 1]), "a.ptx")
    assert found.points.tolist() == [[10, 1, 0], [-2, 0, 4]]
    assert found.sensors.tolist() == [[10, 0, 0], [0, 0, 1]]
    assert found.scalars["intensity"].tolist() == [0.5, 0.5]
    assert found.notes == (
        "2 scans were joined, each at the place its matrix says.",
        "1 directions without an echo were left out.",
    )
    with pytest.raises(DataError, match="is cut short: 2 points announced, 1 there"):
        read(tmp_path, first.rsplit("\n", 2)[0], "b.ptx")
    with pytest.raises(DataError, match="has a header that is no PTX's"):
        read(tmp_path, "2\n1\n1 2 3\n", "c.ptx")


def test_off_with_colours_with_normals_and_plain(tmp_path):
    found = read(tmp_path, "OFF\n# made by hand\n2 1 0\n1 2 3\n4 5 6\n3 0 1 1\n", "a.off")
    assert found.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.notes == ("The file is a mesh of 1 faces; only its 2 vertices were used.",)
    found = read(tmp_path, "COFF 1 0 0\n1 2 3 255 0 51 255\n", "b.off")
    assert found.colours.tolist() == [[1.0, 0.0, 0.2]]
    found = read(tmp_path, "NOFF\n1 0 0\n1 2 3 0 0 1\n", "c.off")
    assert found.normals.tolist() == [[0, 0, 1]]
    for text, words in (
        ("1 2 3", "does not begin with the word OFF"),
        ("OFF\nx y z", "no line of counts"),
        ("OFF\n3 0 0\n1 2 3", "3 vertices announced, 1 there"),
    ):
        with pytest.raises(DataError, match=words):
            read(tmp_path, text, "d.off")


def test_obj_colours(tmp_path):
    found = read(tmp_path, "v 1 2 3 1.0 0.0 0.2\nv 4 5 6 0 0 0\n", "a.obj")
    assert torch.equal(found.colours[0], torch.tensor([1.0, 0.0, 0.2], dtype=torch.float64))
    assert np.array_equal(found.points, [[1, 2, 3], [4, 5, 6]])
