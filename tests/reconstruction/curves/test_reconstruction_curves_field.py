import numpy as np
import pytest
import torch

from levelset import Projection, attach, check_field, project
from levelset.reconstruction._curves._field import CurveField
from levelset.reconstruction._curves._ordering import Path
from levelset.reconstruction._curves._smoothing import smooth_curve


def smooth(axes, *, share=1.0):
    turn = 2 * np.pi * share * np.arange(600) / 600
    points = np.stack([np.cos(turn), 0.6 * np.sin(turn), 0.3 * np.sin(2 * turn)], 1)[:, :axes]
    return smooth_curve(points, Path(points[::15], closed=share == 1.0))


@pytest.fixture(params=[(3, 1.0), (3, 0.7), (2, 1.0)], ids=["loop", "arc", "plane"])
def case(request):
    curve = smooth(request.param[0], share=request.param[1])
    return curve, CurveField([curve]).double()


def test_it_vanishes_on_the_curve_and_is_the_distance_beside_it(case, noise):
    curve, field = case
    inner = curve.evenly(400)[10:-10]
    on = torch.from_numpy(curve.at(inner))
    with torch.no_grad():
        assert float(field(on).norm(dim=1).max()) < 1e-4
        away = on[::4] + 0.03 * noise(*on[::4].shape)
        whole = torch.from_numpy(curve.at(np.linspace(0, 1, 20_001)))
        distance = torch.cdist(away, whole).min(1).values
        beside = (torch.cdist(away, whole).argmin(1) - 10_000).abs() < 9_900
        error = (field(away).norm(dim=1) - distance).abs()[beside]
    assert float(error.max()) < 0.1 * 0.03


def test_projection_ends_on_the_curve(case, noise):
    curve, field = case
    start = torch.from_numpy(curve.at(curve.evenly(100)[5:-5]))
    found = project(field, start + 0.02 * noise(*start.shape), tol=1e-10)
    assert bool(found.converged.all())
    whole = torch.from_numpy(curve.at(np.linspace(0, 1, 20_001)))
    assert float(torch.cdist(found.points, whole).min(1).values.max()) < 3e-4


def test_frames_are_orthonormal_and_turn_little(case):
    curve, field = case
    frames = torch.cat([field.tangents[:, None], field.normals], 1).detach()
    gram = frames @ frames.transpose(1, 2)
    assert float((gram - torch.eye(frames.shape[1])).abs().max()) < 1e-5
    ring = torch.cat([frames, frames[:1]]) if curve.closed else frames
    assert float((ring[1:] - ring[:-1]).norm(dim=(1, 2)).max()) < 0.2


def test_in_the_plane_the_inside_is_negative():
    for curve in (smooth(2), smooth_curve(*_reversed())):
        field = CurveField([curve])
        with torch.no_grad():
            values = field(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.55], [0.0, 0.65]]))
        assert (values.flatten() > 0).tolist() == [False, True, False, True]


def _reversed():
    turn = -2 * np.pi * np.arange(600) / 600
    points = np.stack([np.cos(turn), 0.6 * np.sin(turn)], 1)
    return points, Path(points[::15], closed=True)


def test_it_is_a_field_like_any_other(case, noise):
    _, field = case
    axes = field.anchors.shape[1]
    check_field(field, noise(20, axes)).raise_if_unfit()
    samples = attach(field, Projection.at(field, noise(5, axes)))
    gradients = torch.autograd.grad(samples.sum(), list(field.parameters()))
    assert all(float(g.abs().max()) > 0 for g in gradients)
