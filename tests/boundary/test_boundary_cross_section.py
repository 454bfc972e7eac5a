import math

import pytest
import torch

from levelset.boundary import cross_section
from levelset.errors import BracketError, ParameterError, ShapeError
from levelset.shapes import Sphere


def picture(**options):
    start = torch.tensor([[0.2, 0.3, 0.0]], dtype=torch.float64)
    perturbed = torch.tensor([[2.0, 0.1, 0.5]], dtype=torch.float64)
    return start, perturbed, cross_section(Sphere(radius=1.0), start, perturbed, **options)


def test_the_plane_holds_the_three_points_and_the_field_on_it():
    start, perturbed, found = picture(resolution=21, extent=2.0, tol=1e-12)
    assert float(found.origin.norm()) == pytest.approx(1.0, abs=1e-9)
    torch.testing.assert_close(found.normal, found.origin)
    assert abs(float(found.normal @ found.tangent)) < 1e-12
    for point, place in ((start, found.start), (perturbed, found.perturbed)):
        back = found.origin + place[0] * found.tangent + place[1] * found.normal
        torch.testing.assert_close(back, point[0])
    for i in (0, 7, 20):
        for j in (0, 13):
            where = found.origin + found.ticks[j] * found.tangent + found.ticks[i] * found.normal
            assert float(found.values[i, j]) == pytest.approx(float(where.norm()) - 1.0)
    assert repr(found) == "CrossSection(values=(21, 21), extent=2)"


def test_by_itself_it_shows_all_three():
    _, _, found = picture()
    assert found.values.shape == (101, 101)
    reach = max(float(found.start.abs().max()), float(found.perturbed.abs().max()))
    assert float(found.ticks[-1]) == pytest.approx(1.5 * reach)


@pytest.mark.messages
def test_bad_input_is_refused():
    start, perturbed, _ = picture()
    with pytest.raises(BracketError):
        cross_section(Sphere(), start, 0.5 * start)
    with pytest.raises(ParameterError, match="must not lie straight along the normal"):
        cross_section(Sphere(), 0.0 * start, perturbed)
    with pytest.raises(ShapeError, match=r"`perturbed` must hold one input"):
        cross_section(Sphere(), start, perturbed.repeat(2, 1))
    with pytest.raises(ParameterError, match="`resolution` must be an integer of at least 2"):
        cross_section(Sphere(), start, perturbed, resolution=1)
    with pytest.raises(
        ShapeError, match=r"`labels` must be a tensor, array or list of one label per point"
    ):
        cross_section(Sphere(), start, perturbed, labels="1")
    with pytest.raises(ParameterError, match="`extent` must be positive"):
        cross_section(Sphere(), start, perturbed, extent=math.nan)
