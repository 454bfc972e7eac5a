import pytest
import torch

from levelset import report
from levelset.boundary import curvature
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
        curvature_smoothing=torch.ones(n).long(),
    )  # fmt: skip
    return audit


def test_an_audit_that_measured_curvature_has_a_section_about_it(make_audit):
    assert "Curvature" not in [section.title for section in report.audit(make_audit())]
    sections = {section.title: section for section in report.audit(bent(make_audit()))}
    assert "softplus of sharpness 5" in sections["Curvature"].text
    assert "1 inputs lie on no level set" in sections["Curvature"].text
    assert sections["Curvature"].content.markup.count("data-figure") == 3


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
