"""The spline grid against closed forms, finite differences and scipy's own B-splines."""

import pickle

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from levelset.errors import ParameterError
from levelset.networks import SplineGrid


def filled(cells=5, reach=1.2, seed=0):
    field = SplineGrid(cells, reach).double()
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        shape = field.coefficients.shape
        field.coefficients.copy_(torch.randn(shape, generator=numbers, dtype=torch.float64))
    return field


def inside(count, reach=1.2, seed=1):
    numbers = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(count, 3, generator=numbers, dtype=torch.float64) - 1) * reach


def test_affine_functions_are_reproduced():
    field = SplineGrid(7, 1.1).double()
    slope = torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    with torch.no_grad():
        field.coefficients.copy_(field.centres() @ slope + 0.4)
    points = inside(200, 1.1).requires_grad_()
    values = field(points)
    torch.testing.assert_close(values, points @ slope + 0.4, rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    torch.testing.assert_close(gradient, slope.expand(200, 3), rtol=0, atol=1e-12)


def test_values_are_those_of_scipys_b_splines():
    field, cells, reach = filled(), 5, 1.2
    points = inside(60)
    width = 2 * reach / cells
    knots = (np.arange(cells + 5) - 2) * width - reach
    lines = [
        BSpline.design_matrix(points[:, axis].numpy(), knots, 2).toarray() for axis in range(3)
    ]
    wanted = np.einsum("na,nb,nc,abc->n", *lines, field.coefficients.detach().numpy())
    np.testing.assert_allclose(field(points).detach().numpy(), wanted, rtol=0, atol=1e-12)


def test_derivatives_agree_with_finite_differences():
    field, points = filled(), inside(40)
    # a quadratic has exact central differences wherever the step stays inside the cell
    step, cell = 1e-4, 2 * 1.2 / 5
    place = torch.remainder(points + 1.2, cell)
    points = points[((place > step) & (place < cell - step)).all(1)]
    assert len(points) > 30
    moved = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(field(moved).sum(), moved)
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        difference = (field(points + shift) - field(points - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, axis], difference.detach(), rtol=0, atol=1e-9)


def test_derivatives_in_the_coefficients_and_of_second_order():
    field, points = filled(cells=2), inside(4).requires_grad_()

    def values(points, coefficients):
        return torch.func.functional_call(field, {"coefficients": coefficients}, points)

    start = field.coefficients.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(values, (points, start))
    assert torch.autograd.gradgradcheck(values, (points, start))


def test_the_gradient_is_continuous_across_cells():
    field = filled()
    wall = -1.2 + 2 * 2.4 / 5
    sides = torch.tensor([[wall - 1e-9, 0.1, 0.2], [wall + 1e-9, 0.1, 0.2]], dtype=torch.float64)
    sides.requires_grad_()
    (gradient,) = torch.autograd.grad(field(sides).sum(), sides)
    torch.testing.assert_close(gradient[0], gradient[1], rtol=0, atol=1e-6)


def test_outside_the_cube_the_distance_to_it_is_added():
    field = filled()
    corner = torch.tensor([[1.2, 1.2, 1.2], [-1.2, 0.3, 0.3]], dtype=torch.float64)
    away = torch.tensor([[3.0, 4.0, 0.0], [-0.5, 0.0, 0.0]], dtype=torch.float64)
    beyond = (corner + away).requires_grad_()
    wanted = field(corner) + torch.tensor([5.0, 0.5], dtype=torch.float64)
    values = field(beyond)
    torch.testing.assert_close(values, wanted, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(values.sum(), beyond)
    assert torch.isfinite(gradient).all()


def test_it_survives_storage_and_has_the_size_it_says():
    field = filled()
    other = SplineGrid(5, 1.2).double()
    other.load_state_dict(field.state_dict())
    points = inside(20)
    assert torch.equal(other(points), field(points))
    assert torch.equal(pickle.loads(pickle.dumps(field))(points), field(points))
    assert sum(p.numel() for p in field.parameters()) == 7**3
    assert "cells=5, reach=1.2" in repr(field)
    assert field(points[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("cells", "reach", "text"),
    [(0, 1.0, "`cells` must be at least 1"), (4, 0.0, "`reach` must be positive")],
)
def test_bad_sizes_are_refused(cells, reach, text):
    with pytest.raises(ParameterError, match=text):
        SplineGrid(cells, reach)
