"""The books of an attack: what was found, what was spent, and what is refused."""

import math

import pytest
import torch
from torch import Tensor, nn

from levelset import Classifier
from levelset.attacks._search._problem import Problem, box_of
from levelset.errors import DataError, FieldError, ParameterError

POINTS = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.9, 0.9]])


def identity() -> nn.Module:
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.eye(2)
    return model


def test_the_nearest_witness_is_kept() -> None:
    problem = Problem("test", identity(), POINTS, torch.tensor([1, 0, 0]), norm=2.0)
    rows = torch.tensor([0, 1])
    far = torch.tensor([[0.9, 0.8], [0.6, 1.0]])
    near = torch.tensor([[0.81, 0.8], [0.6, 0.61]])
    across = torch.tensor([-0.1, -0.1])
    assert problem.offer(rows, far, across).all()
    assert problem.offer(rows, near, torch.tensor([-0.1, 0.1])).tolist() == [True, False]
    assert not problem.offer(rows, far, across).any()
    torch.testing.assert_close(problem.best[:2], torch.stack([near[0], far[1]]))
    torch.testing.assert_close(problem.distance[:2], torch.tensor([0.61, 0.6]))


def test_the_result_is_judged_again() -> None:
    problem = Problem("test", identity(), POINTS, torch.tensor([1, 0, 0]), norm=2.0)
    rows = torch.tensor([0, 1])
    # The attack's own word for the second is wrong: the point is on the same side.
    problem.offer(rows, torch.tensor([[0.9, 0.8], [0.6, 0.5]]), torch.tensor([-0.1, -0.1]))
    found = problem.result()
    assert found.success.tolist() == [True, False, False]
    assert found.distance[1].isinf()
    assert torch.equal(found.points[1], POINTS[1])


def test_misclassified_inputs_are_at_zero_and_closed() -> None:
    problem = Problem("test", identity(), POINTS, torch.tensor([0, 0, 0]), norm=2.0)
    assert problem.distance.tolist()[0] == 0.0
    assert 0 not in problem.open().tolist()


def test_cost_is_counted_by_row() -> None:
    problem = Problem("test", identity(), POINTS, None, norm=2.0)
    problem.margin_and_gradient(torch.tensor([1]), POINTS[1:2])
    problem.margin(torch.tensor([1, 2]), POINTS[1:])
    assert problem.forwards.tolist() == [1, 3, 2]
    assert problem.gradients.tolist() == [0, 1, 0]


def test_targets_turn_the_margin_round() -> None:
    labels, targets = torch.tensor([1, 0, 0]), torch.tensor([0, 1, 1])
    problem = Problem("test", identity(), POINTS, labels, targets=targets, norm=2.0)
    values, gradient = problem.margin_and_gradient(torch.arange(3), POINTS)
    torch.testing.assert_close(values, torch.tensor([0.6, 0.2, 0.0]))
    torch.testing.assert_close(gradient[0], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type(dtype: torch.dtype) -> None:
    problem = Problem("test", identity(), POINTS, torch.tensor([1, 0, 0]).to(dtype), norm=2.0)
    assert problem.labels.dtype == torch.int64


def test_the_box() -> None:
    low, high = box_of("test", identity(), POINTS, None)
    assert (float(low), float(high)) == (0.0, 1.0)
    model = Classifier(identity(), bounds=(-2.0, 5.0))
    assert [float(b) for b in box_of("test", model, POINTS, None)] == [-2.0, 5.0]
    with pytest.raises(ParameterError, match=r"`bounds` must be \(low, high\) with low < high"):
        box_of("test", identity(), POINTS, (1.0, 0.0))
    with pytest.raises(ParameterError, match=r"within the bounds 0 to 0.5, got values from"):
        box_of("test", identity(), POINTS, (0.0, 0.5))


def test_messages() -> None:
    labels = torch.tensor([1, 0, 0])
    with pytest.raises(DataError, match=r"must be finite, got NaN or infinity in 1 of 3 rows"):
        Problem("test", identity(), POINTS.where(POINTS < 0.85, math.nan), labels, norm=2.0)
    with pytest.raises(ParameterError, match=r"`targets` must differ from the labels, but 2 of 3"):
        Problem("test", identity(), POINTS, labels, targets=torch.tensor([1, 0, 1]), norm=2.0)
    spoilt = identity()
    spoilt.weight.data[0, 0] = math.nan
    with pytest.raises(FieldError, match=r"finite logits, got NaN or infinity for 3 of 3"):
        Problem("test", spoilt, POINTS, labels, norm=2.0)
    flat = nn.Linear(2, 2)
    flat.weight.data.zero_()
    problem = Problem("test", flat, POINTS, None, norm=2.0)
    with pytest.raises(FieldError, match=r"gradient-free `square`"):
        problem.refuse_flat(torch.arange(3), POINTS)


def test_a_look_takes_logits_and_gradients_in_one_pass() -> None:
    calls = []
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Counting(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            calls.append(len(points))
            return points @ weight.T

    points = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    plain = Problem("test", Counting(), points, labels)
    once = len(calls)
    calls.clear()
    looked = Problem("test", Counting(), points, labels, look=True)
    assert len(calls) == once
    assert torch.equal(looked.logits, plain.logits)
    assert plain.slope is None
    assert looked.slope is not None
    _, gradient = plain.margin_and_gradient(torch.arange(6), points)
    torch.testing.assert_close(looked.slope, gradient)
    assert looked.gradients.tolist() == [1] * 6
    blind = Problem("test", lambda x: Counting()(x.detach()), points, labels, look=True)
    assert blind.slope is None
    assert torch.equal(blind.logits, plain.logits)
    with pytest.raises(ParameterError, match="labels"):
        Problem("test", Counting(), points, labels + 1, look=True)
