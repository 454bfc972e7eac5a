"""Polylines and their files."""

import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from levelset.datasets import read_points
from levelset.errors import ParameterError, ShapeError
from levelset.reconstruction import Polylines

SQUARE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.float64)
STEP = torch.tensor([[2.0, 0, 0.1], [2, 3, 0.1], [2, 3, 4.1]], dtype=torch.float64)
BOTH = Polylines((SQUARE, STEP), (True, False))


def test_lengths_edges_and_counts():
    assert torch.allclose(BOTH.lengths, torch.tensor([4.0, 7.0], dtype=torch.float64))
    assert BOTH.edges.tolist() == [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6]]
    assert BOTH.summary() == {"lines": 2, "closed": 1, "points": 7, "length": pytest.approx(11)}
    assert repr(BOTH) == "Polylines(lines=2, closed=1, points=(7, 3), length=11)"
    assert len(BOTH) == 2
    assert torch.equal(BOTH.points, torch.cat([SQUARE, STEP]))


def test_two_points_closed_are_one_piece():
    assert Polylines((SQUARE[:2],), (True,)).edges.tolist() == [[0, 1]]


def test_no_lines_are_polylines_too(tmp_path):
    nothing = Polylines((), ())
    assert nothing.summary() == {"lines": 0, "closed": 0, "points": 0, "length": 0.0}
    for suffix in (".obj", ".ply", ".svg"):
        assert nothing.save(tmp_path / f"a{suffix}").is_file()


@pytest.mark.parametrize("lines", [(SQUARE, STEP), (SQUARE[:, :2], STEP[:, :2])])
def test_obj_and_ply_hold_every_digit(tmp_path, lines):
    curves = Polylines(tuple(line / 3 for line in lines), (True, False))
    padded = torch.nn.functional.pad(curves.points, (0, 3 - curves.points.shape[1]))
    for suffix in (".obj", ".ply"):
        path = curves.save(tmp_path / f"ä{suffix}")
        assert torch.equal(read_points(path).points, padded)
    text = (tmp_path / "ä.obj").read_text()
    assert re.findall(r"^l (.*)$", text, re.MULTILINE) == ["1 2 3 4 1", "5 6 7"]
    ply = (tmp_path / "ä.ply").read_text()
    assert "element edge 6\nproperty int vertex1\nproperty int vertex2\n" in ply
    assert ply.endswith("0 1\n1 2\n2 3\n3 0\n4 5\n5 6\n")


def drawn(path):
    root = ET.fromstring(path.read_text())
    kinds, points = [], []
    for shape in root.iter():
        if shape.tag.endswith(("polygon", "polyline")):
            kinds.append(shape.tag.rpartition("}")[2])
            points.append([[float(v) for v in p.split(",")] for p in shape.get("points").split()])
    return root, kinds, [np.array(p) for p in points]


def test_svg_of_plane_curves_is_to_scale_with_y_upwards(tmp_path):
    flat = Polylines((2 * SQUARE[:, :2],), (True,))
    root, kinds, (points,) = drawn(flat.save(tmp_path / "a.svg"))
    assert kinds == ["polygon"]
    assert points.tolist() == [[20, 820], [820, 820], [820, 20], [20, 20]]
    assert root.get("viewBox") == "0 0 840.00 840.00"


def test_svg_of_space_curves_looks_along_the_thinnest_direction(tmp_path):
    angle = torch.arange(100, dtype=torch.float64) * (2 * math.pi / 100)
    ellipse = torch.stack([2 * angle.cos(), angle.sin(), 0 * angle], dim=1)
    turn = torch.linalg.qr(torch.tensor([[1.0, 2, 3], [0, 1, 4], [5, 6, 0]]).double())[0]
    _, _, (points,) = drawn(Polylines((ellipse @ turn,), (True,)).save(tmp_path / "a.svg"))
    assert np.ptp(points, axis=0) == pytest.approx([800, 400], abs=2)


def test_a_straight_line_in_space_has_a_picture(tmp_path):
    line = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None] * torch.ones(1, 3)
    _, kinds, (points,) = drawn(Polylines((line,), (False,)).save(tmp_path / "a.svg"))
    assert kinds == ["polyline"]
    assert np.ptp(points, axis=0) == pytest.approx([800, 0], abs=0.02)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"`closed` must have one entry per line \(1\), got 0"):
        Polylines((SQUARE,), ())
    for line in (torch.zeros(3, 4), torch.zeros(1, 3), torch.zeros(3), SQUARE[:, :2]):
        with pytest.raises(ShapeError, match=r"`lines` must all have the shape \(m, 3\)"):
            Polylines((SQUARE, line), (False, False))
    with pytest.raises(ParameterError, match=r"one of \.obj, \.ply, \.svg, got 'a\.stl'"):
        BOTH.save(tmp_path / "a.stl")
