"""Noise: its law, its streams, and the concentration of its length (Bell 2023, section 10)."""

import math

import pytest
import torch
from scipy import stats

from levelset.boundary._sampling._noise import Noise, check_noise
from levelset.errors import ParameterError


def drawn(noise: Noise, row: int, count: int, *, step: int | None = None) -> torch.Tensor:
    parts, left = [], count
    while left:
        part = noise.take(row, min(left, step or left))
        parts.append(part)
        left -= len(part)
    return torch.cat(parts)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "orthogonal"), [(3, False), (200, True), (2000, True)])
def test_a_stream_is_the_same_however_it_is_taken_and_whoever_stands_by(size, orthogonal):
    points = torch.rand(4, size, generator=seeded(1))
    together = Noise(points, seeded(), orthogonal=orthogonal)
    alone = Noise(points[2:3], seeded(), orthogonal=orthogonal)
    expected = drawn(together, 2, 301)
    assert torch.equal(drawn(alone, 0, 301, step=7), expected)
    assert not torch.equal(drawn(together, 1, 301), expected)


def test_copies_of_one_point_have_streams_of_their_own():
    noise = Noise(torch.ones(3, 200), seeded(), orthogonal=True)
    one, two, three = (drawn(noise, row, 50).flatten() for row in range(3))
    for a, b in ((one, two), (one, three), (two, three)):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.05


@pytest.mark.parametrize("size", [2, 200])
def test_gaussian_noise_is_standard_normal(size):
    noise = Noise(torch.rand(1, size, generator=seeded(1)), seeded(), orthogonal=True)
    values = drawn(noise, 0, 20_000 // size)
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3


def test_directions_of_a_basis_are_orthogonal_with_lengths_of_normal_vectors():
    size = 256
    noise = Noise(torch.rand(1, size, generator=seeded(1)), seeded(), orthogonal=True)
    rows = drawn(noise, 0, size).double()
    products = rows @ rows.T
    lengths = products.diagonal().clone()
    products.fill_diagonal_(0.0)
    assert float(products.abs().max()) < 1e-3
    assert stats.kstest(lengths.numpy(), stats.chi2(size).cdf).pvalue > 1e-3


def test_bases_come_again_as_new_ones():
    """Beyond the eighth: orthogonal still, and unlike the first even in a single coordinate."""
    size = 128
    noise = Noise(torch.rand(1, size, generator=seeded(1)), seeded(), orthogonal=True)
    values = drawn(noise, 0, 24 * size, step=50).double().view(3, 8 * size, size)
    for turn in values:
        products = turn[:size] @ turn[:size].T
        assert float(products.fill_diagonal_(0.0).abs().max()) < 1e-3
        assert stats.kstest(turn[:, 0].numpy(), "norm").pvalue > 1e-3
    direction = torch.nn.functional.normalize(torch.rand(size, generator=seeded(2)), dim=0)
    sizes = (values @ direction.double()).abs(), values[:, :, 5].abs()
    for held in sizes:  # 1,024 draws: correlations of unrelated ones stay within 0.1
        assert float((torch.corrcoef(held) - torch.eye(3)).abs().max()) < 0.12


def test_a_sum_of_squares_over_a_basis_varies_less_than_over_independent_directions():
    """What bases are for: even functions of one coordinate average out within a basis."""
    size, direction = (
        128,
        torch.nn.functional.normalize(torch.randn(128, generator=seeded(9)), dim=0),
    )
    spread = {}
    for orthogonal in (False, True):
        means = []
        for seed in range(60):
            noise = Noise(torch.ones(1, size), seeded(seed), orthogonal=orthogonal)
            means.append((drawn(noise, 0, size) @ direction).abs().gt(1.0).double().mean())
        spread[orthogonal] = float(torch.stack(means).var())
    assert spread[True] < 0.85 * spread[False]


def test_ball_noise_is_uniform_in_the_ball_of_variance_one():
    size = 3
    noise = Noise(torch.ones(1, size), seeded(), kind="ball")
    values = drawn(noise, 0, 20_000).double()
    radius = math.sqrt(size + 2)
    share = (values.norm(dim=1) / radius) ** size  # uniform for a uniform law in the ball
    assert stats.kstest(share.numpy(), "uniform").pvalue > 1e-3
    assert torch.allclose(values.var(0), torch.ones(size, dtype=torch.float64), atol=0.05)
    assert torch.allclose(values.mean(0), torch.zeros(size, dtype=torch.float64), atol=0.03)


@pytest.mark.parametrize(("size", "count"), [(784, 2000), (196_608, 40)])
def test_lengths_concentrate_as_in_proposition_10_1(size, count):
    """Both inequalities, at several widths, within what so few draws can tell."""
    slack = 4.0 / math.sqrt(count)
    point = torch.zeros(1, size)
    lengths = drawn(Noise(point, seeded()), 0, count).double().norm(dim=1)
    for width in (1.0, 2.0, 4.0, 8.0):
        inside = float(((lengths - math.sqrt(size)).abs() <= width).double().mean())
        assert inside >= 1.0 - 2.0 * math.exp(-(width**2) / 16.0) - slack
    radius = math.sqrt(size + 2)
    lengths = drawn(Noise(point, seeded(), kind="ball"), 0, count).double().norm(dim=1)
    for width in (1e-3 * radius, 1e-2 * radius):
        inside = float(((lengths - radius).abs() <= width).double().mean())
        assert inside >= 1.0 - math.exp(-width * size / radius) - slack
        assert abs(inside - (1.0 - (1.0 - width / radius) ** size)) < slack


def test_noise_of_another_name_is_refused():
    with pytest.raises(ParameterError, match="`noise` must be 'gaussian' or 'ball', got 'cube'"):
        check_noise("stability", "cube")


@pytest.mark.parametrize("direction", ["an axis", "any"])
def test_points_that_share_bases_have_errors_of_their_own(direction):
    """Means over points have no error in common, even where all look the same way."""
    size, count = 200, 40
    way = torch.zeros(size)
    way[0] = 1.0
    if direction == "any":
        way = torch.nn.functional.normalize(torch.randn(size, generator=seeded(1)), dim=0)
    points = torch.randn(count, size, generator=seeded(2))
    shares = torch.stack(
        [
            torch.stack(
                [(drawn(noise, row, size) @ way).abs().gt(1.0).double().mean()
                 for row in range(count)]
            )
            for noise in (Noise(points, seeded(s), orthogonal=True) for s in range(100))
        ]
    )  # fmt: skip
    alone, together = shares.var(0).mean(), shares.mean(1).var()
    # Points that roll by the same amount have one basis in common: 1.5 is what that makes.
    assert together < 2.5 * alone / count


def test_a_point_that_is_done_is_forgotten():
    noise = Noise(torch.ones(3, 2000), seeded())
    for row in range(3):
        noise.take(row, 5)
    assert all(
        len(stream.left.untyped_storage()) < 4 * 2 * 2000 for stream in noise._streams.values()
    )
    noise.release(range(3))
    assert not noise._streams


def test_lengths_are_those_of_one_point_alone_and_new_each_time():
    """Where a region is round they decide: points that shared them would share their errors."""
    size = 128
    noise = Noise(torch.ones(2, size), seeded(), orthogonal=True)
    lengths = torch.stack([drawn(noise, row, 40_000).double().norm(dim=1) for row in (0, 1)])
    turn = noise._bases.count * size  # from here on the bases come again
    assert turn < 20_000
    pairs = torch.stack([lengths[0, :turn], lengths[1, :turn], lengths[0, turn : 2 * turn]])
    assert float((torch.corrcoef(pairs) - torch.eye(3)).abs().max()) < 0.04
    both = torch.sort(lengths, dim=1).values
    assert not torch.isin(both[0], both[1]).any()
    assert stats.kstest(lengths[0, turn:].square().numpy(), stats.chi2(size).cdf).pvalue > 1e-3
