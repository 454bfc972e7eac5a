"""The page about a surface: what stands on it, and that its figures hold what they should."""

import json
import re

import numpy as np
import pytest
import torch

from levelset import report
from levelset.reconstruction import Fast, surface
from levelset.report._surface import _turning


@pytest.fixture(scope="module")
def ball():
    draws = torch.randn(800, 3, generator=torch.Generator().manual_seed(0)).double()
    points = 2.0 + 5.0 * torch.nn.functional.normalize(draws, dim=1)
    return surface(torch.cat([points, points[:7]]), settings=Fast(grid=32), resolution=20)


@pytest.fixture(scope="module")
def page(ball, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "ball.html"
    report.write(path, report.surface(ball, name="a <ball>"), title="Ball")
    return path.read_text(encoding="utf-8")


def figures(page):
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return [json.loads(text) for text in found]


def test_the_page_tells_counts_and_notes(page):
    assert "800 points became a closed surface in one piece" in page
    assert "7 of 807 rows repeat" in page
    assert "a &lt;ball&gt;" in page
    assert "a <ball>" not in page


def test_an_open_surface_is_drawn_open_and_has_no_handles(ball, tmp_path):
    bowl = ball.points[ball.points[:, 2] < 4.0]
    result = surface(bowl, settings=Fast(grid=32), resolution=20, closed=False)
    report.write(tmp_path / "bowl.html", report.surface(result), title="Bowl")
    page = (tmp_path / "bowl.html").read_text(encoding="utf-8")
    assert "points became an open surface in one piece" in page
    assert "genus of a closed surface" not in page


def test_colours_of_the_scan_and_places_in_doubt_are_drawn(ball, tmp_path):
    bowl = ball.points[ball.points[:, 2] < 4.0]
    red = torch.tensor([1.0, 0.0, 0.0]).double().expand(len(bowl), 3)
    normals = torch.nn.functional.normalize(bowl - 2.0, dim=1)
    result = surface(
        bowl, settings=Fast(grid=32), resolution=20, normals=normals, colours=red, lids="flat"
    )
    report.write(tmp_path / "bowl.html", report.surface(result), title="Bowl")
    page = (tmp_path / "bowl.html").read_text(encoding="utf-8")
    assert "Orientation unsure" not in page  # normals were given
    scan, mesh, doubt = (figure["data"][0] for figure in figures(page)[:3])
    assert set(scan["marker"]["color"]) == {"#ff0000"}
    assert set(mesh["vertexcolor"]) == {"#ff0000"}
    bare = result.sketch.scalars["doubt"] == 1.0
    assert [colour == "#d55e00" for colour in doubt["vertexcolor"]] == bare.tolist()
    assert 0.2 < float(bare.double().mean()) < 0.5
    assert "Orange: no points near" in page


def test_scan_mesh_cuts_and_residuals_are_drawn(page, ball):
    kinds = [[trace["type"] for trace in figure["data"]] for figure in figures(page)]
    assert "Orange: no points near" not in page
    assert kinds[0] == ["scatter3d"]
    assert kinds[1] == ["mesh3d"]
    assert kinds[2].count("surface") == 3
    assert "scatter3d" in kinds[2]
    assert kinds[3] == ["scatter"]


def test_the_histogram_counts_the_points(page):
    histogram = figures(page)[3]["data"][0]
    assert sum(histogram["y"][:-1]) == pytest.approx(800, abs=9)  # the farthest 1 % are beyond


@pytest.mark.parametrize("sides", [(1.0, 1.0, 1.0), (9.0, 1.0, 1.0), (1.0, 9.0, 0.0)])
def test_the_camera_sees_all_of_a_scan_however_it_is_turned(sides):
    draws = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)).double()
    points = (draws * torch.tensor(sides) + 3.0).numpy()
    scene = _turning(points).layout.scene
    placed = [
        (column - (low + high) / 2) / max(high - low, 1e-9) * scene.aspectratio[name]
        for name, column in zip("xyz", points.T, strict=True)
        for low, high in [scene[f"{name}axis"].range]
    ]
    farthest = np.linalg.norm(placed, axis=0).max()
    away = np.linalg.norm([scene.camera.eye[name] for name in "xyz"])
    assert farthest == pytest.approx(away * np.sin(np.pi / 8), rel=1e-3)
