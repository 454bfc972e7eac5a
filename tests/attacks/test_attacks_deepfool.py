"""DeepFool: one step on an affine model, its formula on others, finished rows gone."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.norms import dual, norm_of
from levelset.attacks import deepfool

NO_BOUNDS = (-math.inf, math.inf)


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_affine_models_take_one_step_and_are_exact(
    norm: float, noise: Callable[..., Tensor]
) -> None:
    model = nn.Linear(8, 6).double()
    with torch.no_grad():
        model.weight.copy_(noise(6, 8, seed=1))
        model.bias.copy_(noise(6, seed=2))
    points = noise(25, 8, seed=3)
    logits = model(points).detach()
    own = logits.argmax(1)
    slope = model.weight[own].unsqueeze(1) - model.weight
    size = norm_of(slope.flatten(0, 1), dual(norm)).view_as(logits)
    exact = ((logits.amax(1, keepdim=True) - logits) / size).nan_to_num(math.inf).amin(1).detach()
    found = deepfool(model, points, norm=norm, bounds=NO_BOUNDS)
    torch.testing.assert_close(found.distance, exact, rtol=1e-9, atol=0)
    assert (found.gradients == 5).all()


def test_it_is_its_formula(settled: Callable[..., nn.Module], noise: Callable[..., Tensor]) -> None:
    layers = nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)
    model = settled(nn.Sequential(*layers), seed=7, dtype=torch.float64)
    points = noise(10, 8, seed=1)
    found = deepfool(model, points, bounds=NO_BOUNDS, overshoot=0.05)
    for row in range(10):
        here, beyond, steps = points[row], points[row], 0
        label = int(model(points[row]).argmax())
        while int(model(beyond).argmax()) == label and steps < 50:
            jacobian = torch.autograd.functional.jacobian(model, here)
            logits = model(here).detach()
            w, f = jacobian - jacobian[label], logits - logits[label]
            away = f.abs() / w.norm(dim=1)
            away[label] = math.inf
            k = int(away.argmin())
            here, steps = here + f[k].abs() / w[k].norm() ** 2 * w[k], steps + 1
            beyond = points[row] + 1.05 * (here - points[row])
        assert int(found.gradients[row]) == 3 * steps
        if steps < 50:
            # Polished along the segment to where the formula ends.
            way, straight = found.points[row] - points[row], beyond - points[row]
            assert torch.cosine_similarity(way, straight, dim=0) > 1 - 1e-9
            assert way.norm() <= straight.norm()


def test_all_rivals_are_looked_at_in_every_fourth_step(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 6)
    model = settled(nn.Sequential(*layers), seed=7, dtype=torch.float64)
    found = deepfool(model, noise(40, 8, seed=1), bounds=NO_BOUNDS, steps=20)
    price = [5 if step % 4 == 0 or step >= 12 else 3 for step in range(20)]
    after = {sum(price[: steps + 1]) for steps in range(20)}
    assert set(found.gradients.tolist()) <= after
    assert len(found.gradients.unique()) > 1


def test_fewer_candidates_cost_less(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    model = settled(nn.Linear(8, 6), dtype=torch.float64)
    found = deepfool(model, noise(5, 8), bounds=NO_BOUNDS, candidates=2)
    assert (found.gradients % 2 == 0).all()
    assert (found.gradients >= 2).all()
