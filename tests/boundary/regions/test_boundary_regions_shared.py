"""Shared directions of boundaries made to have them, and noise inside and outside."""

import math

import pytest
import torch
from scipy.special import ndtri

from levelset import Margin
from levelset.boundary import shared_directions, subspace_persistence
from levelset.errors import NotConvergedError, ParameterError, ShapeError


class Striped(torch.nn.Module):
    """A field whose normals lie in the span of the first two of many coordinates."""

    def forward(self, points):
        return (3.0 * points[:, 0] + 2.0 * (2.0 * points[:, 1]).sin()).view(-1)


def test_normals_in_a_plane_share_two_directions(noise):
    spectrum = shared_directions(Striped(), noise(80, 40))
    assert spectrum.dominant == 2
    inside = torch.eye(40).double()[:2]
    assert torch.allclose(spectrum.share(inside), torch.ones(2).double(), atol=1e-9)
    assert spectrum.values[2:].abs().max() < 1e-9
    assert spectrum.rows == 80


def test_half_precision_has_the_spectrum_of_double(noise):
    half = shared_directions(Striped(), noise(80, 40).half(), tol=0.05)
    assert half.values.dtype == torch.float16
    exact = shared_directions(Striped(), noise(80, 40)).values
    assert float((half.values.double() - exact).abs().max()) < 0.02 * float(exact.max())


def test_random_normals_share_none(noise):
    class Each(torch.nn.Module):
        """Every point has a plane of its own, through it."""

        def forward(self, points, normals):
            return (points * normals).sum(1)

    spectrum = shared_directions(Each(), noise(100, 60), labels=noise(100, 60, seed=1))
    assert spectrum.dominant == 0


def test_a_linear_classifier_has_the_differences_of_its_rows(linear, noise):
    rows = noise(3, 30)
    points = 3.0 * noise(60, 30, seed=1)
    model = linear(rows)
    labels = model(points).argmax(1)
    spectrum = shared_directions(Margin(model), points, labels=labels)
    assert int((spectrum.values > 1e-9).sum()) == 2
    assert torch.allclose(spectrum.share(rows[:1] - rows[1:], count=2), torch.ones(2).double())


def test_noise_inside_and_outside_has_the_closed_form_of_a_half_space(linear, generator):
    """Class 1 where x_1 > -1: only the first coordinate of noise counts."""
    model = linear([[0.0] * 8, [1.0] + [0.0] * 7], bias=[0.0, 1.0])
    points = torch.zeros(6, 8).double()
    directions = torch.eye(8)[:2].double()
    result = subspace_persistence(
        model, points, directions, gamma=0.8, draws=4000, generator=generator
    )
    expected = 1.0 / (ndtri(0.8) * math.sqrt(8 / 2))
    assert float(result.inside.mean()) == pytest.approx(expected, rel=0.03)
    assert bool(result.outside.isinf().all())
    swapped = subspace_persistence(model, points, torch.eye(8)[2:].double(), draws=50)
    assert bool(swapped.inside.isinf().all())


@pytest.mark.messages
def test_what_spans_no_subspace_is_refused(linear, noise):
    model, points = linear([[0.0, 0.0], [1.0, 0.0]]), torch.ones(2, 2).double()
    with pytest.raises(ShapeError, match="s from 1 to 1"):
        subspace_persistence(model, points, torch.eye(2).double())
    with pytest.raises(ParameterError, match="must be independent"):
        subspace_persistence(
            linear(torch.eye(3)), torch.ones(1, 3).double(), torch.ones(2, 3).double()
        )
    with pytest.raises(NotConvergedError, match="at least 2 inputs that reach"):
        shared_directions(lambda x: x.square().sum(1) + 1.0, noise(5, 3))
