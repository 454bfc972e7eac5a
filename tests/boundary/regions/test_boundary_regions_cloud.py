"""Clouds on the boundary of a half-space: on it, of the law asked for, along the parents."""

import pytest
import torch

from levelset.boundary import sample
from levelset.boundary._regions._cloud import cloud
from levelset.errors import ParameterError, ShapeError

ENDS = torch.tensor([[-1.0, 0.2, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.3, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("law", ["gaussian", "flat"])
@pytest.mark.parametrize("method", ["parent", "newton"])
def test_a_cloud_lies_on_the_boundary(half_space, generator, law, method):
    result = sample(
        half_space, *ENDS, draws=60, law=law, sigma=0.1, method=method, tol=1e-9,
        generator=generator,
    )  # fmt: skip
    assert bool(result.converged.all())
    assert float(result.points[:, 0].abs().max()) < 1e-8
    assert result.labels.tolist() == [0] * 60
    assert float(result.points[:, 1:].std()) == pytest.approx(0.1, rel=0.2)


def test_parents_are_of_the_other_side(half_space, generator):
    """Each point is on the segment from its start to the end of the other class."""
    state = generator.get_state()
    result = sample(half_space, *ENDS, draws=50, sigma=0.1, tol=1e-12, generator=generator)
    generator.set_state(state)
    middle = torch.lerp(ENDS[0], ENDS[1], 0.5)
    starts = middle + 0.1 * cloud(50, ENDS, "gaussian", generator)
    parents = ENDS[(starts[:, 0] <= 0).long()]
    t = -starts[:, :1] / (parents - starts)[:, :1]
    assert torch.allclose(result.points, starts + t * (parents - starts), atol=1e-9)


def test_a_flat_cloud_has_equal_singular_values_and_the_same_frobenius_norm(noise, generator):
    state = generator.get_state()
    gaussian = cloud(40, noise(1, 10), "gaussian", generator)
    flat = cloud(40, noise(1, 10), "flat", generator.set_state(state))
    values = torch.linalg.svdvals(flat)
    assert float(values.max() - values.min()) < 1e-9
    assert float(flat.norm()) == pytest.approx(float(gaussian.norm()), rel=1e-12)


def test_the_default_spread_is_a_tenth_of_the_way(half_space, generator):
    result = sample(half_space, *ENDS, draws=400, generator=generator)
    expected = 0.1 * float((ENDS[1] - ENDS[0]).norm()) / 5**0.5
    assert float(result.points[:, 2].std()) == pytest.approx(expected, rel=0.15)


def test_inputs_of_one_class_have_no_boundary_between_them(half_space):
    with pytest.raises(ParameterError, match="both have class 0"):
        sample(half_space, ENDS[0], ENDS[0] - 0.1, draws=3)
    with pytest.raises(ShapeError, match="one shape and one dtype"):
        sample(half_space, ENDS[0], ENDS[1, :3], draws=3)
    with pytest.raises(ShapeError, match=r"shape \(\*d\)"):
        sample(half_space, torch.tensor(0.0), ENDS[1], draws=3)
    with pytest.raises(ParameterError, match="`draws`"):
        sample(half_space, *ENDS, draws=0)
