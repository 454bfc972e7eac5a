"""Spectra: null hypotheses, orthants of known dimension, flat samples, shares, refusals."""

import math

import pytest
import torch

from levelset.boundary import dimension
from levelset.boundary._regions._spectrum import _edges, _median
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.shapes import Orthant


def orthant(k, seed, draws=1000, size=50):
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randn(draws, size, generator=generator)
    return starts, Orthant(k=k, d=size).project(starts)


@pytest.mark.parametrize("k", range(1, 11))
def test_the_dimension_of_an_orthant_is_its_number_of_planes(k):
    for seed in range(3):
        starts, points = orthant(k, seed)
        assert dimension(points).degenerate == k
        assert dimension(points, starts=starts, of="displacements").dominant == k


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("k", range(1, 11))
def test_the_dimension_of_an_orthant_is_right_in_99_of_100_seeds(k):
    right = [dimension(orthant(k, seed)[1]).degenerate == k for seed in range(100)]
    assert sum(right) >= 99


def test_differences_show_the_same_dimension():
    for k in (1, 4, 10):
        _, points = orthant(k, seed=k, draws=3000)
        generator = torch.Generator().manual_seed(0)
        assert dimension(points, of="differences", generator=generator).degenerate == k


@pytest.mark.parametrize(("rows", "size"), [(1000, 50), (100, 300), (200, 150)])
def test_noise_has_nothing_outside_as_often_as_said(rows, size):
    low = high = 0
    for seed in range(40):
        drawn = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)).double()
        spectrum = dimension(3.0 * drawn + 1.0, confidence=0.9)
        low, high = low + (spectrum.degenerate > 0), high + (spectrum.dominant > 0)
    assert low <= 12
    assert high <= 12
    assert spectrum.scale == pytest.approx(3.0, rel=0.03)


def test_a_direction_with_more_and_one_with_less_are_counted(noise):
    drawn = noise(800, 30)
    drawn[:, 3] *= 0.05
    drawn[:, 7] *= 4.0
    spectrum = dimension(drawn)
    assert (spectrum.degenerate, spectrum.dominant) == (1, 1)
    assert abs(float(spectrum.directions[0, 7])) > 0.99
    assert abs(float(spectrum.directions[-1, 3])) > 0.99


def test_the_singular_values_are_those_of_the_centred_samples(noise):
    points = noise(20, 2, 3)
    flat = points.flatten(1)
    expected = torch.linalg.svdvals(flat - flat.mean(0))
    spectrum = dimension(points)
    assert torch.allclose(spectrum.values, expected, atol=1e-12)
    assert spectrum.directions.shape == (6, 2, 3)
    assert (spectrum.rows, spectrum.coordinates) == (19, 6)


def test_of_a_flat_sample_the_mean_alone_is_degenerate_and_a_plane_adds_one(noise):
    left, _, right = torch.linalg.svd(noise(60, 30), full_matrices=False)
    flat = left @ right
    alone = dimension(flat, law="flat")
    assert (alone.degenerate, alone.dominant) == (1, 0)
    assert float(alone.values[-1]) == pytest.approx(math.sqrt(0.5), abs=0.15)
    flat[:, 0] *= 1e-3
    assert dimension(flat, law="flat").degenerate == 2


def test_shares_of_vectors_in_the_leading_directions(noise):
    drawn = noise(500, 10)
    drawn[:, :2] *= 20.0
    spectrum = dimension(drawn)
    vectors = torch.eye(10).double()
    assert spectrum.dominant == 2
    assert torch.allclose(spectrum.share(vectors).sum(), torch.tensor(2.0).double())
    assert float(spectrum.share(vectors[:2]).min()) > 0.99
    assert torch.allclose(spectrum.share(vectors, count=10), torch.ones(10).double())
    with pytest.raises(ShapeError, match=r"shape \(n, 10\)"):
        spectrum.share(vectors[:, :3])


def test_the_median_of_the_law_halves_simulated_eigenvalues(noise):
    values = torch.linalg.svdvals(noise(2000, 600)).square() / 2000
    assert _median(0.3) == pytest.approx(float(values.median()), rel=0.02)


def test_the_edges_close_in_on_marchenko_and_pastur():
    low, high = _edges(1_000_000, 10_000, 0.5)
    assert low / 1000.0 == pytest.approx(0.9, rel=1e-3)
    assert high / 1000.0 == pytest.approx(1.1, rel=1e-3)


@pytest.mark.messages
def test_what_has_no_spectrum_is_refused(noise):
    with pytest.raises(DataError, match="at least 3 samples"):
        dimension(noise(2, 4))
    with pytest.raises(DataError, match="must be finite"):
        dimension(torch.full((5, 3), math.nan))
    with pytest.raises(ParameterError, match="`confidence` must lie between 0 and 1"):
        dimension(noise(5, 4), confidence=1.0)
    with pytest.raises(ParameterError, match="`starts` must be given"):
        dimension(noise(5, 4), of="displacements")
    with pytest.raises(ShapeError, match="shape of `points`"):
        dimension(noise(5, 4), starts=noise(5, 3), of="displacements")
