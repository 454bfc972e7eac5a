"""What is lifted to single precision, and what is left."""

import pytest
import torch

from levelset._tools.least_norm import least_norm
from levelset._tools.precision import at_least_single


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted_and_no_digit_lost(dtype):
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    lifted = at_least_single(values)
    assert lifted.dtype == torch.float32
    assert torch.equal(lifted.to(dtype), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_numbers_are_left(dtype):
    values = torch.ones(2, dtype=dtype)
    assert at_least_single(values) is values


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_two_equations_in_half_precision_have_the_solution_of_single(dtype):
    generator = torch.Generator().manual_seed(1)
    jacobian = torch.randn(6, 2, 4, generator=generator).to(dtype)
    values = torch.randn(6, 2, generator=generator).to(dtype)
    solution = least_norm(jacobian, values)
    assert solution.dtype == dtype
    assert torch.equal(solution, least_norm(jacobian.float(), values.float()).to(dtype))
