"""The classes of noisy copies: right counts, in any layout, and only of sound classifiers."""

import pytest
import torch
from torch import nn

from levelset.boundary._sampling._noise import Noise
from levelset.boundary._sampling._votes import Task, Voter
from levelset.errors import FieldError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def voter(model, points, **options) -> Voter:
    return Voter("persistence", model, points, Noise(points, seeded()), **options)


def vote_often(asked: Voter) -> None:
    for _ in range(6):
        asked.vote([Task(0, 6.0, 40)])


class Sum(nn.Module):
    """Class 1 where the entries sum to more than 0."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        total = points.flatten(1).sum(1)
        return torch.stack([-total, total], dim=1)


@pytest.mark.parametrize("batch_size", [None, 1, 3, 64])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_votes_are_those_of_the_copies_made_one_by_one(shape, batch_size):
    points = torch.randn(3, *shape, generator=seeded(1))
    tasks = [Task(0, 0.5, 9), Task(2, 2.0, 40), Task(0, 0.1, 5)]
    votes = voter(Sum(), points, batch_size=batch_size).vote(tasks)
    noise, flat = Noise(points, seeded()), points
    if len(shape) == 3:
        flat = points.permute(0, 2, 3, 1)
    plus = []
    for row, sigma, draws in tasks:
        drawn = noise.take(row, draws)
        plus.append(((flat[row].reshape(1, -1) + sigma * drawn).sum(1) > 0).long())
    assert torch.equal(votes.plus, torch.cat(plus))
    assert votes.counts.sum(1).tolist() == [9, 40, 5]
    assert votes.task.tolist() == [0] * 9 + [1] * 40 + [2] * 5


def test_pairs_are_counted_by_how_many_copies_kept_the_class():
    points = torch.tensor([[0.3]])
    votes = voter(lambda x: (x[:, 0] > 0).long(), points).vote([Task(0, 1.0, 500)])
    # On a line, both copies of a pair cannot leave a half-line that holds the point.
    assert votes.counts[0, 0] == 0
    kept = (votes.plus == 1).long() + (votes.minus == 1).long()
    assert votes.counts[0].tolist() == [0, int((kept == 1).sum()), int((kept == 2).sum())]


def test_evaluations_count_every_pass_of_a_point():
    counted = voter(Sum(), torch.ones(2, 3))
    counted.vote([Task(0, 1.0, 7), Task(1, 1.0, 2), Task(0, 2.0, 1)])
    assert counted.evaluations.tolist() == [1 + 16, 1 + 4]
    single = voter(Sum(), torch.ones(2, 3), paired=False)
    single.vote([Task(0, 1.0, 7)])
    assert single.evaluations.tolist() == [8, 1]


@pytest.mark.parametrize(
    "model",
    [
        Sum(),
        lambda x: (x.flatten(1).sum(1) > 0).long(),
        lambda x: (x.flatten(1).sum(1) > 0).to(torch.uint8),
        lambda x: x.flatten(1).sum(1) > 0,
        lambda x: x.flatten(1).sum(1),
        lambda x: x.flatten(1).sum(1, keepdim=True),
    ],
    ids=["logits", "labels", "bytes", "booleans", "a field", "a field with an axis"],
)
def test_logits_labels_and_fields_are_all_classifiers(model):
    points = torch.randn(20, 4, generator=seeded(2))
    assert torch.equal(voter(model, points).classes, (points.sum(1) > 0).long())


def test_a_model_that_needs_the_ordinary_layout_gets_it():
    class Rigid(nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            rows = points.view(len(points), -1)  # fails on channels-last strides
            return torch.stack([-rows.sum(1), rows.sum(1)], dim=1)

    points = torch.randn(3, 2, 3, 4, generator=seeded(1))
    tasks = [Task(0, 1.0, 30)]
    found = voter(Rigid(), points).vote(tasks)
    assert torch.equal(found.plus, voter(Sum(), points).vote(tasks).plus)


def test_a_classifier_that_draws_is_found_out():
    stream = seeded(5)

    def coin(points: torch.Tensor) -> torch.Tensor:
        return torch.randint(2, (len(points),), generator=stream)

    with pytest.raises(
        FieldError, match=r"same class twice, but two evaluations differ on .* of 40"
    ):
        voter(coin, torch.ones(40, 3))


def test_a_classifier_that_draws_only_away_from_the_points_is_found_out():
    stream = seeded(5)

    def shaky(points: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(points), generator=stream)
        return ((points - 1.0).norm(dim=1) * noise > 1e-3).long()

    with pytest.raises(FieldError, match=r"differ on .* noisy copies\. Does it draw random"):
        voter(shaky, torch.ones(3, 3)).vote([Task(0, 1.0, 50)])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda x: x[:, :, None], r"must map points \(2, 3\) to \(2, k\), got \(2, 3, 1\)"),
        (lambda x: None, "got NoneType"),
        (lambda x: x * torch.nan, "must return numbers, got NaN"),
        (lambda x: x @ torch.ones(7, 2), r"`model` failed on points of shape \(2, 3\)"),
    ],
    ids=["axes", "nothing", "NaN", "fails"],
)
def test_what_is_no_classifier_is_refused(model, words):
    with pytest.raises(FieldError, match=words):
        voter(model, torch.ones(2, 3))


def test_given_copies_are_classified_at_their_own_distances():
    points = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    directions = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    radii = torch.tensor([0.5, 9.0, 1.5])
    asked = [(0, directions, radii), (1, directions[:0], radii[:0]), (1, directions, radii)]
    one, none, two = voter(lambda x: (x[:, 0] > 0).long(), points, batch_size=2).keep(asked)
    assert one.tolist() == [True, True, False]
    assert none.tolist() == []
    assert two.tolist() == [True, True, True]


def test_no_points_are_no_crash():
    empty = voter(Sum(), torch.ones(0, 3))
    assert empty.classes.tolist() == []
    assert empty.vote([]).counts.shape == (0, 3)


def test_a_classifier_that_hesitates_near_its_boundary_only_is_found_out():
    stream = seeded(5)

    def hesitant(points: torch.Tensor) -> torch.Tensor:
        total = points.sum(1) + 0.3 * torch.randn(len(points), generator=stream)
        return (total > 0).long()

    asked = voter(hesitant, torch.full((1, 3), 2.0))
    asked.vote([Task(0, 0.1, 40)])
    with pytest.raises(FieldError, match="same class twice"):
        vote_often(asked)


def test_a_classifier_that_looks_at_the_whole_batch_is_found_out():
    points = torch.full((1, 3), 2.0)
    asked = voter(lambda p: (p.sum(1) > 0.3 * p.sum(1).max()).long(), points)
    with pytest.raises(FieldError, match="statistics of the batch"):
        vote_often(asked)


def test_a_classifier_whose_rounding_depends_on_the_batch_is_none_of_those():
    asked = voter(Sum(), torch.full((1, 3), 2.0))
    calls = 0

    def rounding(points: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        logits = Sum()(points)
        if len(points) == 100:
            logits[0] = -logits[0]  # one of a hundred
        return logits

    asked = voter(rounding, torch.full((1, 3), 2.0))
    for _ in range(20):
        asked.vote([Task(0, 6.0, 100)])
    assert calls > 20


def test_nan_far_out_names_the_noise():
    def fragile(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points.abs() > 30.0, torch.nan, 1.0) * torch.tensor([1.0, 2.0])

    asked = voter(fragile, torch.ones(1, 2))
    asked.vote([Task(0, 1.0, 50)])
    with pytest.raises(FieldError, match=r"noise of up to 100\. .* smaller `max_sigma`"):
        asked.vote([Task(0, 1.0, 50), Task(0, 100.0, 50)])
