"""How far two evaluations of one point may differ, against evaluations that do."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.rounding import resolution, rounding


def test_the_coarsest_dtype_decides() -> None:
    points = torch.zeros(1, 3)
    assert resolution(nn.Linear(3, 2), points) == torch.finfo(torch.float32).eps
    assert resolution(nn.Linear(3, 2).half(), points) == torch.finfo(torch.float16).eps
    assert resolution(nn.Linear(3, 2).double(), points.double()) == torch.finfo(torch.float64).eps
    assert resolution(torch.sum, points) == torch.finfo(torch.float32).eps


@pytest.mark.parametrize(("d", "depth"), [(2, 1), (30, 1), (784, 1), (5000, 1), (30, 3), (784, 3)])
def test_batches_and_float64_differ_by_less(
    d: int, depth: int, settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    hidden = [m for i in range(depth - 1) for m in (nn.Linear(d if i == 0 else 64, 64), nn.ReLU())]
    model = settled(nn.Sequential(*hidden, nn.Linear(64 if hidden else d, 2)), seed=3)
    points = noise(100, d).float().sigmoid()
    with torch.no_grad():
        # Both logits are about zero in the middle, however large the terms are that they sum.
        model[-1].bias -= model(points).mean(0)
    leaf = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((model(leaf)[:, 0] - model(leaf)[:, 1]).sum(), leaf)
    eps = torch.finfo(torch.float32).eps
    bound = rounding(gradient, points, model(points).detach().abs().amax(1), eps)
    with torch.no_grad():
        values = [
            torch.cat([model(part) for part in points.split(size)]) for size in (1, 3, 33, 100)
        ]
        exact = model.double()(points.double())
    for value in values:
        error = ((value[:, 0] - value[:, 1]) - (exact[:, 0] - exact[:, 1])).abs()
        assert (error <= bound).all()
    # It is an estimate, not the wide bound of a worst case, which grows with the dimension.
    assert (bound <= 40 * eps * (1 + (gradient * points).abs().sum(1))).all()
