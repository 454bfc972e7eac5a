import pytest
import torch
from torch import nn

from levelset._tools.random import Streams
from levelset.boundary import CentralDifference, GaussianSmoothing, SoftplusSurrogate
from levelset.boundary._second_order._hessian import OWN
from levelset.boundary._second_order._smoothing import Part
from levelset.networks import lenet
from levelset.training import initialise


def rows(n):
    return torch.arange(n)


@pytest.mark.parametrize("d", [3, 900])  # many points at once, and copies of one
def test_dense_is_autograd_s_hessian(settled, noise, d):
    field = settled(nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, 1)), dtype=torch.float64)
    points = noise(3, d)
    hessian = OWN.operator(Part("test", field, points, None, rows(3)))
    found = hessian.dense()
    for row in range(3):
        truth = torch.autograd.functional.hessian(lambda x: field(x[None]).sum(), points[row])
        torch.testing.assert_close(found[row], truth)
    assert torch.equal(found, found.transpose(1, 2))


def test_products_are_those_of_the_matrix(settled, noise):
    field = settled(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)), dtype=torch.float64)
    points, vectors = noise(4, 6, seed=1), noise(4, 6, seed=2)
    for smoothing in (SoftplusSurrogate(2.0), CentralDifference(0.3), GaussianSmoothing(0.3, 30)):
        streams = Streams(torch.Generator().manual_seed(0), points)
        hessian = smoothing.operator(Part("test", field, points, None, rows(4), streams))
        whole = hessian.dense()
        torch.testing.assert_close(
            hessian.product(vectors), torch.einsum("mij,mj->mi", whole, vectors)
        )


def test_pooled_convolutions_and_labels_in_float32():
    model = initialise(lenet(activation="softplus"), generator=torch.Generator().manual_seed(0))
    model.eval().requires_grad_(False)
    points = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([3, 7])
    field = lambda x, y: model(x).gather(1, y.unsqueeze(1))[:, 0]  # noqa: E731
    hessian = OWN.operator(Part("test", field, points, labels, rows(2)))
    whole = hessian.dense()
    pair = model(points).gather(1, labels.unsqueeze(1))[:, 0]
    torch.testing.assert_close(hessian.values, pair)
    vectors = torch.randn(2, 784, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        hessian.product(vectors), torch.einsum("mij,mj->mi", whole, vectors), rtol=1e-3, atol=1e-6
    )
