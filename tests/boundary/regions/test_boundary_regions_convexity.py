"""Mixtures of inputs: convex regions, a ring of known share, members without repetition."""

import pytest
import torch

from levelset.boundary import convexity
from levelset.boundary._regions._convexity import _members
from levelset.errors import DataError, ParameterError


def test_a_linear_classifier_has_convex_regions(linear, noise, generator):
    result = convexity(linear(noise(4, 5)), noise(60, 5, seed=1), k=3, generator=generator)
    assert result.share == result.high == 1.0
    assert 0.99 < result.low < 1.0
    assert int(result.drawn.sum()) == 1000
    assert torch.equal(result.inside, result.drawn)


def test_the_share_of_a_circle_is_that_of_its_chords(generator):
    """Chords of the unit circle leave the disc of radius 1/2 alone with a known probability."""
    angle = torch.linspace(0.0, 2.0 * torch.pi, 2001, dtype=torch.float64)[:-1]
    points = torch.stack([angle.cos(), angle.sin()], dim=1)

    def ring(x):
        inside = x.norm(dim=1) - 0.5
        return torch.stack([torch.zeros_like(inside), inside], dim=1)

    # By quadrature over the half angle of the chord and the place along it.
    half = torch.linspace(0.0, torch.pi / 2, 4001, dtype=torch.float64)
    along = torch.linspace(-1.0, 1.0, 2001, dtype=torch.float64)
    away = (half.cos()[:, None] ** 2 + (half.sin()[:, None] * along) ** 2).sqrt()
    expected = float((away > 0.5).double().mean())
    result = convexity(ring, points, draws=20_000, generator=generator)
    assert result.low <= expected <= result.high
    assert result.share == pytest.approx(expected, abs=0.02)


def test_members_are_different_and_of_one_class(generator):
    classes = torch.tensor([2, 0, 2, 2, 0, 1, 2, 0])
    first = torch.tensor([0, 1, 2, 3, 4, 6, 7] * 300)
    members = _members(classes, first, 3, generator, torch.device("cpu"))
    assert torch.equal(members[:, 0], first)
    assert bool((classes[members] == classes[first].unsqueeze(1)).all())
    assert bool((members.sort(dim=1).values.diff(dim=1) > 0).all())
    others = torch.bincount(members[first == 0][:, 1:].flatten(), minlength=8)
    assert others[[2, 3, 6]].min() > 0.8 * others[[2, 3, 6]].max()


def test_weights_are_uniform_on_the_simplex(generator):
    """The mean of the first of two weights is 1/2, its variance 1/12."""
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    seen = []

    def watch(x):
        seen.append(x.detach().clone())
        return torch.cat([x * 0.0 - 1.0, x * 0.0 + 1.0], dim=1)

    convexity(watch, points, draws=4000, generator=generator)
    mixed = torch.cat([x.flatten() for x in seen if len(x) > 100])
    assert float(mixed.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(mixed.var()) == pytest.approx(1.0 / 12.0, rel=0.1)


def test_too_few_inputs_and_shares_out_of_range_are_refused(linear):
    model = linear([[1.0, 0.0], [0.0, 1.0]])
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    with pytest.raises(DataError, match="at least 2 inputs of one class by the model, got 1"):
        convexity(model, points)
    with pytest.raises(ParameterError, match="`k`"):
        convexity(model, points, k=1)
    with pytest.raises(ParameterError, match="`confidence` must lie between 0 and 1"):
        convexity(model, points, confidence=0.0)
