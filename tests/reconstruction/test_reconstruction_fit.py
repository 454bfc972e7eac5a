"""Fields through points of shapes with exact distances."""

import math
import pickle

import numpy as np
import pytest
import torch

from levelset.reconstruction._fit import distances
from levelset.reconstruction._fit import fit as fit_oriented
from levelset.reconstruction._orientation import OrientedPoints
from levelset.shapes import Ellipsoid, Sphere, Torus


def fit(points, normals, *, noise, weights=None, confidence=None, **options):
    """Return the field, negative inside, through points whose normals and weights are known."""
    ones = torch.ones(len(points))
    arrays = (points, normals, ones if weights is None else weights,
              ones if confidence is None else confidence, ones)  # fmt: skip
    arrays = [array.double().numpy() for array in arrays]
    return fit_oriented(OrientedPoints(*arrays, np.full(len(points), noise)), **options)


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def directions(count, seed=0):
    x = torch.randn(count, 3, generator=numbers(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def to_first_order(network, points):
    here = points.clone().requires_grad_()
    values = network.double()(here)
    (slope,) = torch.autograd.grad(values.sum(), here)
    return (values / slope.norm(dim=1)).detach(), slope / slope.norm(dim=1, keepdim=True)


def on_torus(count, seed=0, noise=0.0):
    angles = 2 * math.pi * torch.rand(count, 2, generator=numbers(seed), dtype=torch.float64)
    u, v = angles.T
    out = torch.stack([v.cos() * u.cos(), v.cos() * u.sin(), v.sin()], 1)
    ring = 0.6 * torch.stack([u.cos(), u.sin(), torch.zeros_like(u)], 1)
    points = ring + 0.25 * out
    return points + noise * torch.randn(count, 3, generator=numbers(1), dtype=torch.float64), out


@pytest.mark.slow
def test_a_sphere_is_met_to_a_ten_thousandth():
    unit = directions(3000)
    network = fit(0.8 * unit, unit, noise=1e-3, cells=64)
    away, slope = to_first_order(network, 0.8 * directions(2000, 1))
    assert away.abs().mean() < 1e-5
    assert away.abs().max() < 1e-4
    torch.testing.assert_close(slope, directions(2000, 1), rtol=0, atol=5e-3)


def test_signs_are_right_far_from_the_points_too():
    unit = directions(2000)
    network = fit(0.6 * unit + torch.tensor([0.3, 0.0, -0.1]), unit, noise=1e-3, cells=32)
    where = 2 * torch.rand(4000, 3, generator=numbers(2)) - 1
    exact = Sphere(radius=0.6)(where - torch.tensor([0.3, 0.0, -0.1]))
    values = network(where).detach()
    clear = exact.abs() > 0.01
    assert (values[clear] > 0).eq(exact[clear] > 0).all()


@pytest.mark.slow
def test_noise_is_averaged_out():
    points, normals = on_torus(8000, noise=0.01)
    network = fit(points, normals, noise=0.01, cells=64)
    away, _ = to_first_order(network, on_torus(3000, seed=5)[0])
    assert away.abs().mean() < 0.0025
    assert abs(away.mean()) < 0.001
    exact = Torus(0.6, 0.25)(on_torus(3000, seed=5)[0])
    assert exact.abs().max() < 1e-9


@pytest.mark.slow
def test_normals_that_point_inside_are_outvoted():
    points, normals = on_torus(6000, noise=0.002)
    wrong = torch.rand(6000, generator=numbers(3)) < 0.1
    normals = torch.where(wrong[:, None], -normals, normals)
    network = fit(points, normals, noise=0.002, cells=64)
    away, slope = to_first_order(network, on_torus(2000, seed=5)[0])
    assert away.abs().mean() < 1e-3
    assert ((slope * on_torus(2000, seed=5)[1]).sum(1) > 0.9).all()


@pytest.mark.slow
def test_a_patch_of_wrong_normals_yields_where_it_is_not_sure():
    unit = directions(6000)
    patch = unit[:, 2] > 0.85
    normals = torch.where(patch[:, None], -unit, unit)
    sure = torch.where(patch, 0.3, 1.0)
    network = fit(0.7 * unit, normals, noise=2e-3, confidence=sure, cells=64)
    away, slope = to_first_order(network, 0.7 * directions(2000, 1))
    assert away.abs().max() < 2e-3
    assert ((slope * directions(2000, 1)).sum(1) > 0.9).all()


@pytest.mark.slow
def test_stray_points_pull_the_surface_less_than_their_share():
    unit = directions(3000)
    points = torch.cat([0.7 * unit, 0.73 * directions(60, 4)])
    network = fit(points, torch.cat([unit, directions(60, 4)]), noise=2e-3, cells=64)
    away, _ = to_first_order(network, 0.7 * directions(2000, 1))
    assert away.abs().median() < 0.5 * 0.03 * 60 / 3060
    assert away.abs().max() < 0.03


def test_points_without_weight_do_not_matter():
    unit = directions(1000)
    points, normals = torch.cat([0.7 * unit, 0.3 * unit[:50]]), torch.cat([unit, -unit[:50]])
    weights = torch.cat([torch.ones(1000), torch.zeros(50)])
    network = fit(points, normals, noise=2e-3, weights=weights, cells=32)
    alone = fit(0.7 * unit, unit, noise=2e-3, cells=32)
    assert torch.equal(network.coefficients, alone.coefficients)


@pytest.mark.slow
def test_an_edge_stays_sharper_than_the_noise_would_make_it():
    numbers_ = numbers(7)
    face = torch.rand(12000, 3, generator=numbers_, dtype=torch.float64) - 0.5
    axis = torch.randint(3, (12000,), generator=numbers_)
    side = torch.randint(2, (12000,), generator=numbers_).double() * 2 - 1
    normals = torch.nn.functional.one_hot(axis, 3).double() * side[:, None]
    points = torch.where(normals != 0, 0.5 * side[:, None], face)
    points = points + 0.005 * torch.randn(12000, 3, generator=numbers_, dtype=torch.float64)
    network = fit(points, normals, noise=0.005, cells=64)
    middle = torch.linspace(-0.35, 0.35, 50, dtype=torch.float64)
    half = torch.full_like(middle, 0.5)
    edge, _ = to_first_order(network, torch.stack([half, half, middle], 1))
    flat, _ = to_first_order(network, torch.stack([half, middle, 0.2 + 0 * middle], 1))
    assert edge.abs().mean() < 0.012
    assert flat.abs().mean() < 0.0015


def test_few_points_get_no_finer_grid_than_they_can_fill():
    unit = directions(150)
    assert fit(0.8 * unit, unit, noise=1e-3, cells=128).cells == 32


@pytest.mark.slow
def test_one_step_is_told_a_solution():
    told, unit = [], directions(2500)
    network = fit(0.8 * unit, unit, noise=2e-3, cells=64, progress=told.append)
    assert [step.done for step in told] == [1, 2, 3, 4]
    assert {step.total for step in told} == {4}
    away, _ = distances(0.8 * unit.numpy(), network.coefficients.detach().double().numpy())
    assert told[-1].residual == pytest.approx(np.median(np.abs(away)), rel=1e-3)
    assert told[-1].quality == 1.0
    assert told[-1].residual < told[0].residual
    assert [step.seconds for step in told] == sorted(step.seconds for step in told)
    assert "64 cells" in told[-1].stage


def test_time_up_and_ctrl_c_return_the_coarser_field():
    unit = directions(1000)
    hasty = fit(0.8 * unit, unit, noise=2e-3, cells=128, seconds=1e-6)
    assert hasty.cells == 16

    def interrupt(step):
        if step.done == 2:
            raise KeyboardInterrupt

    network = fit(0.8 * unit, unit, noise=2e-3, cells=128, progress=interrupt)
    assert network.cells == 32
    away, _ = to_first_order(network, 0.8 * directions(500, 1))
    assert away.abs().max() < 1e-2

    def fail(step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(0.8 * unit, unit, noise=2e-3, cells=32, progress=fail)


def test_the_result_is_the_same_again_and_survives_storage():
    surface = Ellipsoid((0.9, 0.6, 0.4))
    points = surface.project(0.9 * directions(800))
    here = points.clone().requires_grad_()
    (normals,) = torch.autograd.grad(surface(here).sum(), here)
    normals = normals / normals.norm(dim=1, keepdim=True)
    kept = points.clone(), normals.clone()
    state = torch.random.get_rng_state()
    first = fit(points, normals, noise=1e-3, cells=32)
    again = fit(points, normals, noise=1e-3, cells=32)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(points, kept[0])
    assert torch.equal(normals, kept[1])
    assert torch.equal(first.coefficients, again.coefficients)
    copy = pickle.loads(pickle.dumps(first))
    assert torch.equal(copy.coefficients, first.coefficients)
