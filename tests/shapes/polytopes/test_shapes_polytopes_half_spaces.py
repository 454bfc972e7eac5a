"""Planes around a convex solid: those that touch it, and refusals of what is none."""

import pytest
import torch

from levelset.errors import DataError, ShapeError
from levelset.shapes import polytope_network


def cube(d: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([torch.eye(d), -torch.eye(d)]), torch.ones(2 * d)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
def test_planes_that_do_not_cut_are_left_out(d):
    """One beyond, one that touches in a corner, one given twice, and one that cuts."""
    normals, offsets = cube(d)
    more = torch.ones(1, d)
    offset = torch.tensor([d + 1.0, d, 1.0, d - 0.5])
    normals = torch.cat([normals, more, more, normals[:1], -more])
    network = polytope_network((normals, torch.cat([offsets, offset])))
    assert network.nodes == (2 * d + 1 if d > 1 else 2)


def test_the_cross_polytope_has_a_face_a_sign():
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
    network = polytope_network((signs, torch.ones(16)))
    assert network.faces == 16
    points = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    expected = (1 - points.abs().sum(1)) / 2
    assert torch.allclose(network(points), expected, atol=1e-6)


def test_what_bounds_no_solid_is_refused():
    with pytest.raises(DataError, match=r"leave it open in the direction \(-1, -1, -1\)"):
        polytope_network((torch.eye(3), torch.ones(3)))
    with pytest.raises(DataError, match=r"leave it open in the direction \(-?0, -?1\)"):
        polytope_network((torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.ones(2)))
    with pytest.raises(DataError, match="have no inside in common"):
        polytope_network((cube(2)[0], torch.tensor([1.0, 1.0, -2.0, 1.0])))
    with pytest.raises(DataError, match="have no inside in common"):
        polytope_network((cube(2)[0], torch.tensor([1.0, 1.0, -1.0, 1.0])))


@pytest.mark.messages
def test_what_is_no_set_of_planes_is_refused():
    with pytest.raises(ShapeError, match=r"\(k, d\) and offsets \(k,\), got \(6, 3\) and \(5,\)"):
        polytope_network((cube(3)[0], torch.ones(5)))
    with pytest.raises(DataError, match=r"no normal zero, but 1 rows are not \(first: 2\)"):
        polytope_network((torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), torch.ones(3)))
