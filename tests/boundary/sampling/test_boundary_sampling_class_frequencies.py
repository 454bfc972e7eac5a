"""Class frequencies against shares that are known."""

import math

import pytest
import torch
from scipy.stats import norm

from levelset.boundary import class_frequencies
from levelset.errors import ParameterError, ShapeError


def bands(points: torch.Tensor) -> torch.Tensor:
    """Class 0 below -1, 1 between, 2 above 2."""
    return (points[:, 0] > -1).long() + (points[:, 0] > 2).long()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_frequencies_are_those_of_a_normal_law():
    sigmas = torch.tensor([0.0, 0.5, 1.0, 4.0])
    found = class_frequencies(bands, torch.zeros(2), sigmas, draws=20_000, generator=seeded())
    assert found.shape == (4, 3)
    assert found[0].tolist() == [0.0, 1.0, 0.0]
    assert torch.allclose(found.sum(1), torch.ones(4, dtype=torch.float64))
    for row, sigma in enumerate(sigmas.tolist()[1:], start=1):
        low, high = norm.cdf(-1 / sigma), norm.cdf(2 / sigma)
        exact = torch.tensor([low, high - low, 1 - high])
        assert torch.allclose(found[row], exact, atol=4 * math.sqrt(0.25 / 20_000))


def test_the_number_of_classes_is_the_models_or_the_callers():
    model = torch.nn.Linear(2, 5)
    sigmas = torch.tensor([0.1])
    assert class_frequencies(model, torch.zeros(2), sigmas, draws=5).shape == (1, 5)
    found = class_frequencies(bands, torch.zeros(2), sigmas, draws=5, classes=7)
    assert found.shape == (1, 7)
    assert class_frequencies(model, torch.zeros(2), sigmas[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sigmas": torch.tensor([-1.0])}, ParameterError, "finite and 0 or more, got -1"),
        ({"sigmas": torch.ones(1, 1)}, ShapeError, r"must be a tensor \(s,\), got \(1, 1\)"),
        ({"draws": 0}, ParameterError, "`draws` must be at least 1, got 0"),
        ({"classes": 0}, ParameterError, "`classes` must be an integer of at least 1, got 0"),
        ({"classes": -1}, ParameterError, "`classes` must be an integer of at least 1, got -1"),
        ({"classes": 1}, ParameterError, "labels must lie in 0 to 0, got 1 to 1"),
        ({"point": torch.tensor(1.0)}, ShapeError, r"`point` must have the shape"),
    ],
)
@pytest.mark.messages
def test_what_cannot_be_asked_is_refused(change, error, words):
    arguments = {"point": torch.zeros(2), "sigmas": torch.tensor([0.0]), "draws": 3} | change
    point, sigmas = arguments.pop("point"), arguments.pop("sigmas")
    with pytest.raises(error, match=words):
        class_frequencies(bands, point, sigmas, **arguments)
