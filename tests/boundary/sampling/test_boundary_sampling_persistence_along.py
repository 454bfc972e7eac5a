"""Persistence along a segment, against half-spaces, where it is the distance over a quantile."""

import pytest
import torch
from scipy.special import ndtri

from levelset.boundary import persistence_along
from levelset.errors import ParameterError, ShapeError
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


@pytest.mark.messages
def test_what_cannot_be_asked_is_refused():
    point = torch.ones(2)
    with pytest.raises(ShapeError, match=r"must have one shape, got \[\(2,\), \(3,\)\]"):
        persistence_along(Orthant(1, 2), point, torch.ones(3))
    with pytest.raises(ParameterError, match="`steps` must be at least 2"):
        persistence_along(Orthant(1, 2), point, -point, steps=1)
    with pytest.raises(ParameterError, match="`gammas` hold at least one share"):
        persistence_along(Orthant(1, 2), point, -point, gammas=())
