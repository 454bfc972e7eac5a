import json

import pytest
import torch
from torch import nn

from levelset import audit
from levelset.boundary import certified_radius


@pytest.fixture
def model(settled):
    return settled(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 1)


def test_a_row_says_between_what_the_boundary_lies(model, noise, tmp_path):
    points = torch.sigmoid(noise(9, 4)).float()
    labels = model(points).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    result = audit(
        model, points, labels, measures=("distance", "certificate"), norms=("inf",),
        effort="quick", out=tmp_path / "run",
    )  # fmt: skip
    low, high = result.columns["certified_inf"], result.columns["distance_inf"]
    torch.testing.assert_close(low, certified_radius(model, points, labels))
    assert bool((low <= high).all())
    assert not low[:2].any()
    assert bool((low[2:] > 0).all())
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["certified_found"] == 7
    assert written["certified_inf_median"] == pytest.approx(float(low[2:].median()))


def test_it_may_be_measured_alone(model, noise):
    points = torch.sigmoid(noise(5, 4)).float()
    result = audit(model, points, model(points).argmax(1), measures="certificate")
    assert result.norms == ()
    assert result.measures == ("certificate",)
    assert bool((result.columns["certified_inf"] > 0).all())


def test_without_an_input_classified_right_there_is_no_median(model, noise):
    points = torch.sigmoid(noise(3, 4)).float()
    labels = (model(points).argmax(1) + 1) % 3
    summary = audit(model, points, labels, measures="certificate").summary()
    assert summary["certified_found"] == 0
    assert "certified_inf_median" not in summary


def test_what_is_certain_everywhere_is_left_out_of_the_median(model, noise):
    points = torch.sigmoid(noise(4, 4)).float()
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
        model[2].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    summary = audit(model, points, model(points).argmax(1), measures="certificate").summary()
    assert summary["certified_found"] == 4
    assert "certified_inf_median" not in summary
