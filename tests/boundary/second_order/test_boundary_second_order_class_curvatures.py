import pytest
import torch
from torch import nn

from levelset import LogitDifference
from levelset.boundary import (
    CentralDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
    class_curvatures,
    curvature,
)
from levelset.errors import FieldError


class Quadrics(nn.Module):
    """Three quadratic logits, whose second differences are exact at any step."""

    def __init__(self, noise):
        super().__init__()
        matrices = noise(3, 6, 6, seed=1)
        self.matrices = matrices + matrices.transpose(1, 2)
        self.slopes = noise(3, 6, seed=2)

    def forward(self, points):
        return torch.einsum("ni,kij,nj->nk", points, self.matrices, points) + points @ self.slopes.T


@pytest.mark.parametrize("smoothing", [CentralDifference(0.3), GaussianSmoothing(0.4, 20_000)])
def test_on_quadrics_it_is_the_mean_curvature_of_each_boundary(noise, smoothing):
    model, points = Quadrics(noise), noise(4, 6, seed=3)
    found = class_curvatures(
        model, points, smoothing=smoothing, generator=torch.Generator().manual_seed(0)
    )
    answers = model(points).argmax(1)
    for j in range(3):
        pairs = torch.stack([answers, torch.full_like(answers, j)], 1)
        rows = answers != j
        exact = curvature(LogitDifference(model), points[rows], labels=pairs[rows], level=None)
        close = {} if isinstance(smoothing, CentralDifference) else {"rtol": 0.0, "atol": 0.06}
        torch.testing.assert_close(found[rows, j], exact.mean, **close)
        assert found[~rows, j].isnan().all()


def test_the_surrogate_s_is_that_of_curvature(settled, noise):
    model = settled(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)),
                    dtype=torch.float64)  # fmt: skip
    points, smoothing = noise(5, 6), SoftplusSurrogate(2.0)
    found = class_curvatures(model, points, smoothing=smoothing)
    answers = model(points).argmax(1)
    other = (answers + 1) % 3
    exact = curvature(
        LogitDifference(model), points, labels=torch.stack([answers, other], 1), level=None,
        smoothing=smoothing,
    )  # fmt: skip
    torch.testing.assert_close(found[torch.arange(5), other], exact.mean, rtol=2e-2, atol=1e-4)


def test_rows_do_not_depend_on_one_another_and_nothing_is_touched(settled, noise, left_as_found):
    model = settled(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))).train()
    points = noise(4, 6, dtype=torch.float32)
    with left_as_found(model, points):
        whole = class_curvatures(model, points, smoothing=CentralDifference(0.2))
        alone = class_curvatures(model, points[2:3], smoothing=CentralDifference(0.2), batch_size=1)
    torch.testing.assert_close(whole[2:3], alone, equal_nan=True, rtol=1e-3, atol=1e-4)
    assert class_curvatures(model, points[:0], smoothing=CentralDifference(0.2)).shape == (0, 3)


@pytest.mark.messages
def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(FieldError, match="must return finite logits"):
        class_curvatures(lambda x: x / 0.0, torch.ones(1, 2), smoothing=CentralDifference(0.1))
