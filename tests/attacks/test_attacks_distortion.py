"""Distortion: the root mean square change of an entry."""

import pytest
import torch

from levelset.attacks import distortion
from levelset.errors import ShapeError


@pytest.mark.parametrize("shape", [(4,), (3, 5, 2)])
def test_is_the_root_mean_square_change(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(6, *shape, generator=generator)
    perturbed = torch.rand(6, *shape, generator=generator)
    expected = (perturbed - points).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(distortion(points, perturbed), expected)


def test_a_constant_shift_has_its_own_size_in_any_dimension() -> None:
    for e in (1, 10, 1000):
        points = torch.zeros(2, e, dtype=torch.float64)
        assert distortion(points, points + 0.3).tolist() == pytest.approx([0.3, 0.3])


def test_no_points() -> None:
    assert distortion(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


@pytest.mark.messages
def test_shapes_must_agree() -> None:
    with pytest.raises(ShapeError, match=r"the shape of `points` \(2, 3\), got \(2, 4\)"):
        distortion(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="`perturbed` must be floating point"):
        distortion(torch.zeros(2, 3), torch.zeros(2, 3).long())
