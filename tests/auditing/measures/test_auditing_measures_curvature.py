import json

import pytest
import torch
from torch import nn

from levelset import LogitDifference, audit
from levelset.auditing._measures._curvature import choose_smoothing, curvature_columns
from levelset.boundary import CentralDifference, GaussianSmoothing, SoftplusSurrogate, curvature
from levelset.errors import FieldError, ParameterError, RunError


def test_the_columns_are_the_curvatures_against_the_runner_up(settled, noise):
    model = settled(nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 4)))
    points = noise(6, 8, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    found = curvature_columns(model, points, SoftplusSurrogate(5.0), None, generator)
    pairs = model(points).topk(2).indices
    whole = curvature(
        LogitDifference(model), points, labels=pairs, level=None, smoothing=SoftplusSurrogate(5.0)
    )
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(found["curvature_largest"], whole.principal[:, 0], **close)
    torch.testing.assert_close(found["curvature_smallest"], whole.principal[:, -1], **close)
    torch.testing.assert_close(found["curvature_mean"], whole.mean, **close)
    assert torch.equal(found["curvature_rival"], pairs[:, 1])


class Hidden(nn.Module):
    """A ReLU that does not call itself one."""

    def forward(self, points):
        return (points + points.abs()) / 2


def chosen(model, points, wanted="auto", bounds=(0.0, 1.0)):
    return choose_smoothing(model, points, wanted, bounds, None)


def test_the_smoothing_fits_the_model(settled, noise):
    points = noise(3, 5, dtype=torch.float32)
    smooth = settled(nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)))
    hidden = settled(nn.Sequential(nn.Linear(5, 9), Hidden(), nn.Linear(9, 3)))
    rectified = settled(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)))
    linear = settled(nn.Linear(5, 3))
    assert chosen(smooth, points) is None
    assert chosen(rectified, points) == SoftplusSurrogate(5.0)
    assert chosen(hidden, points, bounds=(-1.0, 1.0)) == GaussianSmoothing(0.2, 100)
    assert chosen(hidden, points, bounds=(0.0, torch.inf)) == GaussianSmoothing(0.1, 100)
    assert chosen(smooth, points, CentralDifference(0.1)) == CentralDifference(0.1)
    assert chosen(linear, points) == GaussianSmoothing(0.1, 100)
    flat = curvature_columns(linear, points, chosen(linear, points), None, torch.Generator())
    assert (flat["curvature_mean"].abs() < 1e-4).all()
    with pytest.raises(FieldError, match="is identically zero"):
        chosen(rectified, points, None)
    with pytest.raises(FieldError, match="must find a ReLU to replace"):
        chosen(smooth, points, SoftplusSurrogate(1.0))


class Saturating(nn.Module):
    """Smooth, and exactly linear where the first number is 0 or less."""

    def forward(self, points):
        bend = torch.where(points[:, 0] > 0, points.square().sum(1), 0.0)
        return torch.stack([points.sum(1) + bend, -points.sum(1)], 1)


@pytest.mark.parametrize("e", [4, 300])
def test_a_flat_input_changes_no_number_of_the_others(noise, e):
    model = Saturating()
    points = noise(5, e, dtype=torch.float32)
    points[:, 0] = torch.tensor([1.0, 1.0, 0.0, 1.0, -1.0])
    used = chosen(model, points)
    assert used is None
    assert chosen(model, points[:1]) is None
    assert chosen(model, points[2:]) is None  # the first is flat
    seeded = torch.Generator().manual_seed
    alone = curvature_columns(model, points[:1], used, None, seeded(0))
    whole = curvature_columns(model, points, used, None, seeded(0))
    for name, column in alone.items():
        torch.testing.assert_close(whole[name][:1], column)
    wanted = [True, True, False, True, False]
    assert whole["curvature_mean"].isfinite().tolist() == wanted
    assert whole["curvature_principal"].isfinite().all(1).tolist() == wanted


def test_profiles_are_whole_for_small_inputs_and_ends_of_large_ones():
    class Bowl(nn.Module):
        def __init__(self, bends):
            super().__init__()
            self.bends = bends

        def forward(self, points):
            field = 0.5 * (self.bends * points.square()).sum(1) + points[:, 0]
            return torch.stack([1.0 + field, -1.0 - field], 1)

    for e, wanted in ((6, 5), (300, 10)):
        bends = torch.zeros(e)
        bends[1:6], bends[-1] = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]), -3.0
        found = curvature_columns(Bowl(bends), torch.zeros(2, e), None, None, torch.Generator())
        profile = found["curvature_principal"]
        assert profile.shape == (2, wanted)
        top = [5.0, 4.0, 3.0, 2.0] if e == 6 else [5.0, 4.0, 3.0, 2.0, 1.0]
        assert profile[0, : len(top)].tolist() == pytest.approx(top, abs=1e-3)
        assert float(profile[0, -1]) == pytest.approx(-3.0, abs=1e-3)


def test_one_number_an_input_has_no_curvature():
    model = nn.Linear(1, 2)
    points = torch.rand(3, 1)
    used = chosen(model, points)
    found = curvature_columns(model, points, used, None, torch.Generator())
    assert found["curvature_mean"].isnan().all()
    assert "curvature_principal" not in found


def test_where_no_level_set_passes_there_is_no_number(noise):
    class Half(nn.Module):
        def forward(self, points):
            return torch.stack([points[:, 0].relu(), points[:, 0].relu() + points[:, 1].relu()], 1)

    points = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    found = curvature_columns(Half(), points, SoftplusSurrogate(5.0), None, torch.Generator())
    assert found["curvature_mean"].isfinite().tolist() == [True, False]


def test_an_audit_measures_it_and_resumes(settled, tmp_path):
    model = settled(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)))
    points = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
    labels = model(points).argmax(1)
    how = {"measures": ("curvature",), "out": tmp_path / "run", "smoothing": CentralDifference(0.1)}
    first = audit(model, points, labels, **how)
    again = audit(model, points, labels, **how, resume=True)
    assert first.columns["curvature_principal"].shape == (7, 4)
    for name, column in first.columns.items():
        assert torch.equal(column, again.columns[name]), name
    written = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert written["options"]["smoothing"] == "CentralDifference(h=0.1)"
    assert first.settings == {"smoothing": CentralDifference(0.1)}
    found = first.summary()
    assert found["curvature_found"] == 7
    for name in ("mean", "largest", "smallest"):
        column = first.columns[f"curvature_{name}"]
        assert found[f"curvature_{name}_median"] == pytest.approx(float(column.median()))
    with pytest.raises(RunError, match=r"smoothing was CentralDifference\(h=0.1\), is Softplus"):
        audit(model, points, labels, **{**how, "smoothing": "auto"}, resume=True)


@pytest.mark.messages
def test_a_smoothing_that_is_none_is_refused(settled):
    model, points = settled(nn.Linear(2, 2)), torch.rand(2, 2)
    with pytest.raises(ParameterError, match="`smoothing` is for the measure curvature"):
        audit(model, points, torch.zeros(2).long(), smoothing=None)
    with pytest.raises(
        ParameterError,
        match=r"`smoothing` must be one of CentralDifference, .* or one of auto, or None, got",
    ):
        audit(model, points, torch.zeros(2).long(), measures=("curvature",), smoothing="softly")
