"""The page about a plane: its numbers are those of the result, its figure holds the boundary."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from levelset import report
from levelset.boundary import exact_section, section


@pytest.fixture
def plane(settled):
    model = settled(nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 3)), 4)
    return model, torch.zeros(2), *torch.eye(2)


def figure_of(sections):
    content = next(each.content for each in sections if each.title == "The plane")
    text = re.search(r'<script type="application/json">(.*?)</script>', content.markup, re.DOTALL)
    return json.loads(text.group(1))


def values(axis):
    return np.array([np.nan if each is None else each for each in axis])


def test_regions_classes_and_boundaries(plane):
    result = exact_section(*plane, extent=2.0)
    marks = {"<a>": (0.0, 0.5)}
    sections = report.section(result, marks=marks, classes=["x", "y", "z"], text="A plane.")
    by_title = {each.title: each for each in sections}
    table = by_title["Classes"].content
    assert sum(float(share.rstrip("%")) for share in table["share"]) == pytest.approx(100, abs=0.02)
    assert set(table["class"]) <= {"x", "y", "z"}
    lengths = sum(map(float, by_title["Boundaries"].content["length"]))
    assert lengths == pytest.approx(float(result.lengths.sum()), rel=1e-3)
    numbers = by_title["Linear regions"].content
    assert numbers["value"][0] == str(result.linear_regions)
    figure = figure_of(sections)
    lines = {trace["name"]: trace for trace in figure["data"]}
    x = values(lines["boundary"]["x"])
    drawn = x[np.isfinite(x)]
    expected = np.unique(result.boundary[..., 0].numpy())
    assert np.abs(expected[None] - drawn[:, None]).min(0).max() < 1e-6
    assert np.abs(expected[None] - drawn[:, None]).min(1).max() < 1e-6
    assert "<a>" not in json.dumps(figure)
    assert figure["layout"]["images"][0]["source"].startswith("data:image/png")


def test_a_traced_plane_with_pixels_and_without(plane):
    traced = exact_section(*plane, extent=2.0, route="tracing")
    titles = [each.title for each in report.section(traced)]
    assert titles == ["At a glance", "The plane", "Classes", "Boundaries"]
    assert "images" not in figure_of(report.section(traced))["layout"]
    pixels = section(*plane, extent=2.0, resolution=16)
    assert "images" in figure_of(report.section(traced, pixels=pixels))["layout"]


def test_an_estimate_has_two_digits(plane):
    traced = exact_section(*plane, extent=2.0, route="tracing")
    for count, words in ((161_334_153, "160 million"), (2_073_455, "2.1 million"), (4567, "4,600")):
        first = report.section(dataclasses.replace(traced, linear_regions=count))[0]
        assert f"about {words}<" in first.content.markup


def test_a_sampled_plane_with_pictures(plane):
    sampled = section(*plane, extent=2.0, resolution=16)
    first, *rest = report.section(
        sampled, marks={"a": (0.0, 0.0)}, points=torch.rand(1, 1, 4, 4), notes=["a note"]
    )
    assert "Sampled at 16 by 16 pixels" in first.text
    assert "a note" in first.content.markup
    assert [each.title for each in rest] == ["The plane", "Classes"]


def test_with_a_name_it_is_one_section(plane):
    (only,) = report.section(exact_section(*plane, extent=2.0), name="input 3", text="A plane.")
    assert only.title == "A plane through input 3"
    assert only.text.startswith("A plane.")
    assert "Boundary length" in only.content.markup
    assert 'type="application/json"' in only.content.markup
