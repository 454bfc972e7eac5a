import torch
from torch import nn

from levelset import LogitDifference, audit
from levelset.auditing._curvature import curvature_columns
from levelset.boundary import SoftplusSurrogate, curvature

NAMES = ("curvature_largest", "curvature_smallest", "curvature_mean")


def test_the_columns_are_the_curvatures_against_the_runner_up(settled, noise):
    model = settled(nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 4)))
    points = noise(6, 8, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    found = curvature_columns(model, points, 1.0, None, generator)
    pairs = model(points).topk(2).indices
    whole = curvature(
        LogitDifference(model), points, labels=pairs, level=None, smoothing=SoftplusSurrogate(5.0)
    )
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(found["curvature_largest"], whole.principal[:, 0], **close)
    torch.testing.assert_close(found["curvature_smallest"], whole.principal[:, -1], **close)
    torch.testing.assert_close(found["curvature_mean"], whole.mean, **close)
    assert torch.equal(found["curvature_rival"], pairs[:, 1])
    assert (found["curvature_smoothing"] == 1).all()


class Hidden(nn.Module):
    """A ReLU that does not call itself one."""

    def forward(self, points):
        return points.clamp(min=0.0)


def test_smooth_hidden_and_flat_models(settled, noise):
    points = noise(3, 5, dtype=torch.float32)
    smooth = settled(nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)))
    hidden = settled(nn.Sequential(nn.Linear(5, 9), Hidden(), nn.Linear(9, 3)))
    linear = settled(nn.Linear(5, 3))
    seeded = torch.Generator().manual_seed(0)
    assert (curvature_columns(smooth, points, 1.0, 2, seeded)["curvature_smoothing"] == 0).all()
    assert (curvature_columns(hidden, points, 1.0, None, seeded)["curvature_smoothing"] == 2).all()
    flat = curvature_columns(linear, points, 1.0, None, seeded)
    assert (flat["curvature_smoothing"] == 2).all()
    assert (flat["curvature_mean"].abs() < 1e-4).all()


def test_where_no_level_set_passes_there_is_no_number(noise):
    class Half(nn.Module):
        def forward(self, points):
            return torch.stack([points[:, 0].relu(), points[:, 0].relu() + points[:, 1].relu()], 1)

    points = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    found = curvature_columns(Half(), points, 1.0, None, torch.Generator().manual_seed(0))
    assert found["curvature_mean"].isfinite().tolist() == [True, False]


def test_an_audit_measures_it_and_resumes(settled, tmp_path):
    model = settled(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)))
    points = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
    labels = model(points).argmax(1)
    first = audit(model, points, labels, measures=("curvature",), out=tmp_path / "run")
    again = audit(model, points, labels, measures=("curvature",), out=tmp_path / "run", resume=True)
    for name in NAMES:
        assert torch.equal(first.columns[name], again.columns[name])
