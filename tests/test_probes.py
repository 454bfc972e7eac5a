"""`check_field` finds what makes a callable no field; `suggest_batch_size` counts bytes."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset import FieldCheck, Margin, check_field, suggest_batch_size
from levelset.errors import FieldError, ParameterError, ShapeError


class Drawing(nn.Module):
    """Draws in evaluation mode too."""

    def forward(self, points: Tensor) -> Tensor:
        return points.sum(1) + torch.rand(len(points), generator=self.generator)

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)


def test_a_field_has_no_problems(settled, noise):
    model = settled(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
    ).train()
    found = check_field(model, noise(6, 4, dtype=torch.float32))
    assert found.problems == ()
    assert found.points == 6
    assert found.coupling < 1e-6
    assert (found.randomness, found.non_finite, found.zero_gradients) == (0.0, 0, 0)
    assert found.raise_if_unfit() is found


def test_labels_are_handed_on(settled, noise):
    model = settled(nn.Linear(4, 3))
    labels = torch.tensor([0, 1, 2, 0])
    assert check_field(Margin(model), noise(4, 4, dtype=torch.float32), labels).problems == ()


@pytest.mark.parametrize(
    "field",
    [
        lambda x: x[:, 0] - x.mean(),
        lambda x: x.sum(1) * torch.arange(1.0, len(x) + 1),
        lambda x: torch.softmax(x.sum(1), 0),
        lambda x: functional.batch_norm(x, None, None, training=True).sum(1),
    ],
    ids=["mean of the batch", "place in the batch", "softmax over the batch", "batch norm"],
)
def test_rows_that_depend_on_each_other_are_found(noise, field):
    found = check_field(field, noise(5, 3, dtype=torch.float32))
    assert found.randomness == 0.0
    assert found.coupling > 0.01
    with pytest.raises(
        FieldError,
        match=r"^check_field: `field` must map each row on its own, but a row alone and among "
        r"others differs by \S+\. Does it use statistics of the batch\?$",
    ):
        found.raise_if_unfit()


def test_batch_norm_without_running_statistics_is_found(settled, noise):
    model = settled(
        nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.BatchNorm2d(2, track_running_stats=False),
            nn.Flatten(),
            nn.Linear(32, 1),
        )
    )
    found = check_field(model, noise(4, 1, 6, 6, dtype=torch.float32))
    assert len(found.problems) == 1
    assert found.coupling > 1e-3


def test_random_numbers_are_found_and_not_taken_for_coupling(noise):
    found = check_field(Drawing(), noise(5, 3, dtype=torch.float32))
    assert found.randomness > 0.01
    assert len(found.problems) == 1
    with pytest.raises(
        FieldError,
        match=r"`field` must return the same twice, but two evaluations differ by \S+\. Does it "
        r"draw random numbers in evaluation mode\?",
    ):
        found.raise_if_unfit()


def test_values_that_are_not_finite_are_counted(noise):
    points = noise(6, 2)
    points[:, 0] = torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0, 4.0])
    found = check_field(lambda x: x[:, 0].log(), points)
    assert found.non_finite == 3
    with pytest.raises(
        FieldError,
        match=r"`field` must return finite values, got NaN or infinity on 3 of 6 points\. Check "
        r"its weights and the scale of the points\.",
    ):
        found.raise_if_unfit()


def test_a_field_that_is_never_finite_is_no_crash(noise):
    found = check_field(lambda x: x.sum(1) * math.nan, noise(3, 2))
    assert found.non_finite == 3
    assert found.zero_gradients == 3
    assert len(found.problems) == 2


def test_vanishing_gradients_are_counted_and_a_problem_only_if_all_vanish():
    points = torch.tensor([[1.0, 1.0], [-1.0, 0.5], [-2.0, 2.0]])
    some = check_field(lambda x: x[:, 0].relu(), points)
    assert some.zero_gradients == 2
    assert some.problems == ()
    every = check_field(lambda x: 0.0 * x.sum(1), points)
    assert every.zero_gradients == 3
    with pytest.raises(
        FieldError,
        match=r"`field` must have a gradient somewhere, but it vanishes on all 3 points\. Is it "
        r"piecewise constant, or saturated\?",
    ):
        every.raise_if_unfit()
    one_of_two = check_field(lambda x: torch.stack([x[:, 1], x[:, 0].relu()], 1), points)
    assert one_of_two.zero_gradients == 2


def test_several_problems_are_told_together():
    points = torch.tensor([[1.0], [-1.0], [2.0]])
    found = check_field(lambda x: x[:, 0].sqrt() * len(x), points)
    assert len(found.problems) == 2
    with pytest.raises(FieldError, match=r"finite values.* each row on its own"):
        found.raise_if_unfit()


def test_the_scale_of_the_field_does_not_matter(noise):
    points = noise(8, 16, dtype=torch.float32)
    weight = noise(16, 1, seed=1, dtype=torch.float32)
    for scale in (1e-12, 1.0, 1e12):
        assert check_field(lambda x, s=scale: s * (x @ weight).squeeze(1), points).problems == ()
        coupled = check_field(lambda x, s=scale: s * (x[:, 0] - x[:, 0].mean() / 2), points)
        assert len(coupled.problems) == 1


def test_no_points_have_no_problems():
    found = check_field(lambda x: x.sum(1), torch.empty(0, 3))
    assert found == FieldCheck(0, 0.0, 0.0, 0, 0, ())


def test_a_wrong_shape_is_an_error_at_once(noise):
    with pytest.raises(
        FieldError, match=r"check_field: `field` must map points \(3, 2\) to \(3,\)"
    ):
        check_field(lambda x: x.sum(), noise(3, 2))
    with pytest.raises(FieldError, match=r"check_field: `field` must be differentiable in its poi"):
        check_field(lambda x: x.sum(1).round().detach(), noise(3, 2))


# Batch size


def convnet(settled, width: int = 8) -> nn.Module:
    return settled(
        nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 1))
    )


def test_more_memory_never_means_fewer_points(settled, noise):
    model, points = convnet(settled), noise(3, 1, 8, 8, dtype=torch.float32)
    sizes = [suggest_batch_size(model, points, memory=10**power) for power in range(1, 9)]
    assert all(a <= b for a, b in itertools.pairwise(sizes))
    assert all(size & (size - 1) == 0 for size in sizes)
    assert sizes[0] == 1
    assert sizes[-1] > 1000


def test_twice_the_memory_is_twice_the_points_or_nearly(settled, noise):
    model, points = convnet(settled), noise(2, 1, 8, 8, dtype=torch.float32)
    one = suggest_batch_size(model, points, memory=4_000_000)
    assert suggest_batch_size(model, points, memory=8_000_000) in (one, 2 * one)
    assert suggest_batch_size(model, points, memory=32_000_000) >= 4 * one


def test_wider_networks_get_fewer_points(settled, noise):
    points = noise(2, 1, 8, 8, dtype=torch.float32)
    narrow, wide = (
        suggest_batch_size(convnet(settled, width), points, memory=10**7) for width in (4, 64)
    )
    assert wide <= narrow / 8


def test_the_bytes_counted_are_no_fewer_than_what_activations_take(noise):
    # Three activations of 1,000 floats a point are kept by a chain of exponentials.
    points = noise(2, 1000, dtype=torch.float32)
    size = suggest_batch_size(lambda x: x.exp().exp().exp().sum(1), points, memory=10**6)
    assert size * 3 * 1000 * 4 <= 10**6
    assert size >= 16


def test_labels_and_single_points_are_repeated(settled, noise):
    model = settled(nn.Linear(4, 3))
    found = suggest_batch_size(
        Margin(model), noise(1, 4, dtype=torch.float32), memory=100_000, labels=torch.tensor([2])
    )
    assert found > 16


def test_there_is_a_largest_size(noise):
    assert suggest_batch_size(lambda x: x.sum(1), noise(1, 2), memory=10**15) == 65_536


@pytest.mark.parametrize("memory", [0, -5])
def test_memory_must_be_positive(noise, memory):
    with pytest.raises(
        ParameterError, match=rf"suggest_batch_size: `memory` must be positive, got {memory}\."
    ):
        suggest_batch_size(lambda x: x.sum(1), noise(1, 2), memory=memory)


def test_at_least_one_point_is_needed():
    with pytest.raises(
        ShapeError, match=r"suggest_batch_size: `points` must hold at least one point, got 0\."
    ):
        suggest_batch_size(lambda x: x.sum(1), torch.empty(0, 2), memory=100)
