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
    with pytest.raises(ParameterError, match="`count` must lie in 1 to 7"):
        loss_curvature(net, points, count=8)
    with pytest.raises(FieldError, match="must return logits"):
        loss_curvature(lambda x: x.sum(1), points)
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
