import json
import math

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from levelset import audit
from levelset.boundary import robust_accuracy
from levelset.errors import ParameterError, RunError


@pytest.fixture
def model(settled):
    return settled(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 1)


@pytest.fixture
def points(noise):
    return torch.sigmoid(noise(12, 4)).float()


def test_a_row_says_whether_it_withstands_and_the_summary_how_many(model, points, tmp_path):
    labels = model(points).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    result = audit(
        model, points, labels, norms="inf", radius=[0.05, 8 / 255], effort="quick",
        out=tmp_path / "run",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    alone = robust_accuracy(model, points, labels, radius=0.05, effort="quick", generator=generator)
    assert result.measures == ("distance", "robust_accuracy")
    assert torch.equal(result.columns["robust_inf_0.05"], alone.robust)
    assert 0 < alone.robust.sum() < 10
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["robust_accuracy_inf_0.05"] == alone.accuracy
    assert (
        summary["robust_accuracy_inf_0.05_low"], summary["robust_accuracy_inf_0.05_high"]
    ) == alone.interval  # fmt: skip
    assert (result.columns["robust_inf_0.0313725"] >= alone.robust).all()
    # What a witness was found for within the radius does not withstand, and the other way round.
    found = result.columns["distance_inf"] <= 0.05
    assert not (found & alone.robust).any()
    table = pq.read_table(tmp_path / "run" / "measurements")
    assert table["robust_inf_0.05"].to_pylist() == alone.robust.tolist()
    words = set(table["broken_by_inf_0.05"].to_pylist())
    assert words <= {None, "fgsm", "pgd", "direct_boundary", "square"}


def test_where_the_parts_are_cut_changes_nothing(model, points, monkeypatch):
    labels = model(points).argmax(1)
    options = {"measures": "robust_accuracy", "radius": 0.06, "effort": "quick", "seed": 3}
    whole = audit(model, points, labels, **options)
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 20)
    cut = audit(model, points, labels, **options, batch_size=2)
    for name in ("robust_inf_0.06", "broken_by_inf_0.06"):
        assert torch.equal(cut.columns[name], whole.columns[name]), name


def test_l2_is_taken_where_it_is_the_only_norm(model, points):
    result = audit(
        model, points, model(points).argmax(1), measures="robust_accuracy", norms=[2.0],
        radius=0.1, effort="quick",
    )  # fmt: skip
    assert result.norms == ()
    assert [(r.norm, r.size) for r in result.radii] == [(2.0, 0.1)]
    assert "robust_2_0.1" in result.columns
    both = audit(
        model, points, model(points).argmax(1), measures="robust_accuracy", radius=0.1,
        effort="quick",
    )  # fmt: skip
    assert both.radii[0].norm == math.inf


def test_a_run_with_another_radius_is_another_run(model, points, tmp_path):
    labels = model(points).argmax(1)
    options = {"measures": "robust_accuracy", "effort": "quick", "out": tmp_path / "run"}
    audit(model, points, labels, radius=0.1, **options)
    again = audit(model, points, labels, radius=0.1, resume=True, **options)
    assert again.radii[0].size == 0.1
    with pytest.raises(RunError, match=r"radii was \(inf_0.1,\), is \(inf_0.2,\)"):
        audit(model, points, labels, radius=0.2, resume=True, **options)


@pytest.mark.messages
def test_what_is_refused(model, points):
    labels = model(points).argmax(1)
    with pytest.raises(ParameterError, match="`radius` must be given for the measure robust"):
        audit(model, points, labels, measures="robust_accuracy")
    with pytest.raises(ParameterError, match="audit: `radius` must be positive, got 0"):
        audit(model, points, labels, radius=[0.1, 0.0])
    with pytest.raises(ParameterError, match="`norms` must name one at least for `radius`"):
        audit(model, points, labels, measures="robust_accuracy", radius=0.1, norms=[])
