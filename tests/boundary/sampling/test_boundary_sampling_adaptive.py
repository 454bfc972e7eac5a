"""The certificate of the smoothed classifier, and the rival class."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm

from levelset.boundary import persistence
from levelset.boundary._sampling._adaptive import certified_radius, rivals
from levelset.boundary._sampling._noise import Noise
from levelset.boundary._sampling._votes import Task, Voter
from levelset.shapes import Orthant


def three(points: torch.Tensor) -> torch.Tensor:
    """Class 0 around the origin, 1 to the right of 1, 2 to the left of -2."""
    return (points[:, 0] > 1).long() + 2 * (points[:, 0] < -2).long()


def ask(model, points, sigma, draws):
    generator = torch.Generator().manual_seed(0)
    voter = Voter("persistence", model, points, Noise(points, generator))
    rows = np.arange(len(points))
    return voter, rows, voter.vote([Task(int(row), sigma, draws) for row in rows])


def test_radius_is_cohens_with_the_exact_bound():
    voter, rows, votes = ask(Orthant(1, 2), torch.ones(3, 2), 1.5, 400)
    radius = certified_radius(voter, rows, np.full(3, 1.5), votes, 0.95)
    for row in rows:
        kept = int((votes.plus[votes.task == row] == voter.classes[row]).sum())
        bound = beta.ppf(0.05, kept, 400 - kept + 1)
        assert np.isclose(radius[row], 1.5 * norm.ppf(bound))


def test_radius_is_zero_where_the_class_is_not_in_the_majority():
    voter, rows, votes = ask(lambda x: (x.norm(dim=1) < 1).long(), torch.zeros(2, 5), 3.0, 100)
    assert certified_radius(voter, rows, np.full(2, 3.0), votes, 0.95).tolist() == [0.0, 0.0]


def test_radius_of_a_half_space_holds_as_often_as_it_says():
    """For one plane the smoothed classifier's radius is the distance itself, at any noise."""
    points = torch.ones(400, 2)
    generator = torch.Generator().manual_seed(3)
    found = persistence(Orthant(1, 2), points, tolerance=0.1, generator=generator)
    assert (found.certified_radius <= 1.0).double().mean() >= 0.93
    assert found.certified_radius.median() > 0.25


def test_rivals_are_the_classes_that_most_copies_go_over_to():
    points = torch.zeros(2, 3)
    voter, rows, votes = ask(three, points, 1.5, 300)
    rival, count = rivals(voter, rows, votes)
    assert rival.tolist() == [1, 1]
    both = torch.cat([votes.plus[votes.task == 0], votes.minus[votes.task == 0]])
    assert count[0] == int((both == 1).sum())
    voter, rows, votes = ask(three, points, 1e-3, 10)
    assert rivals(voter, rows, votes)[0].tolist() == [-1, -1]


def test_the_smoothed_classifier_can_be_rebuilt():
    """Its share at the noise that is stated makes at least the radius that is stated."""
    found = persistence(
        Orthant(2, 2), torch.ones(100, 2), tolerance=0.1,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    sigma, radius = found.certified_sigma.double().numpy(), found.certified_radius.double().numpy()
    share = norm.cdf(1.0 / sigma) ** 2
    assert np.mean(radius <= sigma * norm.ppf(np.maximum(share, 0.5)) + 1e-6) >= 0.93
    assert np.median(radius) > 0.1


def test_the_most_stable_points_have_the_largest_certificate():
    found = persistence(
        lambda x: torch.zeros(len(x)).long(), torch.ones(2, 2), max_sigma=50.0,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert found.certified_sigma.tolist() == pytest.approx([50.0, 50.0])
    assert (found.certified_radius > 50.0).all()
