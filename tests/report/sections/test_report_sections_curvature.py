import json
import re

import pytest
import torch

from levelset import report
from levelset.boundary import SoftplusSurrogate, curvature
from levelset.boundary.detect import Roc
from levelset.errors import ParameterError
from levelset.shapes import Sphere


def bent(audit):
    n = len(audit)
    values = torch.linspace(-1.0, 1.0, n)
    values[0] = torch.nan
    audit.columns.update(
        curvature_largest=values + 1.0, curvature_smallest=values - 1.0, curvature_mean=values,
        curvature_mean_error=0.1 * values.abs(), curvature_rival=torch.zeros(n).long(),
        curvature_principal=values[:, None] + torch.linspace(1.0, -1.0, 10),
    )  # fmt: skip
    audit.settings["smoothing"] = SoftplusSurrogate(5.0)
    return audit


def section_of(*audits):
    (section,) = [part for part in report.audit(audits) if part.title == "Curvature"]
    return section


def figures_of(section):
    found = re.findall(
        r'<script type="application/json"[^>]*>(.*?)</script>', section.content.markup
    )
    return [json.loads(text) for text in found]


def test_an_audit_that_measured_curvature_has_a_section_about_it(make_audit):
    assert "Curvature" not in [section.title for section in report.audit(make_audit())]
    section = section_of(bent(make_audit()))
    assert "by a softplus of sharpness 5 for each ReLU. 1 input has no curvature" in section.text
    assert "Of the 15 principal curvatures of each input the 5 largest and" in section.text
    profile, *histograms = figures_of(section)
    (line,) = profile["data"]
    assert line["y"][5] is None
    assert line["y"][0] - line["y"][-1] == pytest.approx(2.0)
    assert profile["layout"]["xaxis"]["ticktext"] == [*"12345", *map(str, range(11, 16))]
    assert "1 / unit of the inputs" in profile["layout"]["yaxis"]["title"]["text"]
    assert len(histograms) == 3
    for figure in histograms:
        assert sum(figure["data"][0]["y"][:-1]) == 29
        assert "1 / unit of the inputs" in figure["layout"]["xaxis"]["title"]["text"]
        assert figure["layout"]["xaxis"]["exponentformat"] == "power"
        assert figure["layout"]["yaxis"]["dtick"] == 1


def test_the_headline_tells_the_curvature_and_its_smoothing(make_audit):
    page = report.audit(bent(make_audit()))[0].content.markup
    assert "Median mean curvature" in page
    assert "by a softplus of sharpness 5 for each ReLU; median of the largest" in page


def test_histograms_of_two_audits_share_their_bins_and_those_of_two_smoothings_do_not(make_audit):
    one, two = bent(make_audit(name="one")), bent(make_audit(name="two"))
    two.columns["curvature_mean"] = 10.0 * two.columns["curvature_mean"]
    a, b = figures_of(section_of(one, two))[1]["data"]
    assert a["x"] == b["x"]
    two.settings["smoothing"] = SoftplusSurrogate(2.0)
    apart = section_of(one, two)
    assert len(figures_of(apart)) == 8
    assert all(len(figure["data"]) == 1 for figure in figures_of(apart))
    words = figures_of(apart)[5]["layout"]["xaxis"]["title"]["text"]
    assert words.endswith("<br>by a softplus of sharpness 2 for each ReLU")


def test_where_there_is_nothing_to_draw_words_say_so(make_audit):
    empty = bent(make_audit())
    for name in ("mean", "largest", "smallest", "principal"):
        empty.columns[f"curvature_{name}"].fill_(torch.nan)
    assert section_of(empty).content is None
    assert "30 inputs have no curvature" in section_of(empty).text
    single = bent(make_audit(shape=(1,)))
    del single.columns["curvature_principal"]
    assert section_of(single).content is None
    assert "The inputs are single numbers" in section_of(single).text
    assert "no curvature" not in section_of(single).text
    lost = curvature(Sphere(), torch.eye(3))
    lost.principal.fill_(torch.nan)
    lost.mean.fill_(torch.nan)
    (section,) = report.curvature(lost)
    assert section.content is None
    assert "No point has principal curvatures to show." in section.text
    roc = Roc.of(torch.rand(9), torch.rand(8), generator=torch.Generator().manual_seed(0))
    (section,) = report.detection(roc, torch.zeros(0).long())
    assert "No perturbed input was ranked." in section.text
    assert section.content.markup.count("data-figure") == 1


def test_audits_without_distances_have_the_same_table(make_audit):
    audit = bent(make_audit(norms=()))
    sections = report.audit(audit)
    assert [section.title for section in sections] == ["At a glance", "Curvature", "All inputs"]
    table = sections[-1].content.markup
    assert "data-search" in table
    assert "data-download" in table
    (book,) = [json.loads(t) for t in re.findall(r'id="book">(.*?)</script>', table)]
    assert book["pictures"] is not None
    assert book["classes"] == list(audit.classes)
    names = [column["name"] for column in book["audits"][0]["columns"]]
    assert "curvature_mean" in names
    assert "curvature_principal" not in names


def test_the_ends_of_a_profile_are_parted_and_must_be_named():
    few = curvature(Sphere(), torch.eye(9), count=2, ends="both")
    (section,) = report.curvature(few, ends="both")
    profile = figures_of(section)[0]
    assert profile["data"][0]["y"] == pytest.approx([1.0, 1.0, None, 1.0, 1.0])
    assert profile["layout"]["xaxis"]["ticktext"] == ["1", "2", "7", "8"]
    with pytest.raises(ParameterError, match="must hold all 8 principal curvatures, got 4"):
        report.curvature(few)
    (whole,) = report.curvature(curvature(Sphere(), torch.eye(9)))
    assert figures_of(whole)[0]["data"][0]["x"] == list(range(1, 9))


def test_curvatures_and_detections_have_sections(tmp_path):
    points = torch.eye(3)
    (section,) = report.curvature(
        {"a": curvature(Sphere(), points), "b": curvature(Sphere(), points)}
    )
    assert "the exact Hessian" in section.text
    roc = Roc.of(torch.rand(9), 0.5 + torch.rand(8), generator=torch.Generator().manual_seed(0))
    (found,) = report.detection(roc, torch.tensor([0, 0, 2]))
    assert f"Area under the curve {roc.area:.3f}" in found.text
    report.write(tmp_path / "page.html", [section, found, *report.detection(roc)], title="t")
    assert (tmp_path / "page.html").stat().st_size > 10_000
    with pytest.raises(ParameterError, match="must hold at least one point, got none"):
        report.curvature({})
