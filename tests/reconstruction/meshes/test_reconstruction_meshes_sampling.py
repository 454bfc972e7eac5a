"""Points drawn from a mesh."""

import pytest
import torch

from levelset.errors import DataError, ParameterError
from levelset.reconstruction import Mesh, sample_surface


@pytest.fixture
def rooftop():
    """Two triangles of area 3 and 1 that share an edge, and one without area."""
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, -1], [4, 0, 0]])
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 3, 1], [0, 1, 4]]))


def test_points_lie_on_the_faces_they_name_uniformly(rooftop):
    points, faces = sample_surface(rooftop, 20_000)
    first = faces == 0
    assert set(faces.tolist()) == {0, 1}
    assert float(first.double().mean()) == pytest.approx(0.75, abs=0.012)  # four standard errors
    assert bool((points[first, 2] == 0).all())
    assert bool((points[~first, 1] == 0).all())
    # the middle of a uniform triangle, and the share below the line that halves its area
    middle = points[first].mean(0)
    assert middle.tolist() == pytest.approx([2 / 3, 1.0, 0.0], abs=0.02)
    below = points[first, 0] / 2 + points[first, 1] / 3 < 0.5**0.5
    assert float(below.double().mean()) == pytest.approx(0.5, abs=0.016)
    inside = (points[first, :2] >= 0).all(1) & (points[first, 0] / 2 + points[first, 1] / 3 <= 1)
    assert bool(inside.all())


def test_a_seed_is_a_sample_and_none_is_seed_zero(rooftop, left_as_found):
    with left_as_found(rooftop.vertices, rooftop.faces):
        drawn = [sample_surface(rooftop, 50, generator=torch.Generator().manual_seed(s))[0]
                 for s in (0, 0, 1)]  # fmt: skip
        default = sample_surface(rooftop, 50)[0]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], default)
    assert not torch.equal(drawn[0], drawn[2])


def test_what_cannot_be_sampled(rooftop):
    with pytest.raises(ParameterError, match="`draws` must be at least 1, got 0"):
        sample_surface(rooftop, 0)
    flat = Mesh(rooftop.vertices, rooftop.faces[2:])
    with pytest.raises(DataError, match="`mesh` must have an area, got 1 faces without one"):
        sample_surface(flat, 5)
    with pytest.raises(DataError, match="must have an area, got 0 faces"):
        sample_surface(Mesh(rooftop.vertices, rooftop.faces[:0]), 5)
