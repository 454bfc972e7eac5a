import pytest
import torch

from levelset.errors import DataError, ShapeError
from levelset.reconstruction import PointTree


def test_distances_are_those_of_all_pairs(noise):
    cloud, points = noise(300, 3), noise(80, 3, seed=1)
    distance, index = PointTree(cloud).distances(points)
    pairs = torch.cdist(points, cloud)
    torch.testing.assert_close(distance, pairs.min(1).values, rtol=1e-12, atol=0)
    assert torch.equal(index, pairs.argmin(1))


def test_the_gradient_is_the_unit_vector_from_the_nearest_point(noise):
    cloud, points = noise(50, 3), noise(20, 3, seed=1).requires_grad_()
    tree = PointTree(cloud)
    (gradient,) = torch.autograd.grad(tree.distances(points).distance.sum(), points)
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(20).double())
    assert torch.autograd.gradcheck(lambda x: tree.distances(x).distance, points)
    on_it = cloud[:3].clone().requires_grad_()
    found = tree.distances(on_it)
    (gradient,) = torch.autograd.grad(found.distance.sum(), on_it)
    assert float(found.distance.detach().abs().max()) == 0.0
    assert float(gradient.abs().max()) == 0.0


def test_it_follows_the_dtype_of_the_queries_and_leaves_all_alone(noise, left_as_found):
    cloud, points = noise(50, 2), noise(7, 2, dtype=torch.float32)
    with left_as_found(cloud, points):
        found = PointTree(cloud).distances(points)
    assert (found.distance.dtype, found.nearest.dtype) == (torch.float32, torch.int64)
    none = PointTree(cloud).distances(points[:0])
    assert (len(none.distance), len(none.nearest)) == (0, 0)
    assert repr(PointTree(cloud)) == "PointTree(points=(50, 2))"


@pytest.mark.gpu
def test_queries_come_back_to_their_device(noise):
    cloud, points = noise(50, 3), noise(7, 3, seed=1)
    tree = PointTree(cloud)
    there = tree.distances(points.to("cuda"))
    assert there.distance.is_cuda
    assert there.nearest.is_cuda
    torch.testing.assert_close(there.distance.cpu(), tree.distances(points).distance)


@pytest.mark.messages
def test_bad_clouds_and_queries_are_refused(noise):
    with pytest.raises(ShapeError, match=r"must have the shape \(n, e\), got \(2, 2, 2\)"):
        PointTree(torch.zeros(2, 2, 2))
    with pytest.raises(DataError, match="at least one point"):
        PointTree(torch.zeros(0, 3))
    with pytest.raises(DataError, match="NaN or infinity in 1 of 2 rows"):
        PointTree(torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]))
    tree = PointTree(noise(5, 3))
    with pytest.raises(ShapeError, match="must have 3 coordinates as the cloud has"):
        tree.distances(noise(4, 2))
    with pytest.raises(DataError, match="must be finite"):
        tree.distances(torch.full((2, 3), float("inf")))
