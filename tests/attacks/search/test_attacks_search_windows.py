"""Windows: where they lie, what they hold, and that an L2 step keeps the length it may use."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.random import Streams
from levelset.attacks._search._ball import Ball
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._windows import Bumps, _bump, _pair, _run_at, _window_at, windows

SHAPES = [(3, 7, 9), (6, 11), (40,), (1, 4, 4), (2, 1, 1)]
NO_BOUNDS = (-math.inf, math.inf)


def search(
    model: Callable[..., Tensor], points: Tensor, radius: float, norm: float, steps: int = 200
) -> tuple[Problem, object]:
    problem = Problem("test", model, points, None, None, norm, NO_BOUNDS)
    streams = Streams(torch.Generator().manual_seed(0), points)
    return problem, windows(problem, Ball(problem, radius), steps, streams)


def test_runs_are_where_they_are_asked_for() -> None:
    uniform = torch.tensor([0.0, 0.34, 0.99999, 1.0])
    runs = _run_at(uniform, 5, 3).int().tolist()
    assert runs == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_a_window_is_a_run_each_way() -> None:
    window = _window_at(torch.tensor([[0.0, 0.9999]]), (3, 4, 5), 2, 3)
    expected = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    expected[..., :2, 2:] = True
    assert torch.equal(window, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 1), (5, 5), (4, 7), (1, 6)])
def test_bumps_are_squares_laid_upon_one_another(height: int, width: int) -> None:
    """Brute force: the j-th square about the middle adds 1 / (j + 1)^2."""
    expected = torch.zeros(height, width, dtype=torch.float64)
    for j in range(max(height, width) // 2 + 1):
        for r in range(height):
            for s in range(width):
                if max(abs(r - height // 2), abs(s - width // 2)) <= j:
                    expected[r, s] += 1.0 / (j + 1) ** 2
    expected /= expected.norm()
    torch.testing.assert_close(_bump(height, width), expected, rtol=1e-12, atol=0)


def test_a_pair_is_a_bump_beside_its_negative_or_above() -> None:
    like = torch.zeros(0, dtype=torch.float64)
    beside, above = _pair(3, 5, torch.tensor([False, True]), like)
    torch.testing.assert_close(beside[:, :2], _bump(3, 2))
    torch.testing.assert_close(beside[:, 2:], -_bump(3, 3))
    torch.testing.assert_close(above[:1], _bump(5, 1).T)
    torch.testing.assert_close(above[1:], -_bump(5, 2).T)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_l2_point_has_the_length_of_the_radius(
    shape: tuple[int, ...], noise: Callable[..., Tensor]
) -> None:
    """Without a box nothing is cut off: what leaves one window is spent in another."""
    points = noise(8, *shape)
    weight = noise(2, points[0].numel(), seed=3)
    _, bumps = search(lambda x: x.flatten(1) @ weight.T + 50.0, points, 0.7, 2.0)
    assert isinstance(bumps, Bumps)
    rows = bumps.begin(torch.arange(8), None)
    met = []
    bumps._offer = lambda rows, there: met.append(there) or rows
    for step in range(40):
        rows = bumps.step(rows, step)
    for there in met:
        moved = (there - points[rows]).flatten(1).norm(dim=1)
        torch.testing.assert_close(moved, torch.full_like(moved, 0.7), rtol=1e-9, atol=0)


def test_an_l2_step_moves_length_from_one_window_to_another(noise: Callable[..., Tensor]) -> None:
    points = noise(5, 2, 8, 8)
    weight = noise(2, 128, seed=3)
    problem, bumps = search(lambda x: x.flatten(1) @ weight.T, points, 0.7, 2.0)
    bumps.begin(torch.arange(5), None)
    before = problem.best - points
    numbers = torch.tensor([[0.0, 0.0, 0.9999, 0.9999, 0.9, 0.2, 0.8]]).double().expand(5, -1)
    after = bumps._changed(torch.arange(5), numbers, 3, 3) - points
    assert not after[:, :, 5:, 5:].any(), "the other window has given all it had"
    kept = torch.ones(8, 8, dtype=torch.bool)
    kept[:3, :3] = kept[5:, 5:] = False
    torch.testing.assert_close(after[..., kept], before[..., kept], rtol=1e-9, atol=1e-12)
    pair = _pair(3, 3, torch.tensor(False), points)
    pair = pair / pair.norm()
    for channel, sign in ((0, -1.0), (1, 1.0)):
        old = before[:, channel, :3, :3]
        way = sign * pair + old / old.flatten(1).norm(dim=1).view(-1, 1, 1)
        new = after[:, channel, :3, :3]
        cosine = torch.cosine_similarity(way.flatten(1), new.flatten(1), dim=1)
        torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-12)
        given = before[:, channel, 5:, 5:].flatten(1)
        length = (old.flatten(1).square().sum(1) + given.square().sum(1)).sqrt()
        torch.testing.assert_close(new.flatten(1).norm(dim=1), length, rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_linear_models_are_broken_beyond_their_distance_only(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor], norm: float
) -> None:
    model = settled(nn.Sequential(nn.Flatten(), nn.Linear(25, 2)), dtype=torch.float64)
    points = noise(40, 1, 5, 5)
    weight = model[1].weight.detach()
    slope = (weight[0] - weight[1]).norm(p=1.0 if math.isinf(norm) else 2.0)
    logits = model(points).detach()
    exact = (logits[:, 0] - logits[:, 1]).abs() / slope
    radius = float(exact.median())
    _, made = search(model, points, radius, norm)
    rows = made.begin(torch.arange(40), None)
    for step in range(200):
        rows = made.step(rows, step)
    broken = torch.ones(40, dtype=torch.bool)
    broken[rows] = False
    assert not broken[exact > radius].any()
    assert broken[exact < radius / 1.5].all()
    assert (exact < radius / 1.5).sum() > 8


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_the_lowest_margin_is_that_of_the_best_point(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor], norm: float
) -> None:
    layers = nn.Flatten(), nn.Linear(75, 24), nn.Tanh(), nn.Linear(24, 4)
    model = settled(nn.Sequential(*layers), seed=11, dtype=torch.float64)
    problem, made = search(model, noise(30, 3, 5, 5), 0.3, norm)
    rows, lowest = made.begin(torch.arange(30), None), []
    for step in range(30):
        lowest.append(made.lowest.clone())
        rows = made.step(rows, step)
    margins = problem.margin(torch.arange(30), problem.best)
    torch.testing.assert_close(made.lowest, margins, rtol=1e-9, atol=1e-12)
    assert all((b <= a).all() for a, b in itertools.pairwise(lowest))
