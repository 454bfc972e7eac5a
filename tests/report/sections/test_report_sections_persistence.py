"""The sections about noise: what is drawn, what is counted, what is left out."""

import base64
import dataclasses
import io
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

from levelset import report
from levelset.boundary import persistence
from levelset.errors import ParameterError, ShapeError
from levelset.report import _class_frequencies
from levelset.report._sections import _persistence
from levelset.shapes import Orthant


def with_noise(audit, *, scale=1.0):
    n = len(audit)
    sigma = scale * (1.0 + torch.arange(n) / n)
    sigma[0], sigma[1] = math.inf, 0.0
    audit.columns.update(
        sigma_star=sigma, sigma_low=0.9 * sigma, sigma_high=1.1 * sigma,
        certified_radius=0.3 * sigma.nan_to_num(posinf=1.0), noise_rival=torch.zeros(n).long(),
    )  # fmt: skip
    return audit


def measured():
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    generator = torch.Generator().manual_seed(1)
    return persistence(Orthant(2, 3), points, tolerance=0.1, generator=generator)


def test_an_audit_that_measured_persistence_has_sections_about_it(make_audit):
    plain, noisy = make_audit(), with_noise(make_audit(name="noisy"))
    assert "Noise" not in [section.title for section in report.audit(plain)]
    sections = {section.title: section for section in report.audit(noisy)}
    assert "1 keep their class under any noise tried, not drawn" in sections["Noise"].text
    assert "1 lose it however little the noise, drawn at 0" in sections["Noise"].text
    table = sections["Noise by predicted class"].content
    assert table["class"] == list(noisy.classes)
    members = noisy.columns["prediction"] == 1
    assert table["inputs"][1] == int(members.sum())
    sigma = noisy.columns["sigma_star"][members]
    assert table["persistence"][1] == pytest.approx(np.median(sigma[sigma.isfinite()]))
    assert "Median persistence" in sections["At a glance"].content.markup


def test_an_audit_of_persistence_alone_is_a_page_too(make_audit, tmp_path):
    audit = with_noise(make_audit(norms=()))
    sections = report.audit(audit)
    assert [s.title for s in sections] == [
        "At a glance", "Noise", "Noise by predicted class", "All inputs",
    ]  # fmt: skip
    assert "data-download" in sections[-1].content.markup
    page = tmp_path / "page.html"
    report.write(page, sections, title="Noise")
    assert "Noise by predicted class" in page.read_text(encoding="utf-8")


def test_what_has_no_certified_radius_is_left_out_and_counted(make_audit):
    audit = with_noise(make_audit())
    audit.columns["certified_radius"][2:7] = math.nan
    sections = {section.title: section for section in report.audit(audit)}
    assert "5 without a certified radius, left out" in sections["Noise"].text
    assert "confidence of 95 %" in sections["Noise"].text
    assert "Gaussian noise" in sections["Noise"].text
    table = sections["Noise by predicted class"].content
    radius = audit.columns["certified_radius"][audit.columns["prediction"] == 2]
    assert table["certified radius"][2] == pytest.approx(np.median(radius[radius.isfinite()]))
    card = sections["At a glance"].content.markup
    assert f"radius is {audit.summary()['certified_radius_median']:.3g} (95" in card
    assert "without the 1 that keep it under any noise tried" in card
    audit.columns["certified_radius"][:] = math.nan
    sections = {section.title: section for section in report.audit(audit)}
    assert table.keys() == sections["Noise by predicted class"].content.keys()
    assert set(sections["Noise by predicted class"].content["certified radius"]) == {""}
    assert "radius is" not in sections["At a glance"].content.markup


def test_natural_and_adversarial_inputs_stand_side_by_side(make_audit):
    audit = with_noise(make_audit())
    sigma = torch.full((len(audit),), math.nan)
    assert "Natural against adversarial" not in [s.title for s in report.audit(audit)]
    audit.columns["sigma_star_adversarial"] = sigma
    assert "Natural against adversarial" not in [s.title for s in report.audit(audit)]
    sigma[5:9] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    section = {s.title: s for s in report.audit(audit)}["Natural against adversarial"]
    natural = np.median(audit.columns["sigma_star"][5:9])
    assert f"4 inputs, median persistence {natural:.3g}; of their adversarial inputs 0.25" in (
        section.text
    )
    assert "1.5 times as far as the witness" in section.text
    assert [trace.name for trace in section.content.data] == ["natural", "adversarial"]
    assert [sum(trace.y[:-1]) for trace in section.content.data] == [4, 4]
    other = with_noise(make_audit(name="other"))
    section = {s.title: s for s in report.audit([audit, other])}["Natural against adversarial"]
    assert [t.name for t in section.content.data] == ["model, natural", "model, adversarial"]


def test_histograms_share_their_bins_and_hold_every_finite_value(make_audit):
    audits = [with_noise(make_audit(name="a")), with_noise(make_audit(name="b"), scale=2.0)]
    values = {audit.name: audit.columns["sigma_star"] for audit in audits}
    figure = _persistence._histogram(values, "Persistence")
    for audit, trace in zip(audits, figure.data, strict=True):
        assert trace.name == audit.name
        assert sum(trace.y[:-1]) == len(audit) - 1
        np.testing.assert_array_equal(trace.x, figure.data[0].x)


def test_persistence_of_natural_and_perturbed_inputs_side_by_side(tmp_path):
    natural, perturbed = measured(), measured()[:4]
    sections = report.persistence({"natural": natural, "perturbed": perturbed})
    assert [trace.name for trace in sections[0].content.data] == ["natural", "perturbed"]
    table = sections[1].content
    assert sum(table["inputs, natural"]) == 6
    assert sum(table["inputs, perturbed"]) == 4
    assert "gamma = 0.7" in sections[0].text
    report.write(tmp_path / "page.html", sections, title="Persistence")
    assert report.persistence(natural)[1].content["inputs"] == table["inputs, natural"]
    with pytest.raises(ParameterError, match="must hold at least one point"):
        report.persistence({})


def test_the_table_has_a_row_for_each_class_that_is_met():
    result = measured()
    classes = torch.tensor([-1, 2_000_000, 3, 3, -1, 3])
    sigma = torch.tensor([1.0, 2.0, 996.7, 32.9, 3.0, math.inf])
    held = dataclasses.replace(result, classes=classes, sigma=sigma)
    table = report.persistence(held)[1].content
    assert table["class"] == ["-1", "3", "2000000"]
    assert table["inputs"] == [2, 3, 1]
    assert table["persistence"] == pytest.approx([2.0, 514.8, 2.0])
    few = dataclasses.replace(result, classes=torch.tensor([0, 1, 9, 1, 0, 1]))
    with pytest.raises(ParameterError, match="must name every class, 0 to 9, got 2 names"):
        report.persistence(few, classes=["x", "y"])
    named = report.persistence(few, classes=list("abcdefghij"))[1].content
    assert named["class"] == ["a", "b", "j"]


def test_class_frequencies_draw_the_largest_classes_and_the_rest_as_one():
    shares = torch.zeros(3, 12, dtype=torch.float64)
    shares[0, 4] = 1.0
    shares[1] = 1.0 / 12
    shares[2, :6] = 1.0 / 6
    sigmas = torch.tensor([0.0, 0.5, 1.0])
    section = report.class_frequencies(shares, sigmas, name="input <3>")
    names = [trace.name for trace in section.content.data]
    assert len(names) == _class_frequencies.CURVES + 1
    assert names[-1] == "other classes"
    total = np.sum([trace.y for trace in section.content.data], axis=0)
    np.testing.assert_allclose(total, 1.0)
    thick = [trace.name for trace in section.content.data if trace.line.width == 4]
    assert thick == ["4"]
    assert section.title == "Classes around input <3>"


def test_no_two_classes_share_a_colour_and_long_names_are_cut():
    shares = torch.full((2, 12), 1 / 12, dtype=torch.float64)
    names = [f"class number {k} with a long name" for k in range(12)]
    figure = report.class_frequencies(shares, torch.tensor([0.0, 1.0]), classes=names).content
    colours = [trace.line.color for trace in figure.data]
    assert len(set(colours)) == len(colours)
    assert max(len(trace.name) for trace in figure.data) <= 18


def test_one_noise_is_drawn_as_points():
    figure = report.class_frequencies(
        torch.tensor([[0.75, 0.25]]), torch.tensor([0.5]), copies=torch.zeros(3, 4, 4)
    ).content
    assert [trace.mode for trace in figure.data] == ["markers", "markers"]
    assert_pictures_fit(figure)


def assert_pictures_fit(figure):
    """All pictures lie on the axis, apart from one another, above the curves and in the figure."""
    low, high = figure.layout.xaxis.range
    images = figure.layout.images
    edges = [(image.x - image.sizex / 2, image.x + image.sizex / 2) for image in images]
    assert low <= edges[0][0]
    assert edges[-1][1] <= high
    assert all(a[1] < b[0] for a, b in itertools.pairwise(edges))
    bottom = figure.layout.yaxis.domain[1]
    assert all(bottom < image.y - image.sizey <= image.y <= 1.0 for image in images)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_copies_stand_over_their_noise_whole(count):
    shares = torch.full((2, 2), 0.5, dtype=torch.float64)
    sigmas = torch.tensor([0.0, 2.0])
    copies = torch.rand(count, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    figure = report.class_frequencies(shares, sigmas, copies=copies).content
    places = [image.x for image in figure.layout.images]
    assert places == pytest.approx(np.linspace(0.0, 2.0, count).tolist())
    assert all(image.source.startswith("data:image/png;base64,") for image in figure.layout.images)
    assert_pictures_fit(figure)
    low, high = figure.layout.xaxis.range
    assert low <= 0.0 < 2.0 <= high


def test_copies_are_shown_within_the_bounds_of_the_data():
    copies = torch.tensor([[0.0, 51.0], [102.0, 300.0]])[None]
    figure = report.class_frequencies(
        torch.ones(2, 1), torch.tensor([0.0, 1.0]), copies=copies, bounds=(0.0, 255.0)
    ).content
    data = base64.b64decode(figure.layout.images[0].source.split(",", 1)[1])
    seen = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(seen, [[0, 51], [102, 255]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sigmas": torch.zeros(2)}, r"got \(3, 4\), \(2,\) and none"),
        ({"classes": ["a"]}, r"got \(3, 4\), \(3,\) and 1"),
        ({"copies": torch.zeros(2, 7, 5, 5)}, r"`copies` must be pictures.*got \(2, 7, 5, 5\)"),
    ],
)
def test_what_does_not_match_is_refused(arguments, words):
    given = {"sigmas": torch.arange(3.0), **arguments}
    with pytest.raises(ShapeError, match=words):
        report.class_frequencies(torch.full((3, 4), 0.25), given.pop("sigmas"), **given)
