import math

import pytest
import torch
from torch import nn

from levelset import Classifier
from levelset.errors import ParameterError, ShapeError
from levelset.losses._climb import Climb


def climb(points, norm=math.inf, model=None, **options):
    given = {"radius": 0.3, "bounds": None, "steps": 20, "step_size": None}
    given |= {"generator": torch.Generator().manual_seed(0)} | options
    return Climb("test", model or nn.Linear(2, 2), points, norm=norm, **given)


@pytest.mark.parametrize(("norm", "power"), [(math.inf, 1), (2.0, 2)])
def test_the_top_of_a_linear_field_is_where_the_dual_norm_says(noise, norm, power):
    points, slope = noise(6, 3), torch.tensor([1.0, -2.0, 0.5]).double()
    ball = climb(points, norm, bounds=(-math.inf, math.inf), steps=100, step_size=0.02)
    best = ball.top(lambda x: x @ slope, None, ball.start())
    expected = points @ slope + 0.3 * torch.linalg.vector_norm(slope, power)
    torch.testing.assert_close(best @ slope, expected, rtol=1e-2, atol=0)
    assert float(torch.linalg.vector_norm(best - points, norm, dim=1).max()) <= 0.3 * (1 + 1e-9)


@pytest.mark.parametrize("norm", [math.inf, 2.0])
def test_starts_lie_in_ball_and_box_and_follow_the_generator(noise, norm):
    points = torch.sigmoid(noise(50, 2))
    ball = climb(points, norm)
    start = ball.start()
    assert float(torch.linalg.vector_norm(start - points, norm, dim=1).max()) <= 0.3 * (1 + 1e-9)
    assert bool(((start >= 0) & (start <= 1)).all())
    assert torch.equal(start, climb(points, norm).start())
    assert not torch.equal(start, ball.start())


def test_points_stop_where_the_field_is_positive():
    points = torch.tensor([[0.5, 0.5], [0.2, 0.2]])
    ball = climb(points, radius=0.4, step_size=0.1, steps=4)
    best = ball.top(lambda x: x[:, 0] - 0.55, None, points.clone(), until_positive=True)
    torch.testing.assert_close(best[:, 0], torch.tensor([0.6, 0.6]))


def test_bounds_are_the_classifiers_own():
    model = Classifier(nn.Linear(2, 2), bounds=(-1.0, 0.5))
    ball = climb(torch.tensor([[0.4, -0.9]]), model=model)
    best = ball.top(lambda x: x[:, 0] - x[:, 1], None, ball.start())
    torch.testing.assert_close(best, torch.tensor([[0.5, -1.0]]))


def test_a_search_starts_where_it_is_told_and_elsewhere_at_random(noise):
    points = torch.sigmoid(noise(50, 2))
    starts = points + 0.2 * torch.sign(noise(50, 2))
    starts[::2] = math.nan
    start = climb(points, math.inf, starts=starts).start()
    torch.testing.assert_close(start[1::2], starts[1::2].clamp(0, 1))
    assert torch.equal(start[::2], climb(points, math.inf).start()[::2])


def test_starts_of_another_shape_are_refused_and_last_is_for_train(noise):
    points = torch.sigmoid(noise(50, 2))
    with pytest.raises(ShapeError, match="a point for each input"):
        climb(points, starts=points[:3])
    with pytest.raises(ParameterError, match="for `train`"):
        climb(points, starts="last")
