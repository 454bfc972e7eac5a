"""A certified boundary is all there is, whatever the lattice of the first search showed."""

import pytest
import torch
from torch import nn

from levelset.boundary import exact_section
from levelset.boundary._sections import _certificate


@pytest.fixture
def plane(noise):
    u, v = torch.linalg.qr(noise(20, 2, seed=5)).Q.T
    return torch.zeros(20).double(), u, v


def network(settled, seed, classes=4):
    model = settled(
        nn.Sequential(
            nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, classes)
        ),
        seed,
        torch.float64,
    )
    with torch.no_grad():
        model[4].bias.zero_()
    return model


@pytest.mark.parametrize("seed", range(4))
def test_the_certified_boundary_is_that_of_the_subdivision(plane, settled, monkeypatch, seed):
    model = network(settled, seed)
    whole = exact_section(model, *plane, extent=4.0, route="subdivision")
    # Small cells for a small network, so that most are certified rather than subdivided.
    monkeypatch.setattr(_certificate, "_REGIONS", 0.5)
    monkeypatch.setattr(_certificate, "_LINES", 8.0)
    section = exact_section(model, *plane, extent=4.0, route="certified", seeds=2)
    assert section.complete
    assert section.route == "certified"
    assert float(section.lengths.sum()) == pytest.approx(float(whole.lengths.sum()), rel=1e-9)
    assert len(section.triple_points) == len(whole.triple_points)


def test_an_island_between_the_points_of_the_lattice_is_found(settled, plane):
    """A pyramid of a second class, too small for the lattice."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        model[0].bias.copy_(torch.tensor([-0.31, 0.31, -0.17, 0.17]))
        model[2].weight.copy_(torch.tensor([[0.0] * 4, [-1.0] * 4]))
        model[2].bias.copy_(torch.tensor([0.0, 0.01]))
    axes = torch.eye(2).double()
    traced, certified = (
        exact_section(model, torch.zeros(2).double(), *axes, extent=1.0, seeds=5, route=route)
        for route in ("tracing", "certified")
    )
    assert len(traced.boundary) == 0
    assert not traced.complete
    assert certified.complete
    assert float(certified.lengths.sum()) == pytest.approx(4 * 0.01 * 2**0.5, rel=1e-7)


def test_logits_that_tie_on_an_area_are_not_certified():
    """Repeated integer rows: two logits are equal on areas, round which a boundary runs."""
    generator = torch.Generator().manual_seed(2)
    small = torch.randint(-2, 3, (6, 3), generator=generator)
    block = torch.randint(-1, 2, (6, 24), generator=generator)
    head = torch.randint(-1, 2, (4, 12), generator=generator)
    rows = torch.cat([small, small, -small, 4 * small]).double()
    model = nn.Sequential(
        nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4)
    ).double()
    with torch.no_grad():
        model[0].weight.copy_(rows[:, :2])
        model[0].bias.copy_(rows[:, 2])
        for layer, weight in ((model[2], torch.cat([block, block])), (model[4], head)):
            layer.weight.copy_(weight)
            layer.bias.zero_()
    axes = torch.eye(2).double()
    section = exact_section(
        model, torch.zeros(2).double(), *axes, extent=1.0, route="certified", seeds=12
    )
    assert section.tied
    assert not section.complete
    assert not exact_section(model, torch.zeros(2).double(), *axes, extent=1.0).tied


def test_more_regions_than_may_be_computed_are_not_certified(plane, settled, monkeypatch):
    monkeypatch.setattr(_certificate, "_REGIONS", 100.0)
    section = exact_section(
        network(settled, 0), *plane, extent=4.0, route="certified", max_regions=3
    )
    assert not section.complete
