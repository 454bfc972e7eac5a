"""Persistence along a segment, against half-spaces, where it is the distance over a quantile."""

import pytest
import torch
from scipy.special import ndtri

from levelset.boundary import persistence_along
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.shapes import Orthant


def test_persistence_along_a_crossing_of_a_plane():
    start, end = torch.tensor([1.0, 0.5]), torch.tensor([-1.0, 0.5])
    found = persistence_along(
        Orthant(1, 2), start, end, steps=6, gammas=(0.7, 0.9), tolerance=0.03,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    distance = found.points[:, 0].abs()
    assert torch.allclose(found.fraction, torch.linspace(0, 1, 6))
    assert (found.classes[:3] != found.classes[3:].flip(0)).all()
    for place, gamma in enumerate((0.7, 0.9)):
        exact = distance / ndtri(gamma)
        assert torch.allclose(found.sigma[:, place], exact.float(), rtol=0.15)
        assert ((found.low[:, place] <= exact) & (exact <= found.high[:, place])).sum() >= 5
    summary = found.summary()
    assert summary["first_change"] == pytest.approx(0.6)
    assert summary["sigma_0.7_start"] == pytest.approx(float(found.sigma[0, 0]))


def test_gammas_may_be_a_tensor_and_progress_is_told_on_the_way():
    told, ends = [], (torch.tensor([1.0, 0.5]), torch.tensor([2.0, 0.5]))
    options = {"steps": 2, "tolerance": 0.2}
    found = persistence_along(
        Orthant(1, 2), *ends, **options, gammas=torch.tensor([0.75, 0.875]),
        generator=torch.Generator().manual_seed(0), progress=lambda *both: told.append(both),
    )  # fmt: skip
    again = persistence_along(
        Orthant(1, 2), *ends, **options, gammas=[0.75, 0.875],
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert found.gammas == (0.75, 0.875)
    assert torch.equal(found.sigma, again.sigma)
    assert told == sorted(told)
    assert told[-1] == (4, 4)


ONE = torch.ones(2)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"end": torch.ones(3)}, ShapeError, r"one dtype, got \(2,\) of torch.float32 and \(3,\)"),
        ({"end": -ONE.double()}, ShapeError, "got .* of torch.float32 and .* of torch.float64"),
        ({"end": ONE * torch.nan}, DataError, "`end` must be finite"),
        (
            {"start": torch.tensor(1.0)},
            ShapeError,
            r"`start` must have the shape \(\*d\), got \(\)",
        ),
        ({"steps": 1}, ParameterError, "`steps` must be an integer of at least 2, got 1"),
        (
            {"gammas": ()},
            ParameterError,
            r"`gammas` must be a sequence of at least one .* got \(\)",
        ),
        (
            {"gammas": 0.7},
            ParameterError,
            "`gammas` must be a sequence, each a number or .* got 0.7",
        ),
        ({"gammas": (0.7, 1.0)}, ParameterError, "`gammas` must lie between 0 and 1, .* got 1.0"),
    ],
)
@pytest.mark.messages
def test_what_cannot_be_asked_is_refused(change, error, words):
    options = {"start": ONE, "end": -ONE} | change
    with pytest.raises(error, match=words):
        persistence_along(Orthant(1, 2), **options)
