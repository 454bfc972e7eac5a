"""Audits read from their folders: equal to what was measured, or refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import levelset
from levelset import auditing
from levelset.boundary import SoftplusSurrogate
from levelset.errors import RunError


def measured(out: Path, **options: Any) -> levelset.auditing.Audit:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    points = torch.rand(12, 3, generator=generator)
    with torch.no_grad():
        labels = model(points).argmax(1)
    settings: Any = {"effort": "quick", "classes": ("a", "b", "c"), **options}
    return levelset.audit(model, points, labels, out=out, **settings)


def test_it_is_what_was_measured_to_the_bit(tmp_path: Path) -> None:
    one = measured(
        tmp_path / "run",
        measures=("distance", "curvature", "certificate"),
        radius=(0.1, 8 / 255),
        smoothing=SoftplusSurrogate(5.0),
    )
    other = auditing.read(tmp_path / "run")
    assert torch.equal(one.points, other.points)
    assert list(one.columns) == list(other.columns)
    for name, column in one.columns.items():
        assert torch.equal(column.nan_to_num(-7.0), other.columns[name].nan_to_num(-7.0)), name
    assert one.norms == other.norms
    for norm in one.norms:
        assert torch.equal(one.witnesses[norm].nan_to_num(), other.witnesses[norm].nan_to_num())
    assert (one.classes, one.bounds, one.measures) == (other.classes, other.bounds, other.measures)
    assert one.summary() == other.summary()
    assert one.settings["smoothing"] == other.settings["smoothing"]
    assert repr(one.radii) == repr(other.radii)
    assert other.name == "run"
    assert auditing.read(tmp_path / "run", name="mine").name == "mine"


def test_what_is_no_whole_audit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no audit: it has no manifest.json"):
        auditing.read(tmp_path)
    folder = tmp_path / "run"
    measured(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    summary = (folder / "summary.json").read_text()
    (folder / "summary.json").unlink()
    with pytest.raises(RunError, match=r"is not finished. Go on with it by `--resume`"):
        auditing.read(folder)
    (folder / "summary.json").write_text(summary)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "options": {"norms": ["2"]}}))
    with pytest.raises(RunError, match=r"manifest.json is not that of an audit: KeyError"):
        auditing.read(folder)
    other = {**manifest, "model": "another"}
    (folder / "manifest.json").write_text(json.dumps(other))
    with pytest.raises(RunError, match=r"part 0 is damaged, or of another run. Measure again"):
        auditing.read(folder)
