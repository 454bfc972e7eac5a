import pytest
import torch

from levelset.reconstruction._paper import as_sphere, paper_network, stream


@pytest.mark.parametrize("axes", [2, 3])
def test_a_surface_begins_as_a_sphere(axes):
    network = paper_network(torch.zeros(1, axes), False, 5)
    points = torch.randn(400, axes, generator=stream(0, 0))
    with torch.no_grad():
        values = network(points).squeeze(1)
    assert float((values + 0.5 - points.norm(dim=1)).abs().mean()) < 0.15
    assert sum(p.numel() for p in network.parameters()) > 1_500_000


def test_a_curve_gets_two_values_and_the_seed_decides():
    one, other, third = (paper_network(torch.zeros(1, 3), True, seed) for seed in (1, 1, 2))
    points = torch.randn(5, 3, generator=stream(0, 0))
    assert one(points).shape == (5, 2)
    assert torch.equal(one(points), other(points))
    assert not torch.equal(one(points), third(points))


def test_the_global_generator_is_left_alone(left_as_found):
    network = torch.nn.Sequential(torch.nn.Linear(3, 9), torch.nn.ReLU(), torch.nn.Linear(9, 1))
    with left_as_found():
        paper_network(torch.zeros(1, 3), False, 1)
        as_sphere(network, 3, stream(1, 2))
