"""The equations against the module's own values and derivatives, and against closed forms."""

import numpy as np
import torch

from levelset.networks import SplineGrid
from levelset.reconstruction._grid import REACH, all_nodes, gradients, roughness, stencil, values

NUMBERS = np.random.default_rng(0)
CELLS = 6
GRID = NUMBERS.standard_normal((CELLS + 2,) * 3)


def field():
    module = SplineGrid(CELLS, REACH).double()
    with torch.no_grad():
        module.coefficients.copy_(torch.from_numpy(GRID))
    return module


def test_values_and_derivatives_are_the_modules():
    points = NUMBERS.uniform(-REACH, REACH, (50, 3))
    at = stencil(points, CELLS)
    here = torch.from_numpy(points).requires_grad_()
    value = field()(here)
    (gradient,) = torch.autograd.grad(value.sum(), here, create_graph=True)
    bends = [
        torch.autograd.grad(gradient[:, a].sum(), here, retain_graph=True)[0] for a in range(3)
    ]
    laplacian = sum(bends[a][:, a] for a in range(3))
    np.testing.assert_allclose(values(at, GRID), value.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradients(at, GRID), gradient.detach(), rtol=0, atol=1e-11)
    found = (at.laplacian * GRID.ravel()[at.nodes]).sum(1)
    np.testing.assert_allclose(found, laplacian, rtol=0, atol=1e-10)


def test_points_on_the_walls_of_the_cube_stay_inside_the_grid():
    corners = np.array([[REACH] * 3, [-REACH] * 3, [REACH, -REACH, 0.0]])
    at = stencil(corners, CELLS)
    assert at.nodes.min() >= 0
    assert at.nodes.max() < (CELLS + 2) ** 3
    np.testing.assert_allclose(
        values(at, GRID), field()(torch.from_numpy(corners)).detach(), rtol=0, atol=1e-12
    )


def test_second_differences_are_the_hessian_of_a_quadratic_and_blind_to_affine_functions():
    band = all_nodes(CELLS)
    line = (np.arange(CELLS + 2) - 0.5) * band.width - REACH
    place = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    hessian = np.array([[2.0, 0.5, -1.0], [0.5, -3.0, 0.25], [-1.0, 0.25, 1.0]])
    quadratic = 0.5 * np.einsum("...a,ab,...b->...", place, hessian, place)
    affine = place @ [1.0, -2.0, 3.0] + 5
    kinds = roughness(band)
    root = np.sqrt(2)
    wanted = [2, -3, 1, root * 0.5, -root, root * 0.25]
    for kind, entry in zip(kinds, wanted, strict=True):
        np.testing.assert_allclose(kind.matrix @ quadratic.ravel(), entry, rtol=0, atol=1e-4)
        np.testing.assert_allclose(kind.matrix @ affine.ravel(), 0, rtol=0, atol=1e-4)
        assert len(kind.node) == kind.matrix.shape[0]
    total = sum(entry**2 for entry in wanted)
    np.testing.assert_allclose(total, (hessian**2).sum())
    assert [kind.matrix.shape[0] for kind in kinds] == 3 * [6 * 8 * 8] + 3 * [7 * 7 * 8]
