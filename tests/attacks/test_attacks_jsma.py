"""Saliency maps: the best pair by brute force, few entries, and shares kept."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from levelset.attacks import jsma
from levelset.attacks._jsma import _best_pair


def test_the_best_pair_is_the_best_of_all(noise: Callable[..., Tensor]) -> None:
    alpha, beta = noise(8, 20, seed=1), noise(8, 20, seed=2)
    free = noise(8, 20, seed=3) > -1.0
    score, pair = _best_pair(alpha, beta, free)
    for row in range(8):
        best = 0.0
        for p, q in itertools.combinations(range(20), 2):
            rise, fall = alpha[row, p] + alpha[row, q], beta[row, p] + beta[row, q]
            if free[row, p] and free[row, q] and rise > 0 > fall:
                best = max(best, float(-rise * fall))
        assert float(score[row]) == best
        p, q = pair[row].tolist()
        assert p != q
        assert float(-(alpha[row, p] + alpha[row, q]) * (beta[row, p] + beta[row, q])) == best


def test_no_pair_is_no_score() -> None:
    score, _ = _best_pair(-torch.ones(2, 5), torch.ones(2, 5), torch.ones(2, 5, dtype=torch.bool))
    assert (score == 0).all()


def test_the_pair_that_decides_is_found() -> None:
    # Entries 1 and 4 decide between the classes, the others hardly count.
    model = nn.Linear(6, 2).double()
    weight = torch.tensor([0.01, 3.0, 0.02, -0.01, -2.0, 0.01], dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.stack([weight, -weight]))
        model.bias.zero_()
    points = torch.tensor([[0.5, 0.9, 0.5, 0.5, 0.1, 0.5]], dtype=torch.float64)
    found = jsma(model, points, share=0.4)
    assert found.success.all()
    assert (found.points != points).nonzero()[:, 1].tolist() in ([1, 2], [1, 0], [0, 1], [1, 5])
    assert found.distance.item() == 2


def test_shares_and_steps_are_kept(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 4)
    model = settled(nn.Sequential(*layers), seed=5, dtype=torch.float64)
    points = noise(30, 20, seed=2).sigmoid()
    few, many = (jsma(model, points, share=share) for share in (0.2, 0.6))
    assert (few.distance[few.success] <= 4).all()
    assert (many.distance[many.success] <= 12).all()
    assert many.success.sum() >= few.success.sum() > 0
    assert (few.gradients <= 4).all()
    small = jsma(model, points, share=0.2, step=0.25)
    assert ((small.points - points).abs() <= 0.5 + 1e-12).all()
