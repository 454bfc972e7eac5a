"""The reference against the paper's algorithm written out for one point."""

import math

import torch

from levelset.boundary import persistence
from levelset.boundary._sampling._noise import Noise
from levelset.shapes import Orthant


def word_for_word(shape, point, *, draws, gamma, precision, generator, steps=30):
    """Algorithm 1 of Bell 2023, on one point, with the same stream of noise."""
    noise, evaluations = Noise(point, generator), 1
    own = bool(shape(point) > 0)

    def compute_persistence(sigma: float) -> float:
        nonlocal evaluations
        evaluations += draws
        parts = []
        while sum(map(len, parts)) < draws:
            parts.append(noise.take(0, draws - sum(map(len, parts))))
        copies = torch.add(point, torch.cat(parts), alpha=math.exp(math.log(sigma)))
        return float(((shape(copies) > 0) == own).double().mean())

    low, high = 0.5, 1.5
    one, two = compute_persistence(low), compute_persistence(high)
    while one < gamma or two > gamma:
        if one < gamma:
            low *= 0.5
            one = compute_persistence(low)
        if two > gamma:
            high *= 2.0
            two = compute_persistence(high)
    sigma = math.nan
    for _ in range(1, steps):
        sigma = (low + high) / 2
        share = compute_persistence(sigma)
        if abs(share - gamma) < precision:
            return sigma, evaluations, True
        if share > gamma:
            low = sigma
        else:
            high = sigma
    return sigma, evaluations, False


def test_it_is_the_papers_algorithm_word_for_word():
    for scale, gamma in ((1.0, 0.7), (0.05, 0.7), (20.0, 0.9)):
        shape, point = Orthant(2, 3), torch.full((1, 3), scale)
        seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
        expected = word_for_word(
            shape, point, draws=400, gamma=gamma, precision=0.01, generator=seeds[0]
        )
        found = persistence(
            shape, point, gamma=gamma, method="bracketing", draws=400, tolerance=0.01,
            generator=seeds[1],
        )  # fmt: skip
        assert (float(found.sigma), int(found.evaluations), bool(found.found)) == (
            torch.tensor(expected[0]).item(), expected[1], expected[2],
        )  # fmt: skip


def test_points_side_by_side_get_what_each_gets_alone():
    points = torch.tensor([[1.0, 1.0], [3.0, 2.0], [0.1, 5.0]])
    options = {"method": "bracketing", "draws": 200, "tolerance": 0.02}
    together = persistence(
        Orthant(2, 2), points, **options, generator=torch.Generator().manual_seed(1)
    )
    for row in range(3):
        alone = persistence(
            Orthant(2, 2), points[row : row + 1], **options,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        assert torch.equal(alone.sigma, together.sigma[row : row + 1])


def test_steps_that_are_used_up_leave_a_point_unsolved():
    found = persistence(
        Orthant(2, 2), torch.ones(1, 2), method="bracketing", draws=997, tolerance=2e-4,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert not found.found.any()
    assert found.sigma.isfinite().all()
    assert found.error.isnan().all()
    assert int(found.evaluations) > 29 * 997
