import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset.boundary import (
    CentralDifference,
    GaussianSmoothing,
    Lanczos,
    SoftplusSurrogate,
    loss_curvature,
)
from levelset.errors import FieldError, ParameterError, ShapeError


def model(settled, activation, d=7, k=4):
    return settled(
        nn.Sequential(nn.Linear(d, 12), activation, nn.Linear(12, k)), dtype=torch.float64
    )


def test_eigenvalues_are_those_of_autograd_s_hessian(settled, noise):
    net, points = model(settled, nn.Tanh()), noise(3, 7)
    labels = torch.tensor([0, 3, 1])
    found = loss_curvature(net, points, labels)
    for row in range(3):
        whole = torch.autograd.functional.hessian(
            lambda x, row=row: functional.cross_entropy(net(x[None]), labels[row : row + 1]),
            points[row],
        )
        torch.testing.assert_close(found.eigenvalues[row], torch.linalg.eigvalsh(whole).flip(0))
        torch.testing.assert_close(found.trace[row], whole.trace())
    torch.testing.assert_close(
        found.loss, functional.cross_entropy(net(points), labels, reduction="none").detach()
    )


def test_of_a_relu_network_it_is_the_softmax_s_alone(settled, noise):
    net, points = model(settled, nn.ReLU()), noise(2, 7)
    found = loss_curvature(net, points)
    for row in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda x: net(x[None])[0], points[row])
        p = net(points[row : row + 1]).softmax(1)[0].detach()
        whole = jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian
        torch.testing.assert_close(found.eigenvalues[row], torch.linalg.eigvalsh(whole).flip(0))
    assert (found.eigenvalues[:, 3:].abs() < 1e-12).all()


def test_few_by_lanczos_and_smoothed_ones(settled, noise):
    net, points = model(settled, nn.ReLU()), noise(3, 7)
    whole = loss_curvature(net, points, smoothing=SoftplusSurrogate(3.0))
    few = loss_curvature(
        net, points, count=2, ends="both", smoothing=SoftplusSurrogate(3.0), method=Lanczos(7)
    )
    expected = torch.cat([whole.eigenvalues[:, :2], whole.eigenvalues[:, -2:]], 1)
    torch.testing.assert_close(few.eigenvalues, expected)
    torch.testing.assert_close(few.trace, whole.trace)
    smooth = model(settled, nn.Tanh())
    exact = loss_curvature(smooth, points)
    near = loss_curvature(smooth, points, smoothing=CentralDifference(1e-3))
    torch.testing.assert_close(near.eigenvalues, exact.eigenvalues, rtol=1e-4, atol=1e-6)
    noisy = loss_curvature(
        smooth, points, smoothing=GaussianSmoothing(0.01, 2000),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert ((noisy.trace - exact.trace).abs() < 5.0 * noisy.trace_error).all()


@pytest.mark.messages
def test_bad_input_is_refused(settled, noise):
    net, points = model(settled, nn.Tanh()), noise(2, 7)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 3"):
        loss_curvature(net, points, torch.tensor([0, 4]))
    with pytest.raises(ParameterError, match="`count` must be an integer in 1 to 7"):
        loss_curvature(net, points, count=8)
    with pytest.raises(ParameterError, match="got the class CentralDifference"):
        loss_curvature(net, points, smoothing=CentralDifference)
    with pytest.raises(ParameterError, match=r"`smoothing` must be one of .* got 0\.1"):
        loss_curvature(net, points, smoothing=0.1)
    with pytest.raises(ShapeError, match=r"`labels` must be integers, got torch\.float64"):
        loss_curvature(net, points, [0.0, 1.0])
    with pytest.raises(ShapeError, match="must be float32 or float64"):
        loss_curvature(net, points.half())
    with pytest.raises(FieldError, match="`model` must return finite logits"):
        loss_curvature(lambda x: net(x) / 0.0, points)
    with pytest.raises(FieldError, match=r"must map points \(2, 7\) to \(2, k\), got \(2, 1, 7\)"):
        loss_curvature(lambda x: x.unsqueeze(1), points)
    with pytest.raises(ShapeError, match="must be floating point"):
        loss_curvature(net, points.long())
    empty = loss_curvature(net, points[:0], count=2, directions=False)
    assert empty.eigenvalues.shape == (0, 2)
    assert empty.summary() == {"points": 0}
    assert empty.directions.shape == (0, 0, 7)


def test_directions_are_left_out_on_request(settled, noise):
    net, points = model(settled, nn.Tanh()), noise(3, 7)
    bare = loss_curvature(net, points, directions=False)
    torch.testing.assert_close(bare.eigenvalues, loss_curvature(net, points).eigenvalues)
    assert bare.directions.shape == (3, 0, 7)


def test_where_the_model_is_certain_it_is_nan_and_the_others_are_measured(settled, noise):
    net, points = model(settled, nn.Tanh()).float(), noise(3, 7).float()

    def saturated(x):  # the second input's loss is a constant in float32
        return net(x) + 1e4 * ((x - points[1]).flatten(1).norm(dim=1) < 1e-3).unsqueeze(1) * top

    top = torch.tensor([1.0, 0.0, 0.0, 0.0])
    for options in ({}, {"count": 2, "method": Lanczos(7)}):
        found = loss_curvature(saturated, points, torch.tensor([0, 0, 0]), **options)
        others = loss_curvature(net, points[::2], torch.tensor([0, 0]), **options)
        assert found.eigenvalues[1].isnan().all()
        assert bool(found.trace[1].isnan())
        assert float(found.loss[1]) == 0.0
        torch.testing.assert_close(found.eigenvalues[::2], others.eigenvalues)
        assert found.summary()["largest"] == pytest.approx(float(others.eigenvalues.max()))


def test_under_noise_the_trace_has_an_honest_standard_error(settled, noise):
    net = model(settled, nn.ReLU(), d=7).float()
    points = noise(1, 7).float().expand(200, 7)
    for options in ({}, {"count": 2, "method": Lanczos(4, 4)}):
        found = loss_curvature(
            net, points, smoothing=GaussianSmoothing(0.3, 50),
            generator=torch.Generator().manual_seed(0), **options,
        )  # fmt: skip
        said = float(found.trace_error.square().mean().sqrt())
        assert 0.85 < float(found.trace.std()) / said < 1.15


def test_models_may_write_into_their_input(settled, noise):
    net, points = model(settled, nn.Tanh()), noise(3, 7)
    found = loss_curvature(lambda x: net(x.mul_(2.0)), points)
    torch.testing.assert_close(
        found.eigenvalues, loss_curvature(lambda x: net(2.0 * x), points).eigenvalues
    )
