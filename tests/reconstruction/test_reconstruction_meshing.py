"""Meshes of fields in the unit frame: closed at the walls of their box, or cut."""

import torch

from levelset.networks import SplineGrid
from levelset.reconstruction._meshing import closed_mesh, value_and_slope


def plane_field():
    """Return a field whose level set is the plane z = 0, and points on it."""
    field = SplineGrid(16, 1.25)
    width = 2.0 * field.reach / field.cells
    line = (torch.arange(field.cells + 2) - 0.5) * width - field.reach
    with torch.no_grad():
        field.coefficients.copy_(line.expand_as(field.coefficients))
    x, y = 2.0 * torch.rand(2, 100, generator=torch.Generator().manual_seed(0)) - 1.0
    return field, torch.stack([x, y, torch.zeros(100)], 1).double()


def test_a_level_set_that_leaves_the_box_is_closed_at_its_walls():
    field, points = plane_field()
    mesh = closed_mesh(field, points, 24)
    assert mesh.watertight
    assert (mesh.genus, mesh.components) == (0, 1)
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    assert (low[:2] < points.amin(0)[:2]).all()
    assert (high[:2] > points.amax(0)[:2]).all()
    assert abs(float(high[2])) < 1e-6


def test_the_slope_of_a_plane_is_one():
    field, points = plane_field()
    value, slope = value_and_slope(field, 0.5 * points + 0.25)
    assert torch.allclose(value, torch.full((100,), 0.25).double(), atol=1e-6)
    assert torch.allclose(slope, torch.ones(100).double(), atol=1e-6)
