"""Polishing: onto the boundary, never off the segment, never without a witness."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from levelset.attacks._search._polish import polish
from levelset.attacks._search._problem import Problem


def test_witnesses_come_to_the_boundary(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        model = settled(nn.Sequential(*layers), seed=1, dtype=dtype)
        points, far = noise(60, 5).to(dtype), 3.0 * noise(60, 5, seed=1).to(dtype)
        problem = Problem("test", model, points, None, norm=2.0, bounds=(-19.0, 19.0))
        rows = torch.arange(60)
        margin = problem.margin(rows, far)
        problem.offer(rows, far, margin)
        across = margin < 0
        before = problem.distance.clone()
        polish(problem, rows)
        some = across.nonzero().flatten()
        assert len(some) > 10
        assert (problem.distance[some] <= before[some]).all()
        margin = problem.margin(some, problem.best[some])
        assert (margin < 0).all()
        assert (margin > -tolerance).all()
        way, whole = problem.best[some] - points[some], far[some] - points[some]
        assert (torch.cosine_similarity(way, whole, dim=1) > 1 - 1e-5).all()
        # Rows without a witness are left alone.
        assert problem.distance[~across].isinf().all()
        assert torch.equal(problem.best[~across], points[~across])
