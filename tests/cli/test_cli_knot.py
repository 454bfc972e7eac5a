"""The simulated scan of the demo."""

import torch

from levelset.cli._knot import scan_of_a_knot


def knot(turns=20_000):
    t = torch.linspace(0.0, 2 * torch.pi, turns, dtype=torch.float64)
    return torch.stack(
        [t.sin() + 2 * (2 * t).sin(), t.cos() - 2 * (2 * t).cos(), -(3 * t).sin()], 1
    )


def test_points_lie_on_the_tube_but_for_the_noise():
    points = scan_of_a_knot(500, generator=torch.Generator().manual_seed(0))
    assert points.shape == (500, 3)
    away = torch.cdist(points, knot()).amin(1) - 0.32
    assert away.abs().max() < 5 * 0.004
    assert 0.5 * 0.004 < away.std() < 1.5 * 0.004


def test_the_generator_decides_and_nothing_else_moves():
    before = torch.random.get_rng_state()
    one, two = (scan_of_a_knot(300, generator=torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), before)
