"""The shortest solution, against independent solvers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from levelset._tools.least_norm import least_norm


@pytest.mark.parametrize("equations", [1, 2, 3, 6])
@pytest.mark.parametrize("width", [6, 40])
def test_it_is_what_lstsq_and_pinv_find(noise, equations, width):
    jacobian, values = noise(25, equations, width, seed=1), noise(25, equations, seed=2)
    found = least_norm(jacobian, values)
    by_lstsq = torch.linalg.lstsq(jacobian, values.unsqueeze(2), driver="gelsd").solution.squeeze(2)
    by_pinv = (torch.linalg.pinv(jacobian) @ values.unsqueeze(2)).squeeze(2)
    assert (found - by_lstsq).abs().max() < 1e-11
    assert (found - by_pinv).abs().max() < 1e-11
    assert ((jacobian @ found.unsqueeze(2)).squeeze(2) - values).abs().max() < 1e-12


def test_more_equations_than_unknowns_are_solved_in_the_least_squares_sense(noise):
    jacobian, values = noise(5, 7, 3, seed=1), noise(5, 7, seed=2)
    expected = torch.linalg.lstsq(jacobian, values.unsqueeze(2)).solution.squeeze(2)
    assert (least_norm(jacobian, values) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e8, 1e11])
def test_the_condition_is_not_squared(noise, condition):
    left, _ = torch.linalg.qr(noise(10, 3, 3, seed=1))
    right, _ = torch.linalg.qr(noise(10, 8, 3, seed=2))
    sizes = torch.tensor([1.0, condition**-0.5, 1.0 / condition], dtype=torch.float64)
    jacobian = left @ torch.diag(sizes) @ right.transpose(1, 2)
    truth = (right @ noise(10, 3, 1, seed=3)).squeeze(2)
    values = (jacobian @ truth.unsqueeze(2)).squeeze(2)
    error = (least_norm(jacobian, values) - truth).abs().max()
    assert error < 50 * condition * 2.2e-16  # the normal equations would be at condition squared


def test_dependent_equations_give_the_shortest_least_squares_solution(noise):
    jacobian = noise(6, 1, 5, seed=1).repeat(1, 3, 1) * torch.tensor([[1.0], [-2.0], [0.5]])
    values = noise(6, 3, seed=2)
    expected = (torch.linalg.pinv(jacobian, rtol=1e-12) @ values.unsqueeze(2)).squeeze(2)
    assert (least_norm(jacobian, values) - expected).abs().max() < 1e-13


@pytest.mark.parametrize("equations", [1, 2])
def test_jacobians_that_vanish_or_are_not_finite_give_zero_and_spare_the_others(noise, equations):
    jacobian, values = noise(6, equations, 4), noise(6, equations, seed=1)
    expected = least_norm(jacobian, values)
    jacobian[1] = 0.0
    jacobian[2, 0, 1] = math.nan
    jacobian[3, -1, 0] = math.inf
    jacobian[4, -1, 0] = -math.inf
    found = least_norm(jacobian, values)
    assert (found[1:5] == 0).all()
    assert (found[[0, 5]] - expected[[0, 5]]).abs().max() < 1e-14


@settings(max_examples=60)
@given(power=st.integers(-300, 300), other=st.integers(-5, 5))
def test_one_equation_of_any_scale_is_solved(power, other):
    gradient = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    value = torch.tensor([[10.0 ** min(power + other, 300)]], dtype=torch.float64)
    found = least_norm((10.0**power * gradient).unsqueeze(1), value)
    expected = value / 10.0**power * gradient / 25.0
    assert torch.allclose(found, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 1e38])
def test_one_equation_in_float32_neither_overflows_nor_vanishes(scale):
    gradient = torch.tensor([[[0.5, 1.0, -2.0]]]) * scale
    found = least_norm(gradient, torch.tensor([[scale]]))
    assert torch.allclose(found, torch.tensor([[0.5, 1.0, -2.0]]) / 5.25, rtol=1e-2)


@pytest.mark.parametrize("equations", [1, 2, 3])
def test_it_is_linear_in_the_values_and_carries_their_graph(noise, equations):
    jacobian = noise(3, equations, 5)
    values = noise(3, equations, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: least_norm(jacobian, v), values)


@pytest.mark.parametrize("equations", [1, 2])
def test_no_rows_give_no_rows(equations):
    assert least_norm(torch.empty(0, equations, 4), torch.empty(0, equations)).shape == (0, 4)
