"""Angles between facets and of crossing segments, against wedges and planes."""

import math

import pytest
import torch

from levelset.boundary import incidence, skewness
from levelset.errors import BracketError
from levelset.shapes import Plane, Sphere, Wedge


@pytest.mark.parametrize("angle", [-0.6, 0.0, 0.3, 1.2])
def test_the_edge_of_a_wedge_is_as_skew_as_it_was_made(angle, generator):
    edge = torch.zeros(3, 4, dtype=torch.float64)
    edge[:, 3] = torch.tensor([0.0, 0.5, -2.0])
    result = skewness(Wedge(angles=(angle,), d=4), edge, radius=0.1, generator=generator)
    assert result.largest.tolist() == pytest.approx([math.pi / 2 + angle] * 3, rel=1e-9)
    assert result.facets.tolist() == [2, 2, 2]


def test_a_corner_of_three_planes_has_three_facets(generator):
    corner = torch.zeros(1, 3, dtype=torch.float64)
    result = skewness(Wedge(angles=(0.0, 0.0), d=3), corner, radius=0.1, generator=generator)
    assert result.facets.tolist() == [3]
    assert float(result.largest) == pytest.approx(math.pi / 2, rel=1e-9)


def test_a_plane_is_not_skew_and_a_sphere_by_its_opening(noise, generator):
    plane = Plane(normal=(0.0, 1.0, 0.0))
    flat = skewness(plane, plane.project(noise(2, 3)), radius=0.5, generator=generator)
    assert flat.facets.tolist() == [1, 1]
    assert float(flat.largest.max()) < 1e-7
    point = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    round_ = skewness(Sphere(), point, radius=0.2, draws=400, generator=generator)
    assert 0.3 < float(round_.largest) <= 2.0 * math.asin(0.2)


def test_the_incidence_of_a_segment_is_its_angle_with_the_normal(noise):
    plane = Plane(normal=(1.0, 0.0, 0.0))
    start = torch.tensor([[-1.0, 0.0, 0.0]] * 3, dtype=torch.float64)
    end = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.5, 1e-8, 0.0]]).double()
    expected = [0.0, math.pi / 4, 1e-8 / 1.5]
    assert incidence(plane, start, end).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-15)
    assert incidence(plane, end, start).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-15)
    with pytest.raises(BracketError, match="opposite sides"):
        incidence(plane, start, start - 1.0)
