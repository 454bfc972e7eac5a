"""The sections about noise: what is drawn, what is counted, what is left out."""

import math

import numpy as np
import pytest
import torch

from levelset import report
from levelset.boundary import persistence
from levelset.errors import ParameterError, ShapeError
from levelset.report import _noise
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
    assert table["persistence"][1] == pytest.approx(
        float(noisy.columns["sigma_star"][members].double().median())
    )
    assert "Median persistence" in sections["At a glance"].content.markup


def test_an_audit_of_persistence_alone_is_a_page_too(make_audit, tmp_path):
    audit = with_noise(make_audit(norms=()))
    sections = report.audit(audit)
    assert [s.title for s in sections] == [
        "At a glance", "Noise", "Noise by predicted class", "All inputs",
    ]  # fmt: skip
    assert sections[-1].content["sigma_star"] == audit.columns["sigma_star"].tolist()
    page = tmp_path / "page.html"
    report.write(page, sections, title="Noise")
    assert "Noise by predicted class" in page.read_text(encoding="utf-8")


def test_histograms_share_their_bins_and_hold_every_finite_value(make_audit):
    audits = [with_noise(make_audit(name="a")), with_noise(make_audit(name="b"), scale=2.0)]
    values = {audit.name: audit.columns["sigma_star"] for audit in audits}
    figure = _noise._histogram(values, "Persistence")
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


def test_class_frequencies_draw_the_largest_classes_and_the_rest_as_one():
    shares = torch.zeros(3, 12, dtype=torch.float64)
    shares[0, 4] = 1.0
    shares[1] = 1.0 / 12
    shares[2, :6] = 1.0 / 6
    sigmas = torch.tensor([0.0, 0.5, 1.0])
    section = report.class_frequencies(shares, sigmas, name="input <3>")
    names = [trace.name for trace in section.content.data]
    assert len(names) == _noise.CURVES + 1
    assert names[-1] == "other classes"
    total = np.sum([trace.y for trace in section.content.data], axis=0)
    np.testing.assert_allclose(total, 1.0)
    thick = [trace.name for trace in section.content.data if trace.line.width == 4]
    assert thick == ["4"]
    assert section.title == "Classes around input <3>"


def test_copies_stand_under_their_noise():
    shares = torch.full((2, 2), 0.5, dtype=torch.float64)
    sigmas = torch.tensor([0.0, 2.0])
    copies = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    figure = report.class_frequencies(shares, sigmas, copies=copies).content
    assert [image.x for image in figure.layout.images] == [0.0, 1.0, 2.0]
    assert all(image.source.startswith("data:image/png;base64,") for image in figure.layout.images)


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
