"""What is sent arrives as it was, and brings nothing else with it."""

import torch

from levelset._tools.engines._parcels import packed, unpacked
from levelset.errors import RunError


def test_tensors_arrive_to_the_bit_in_their_dtype_and_shape() -> None:
    tensors = [
        torch.tensor([1.0, -0.0, torch.nan, torch.inf]),
        torch.arange(6.0, dtype=torch.float64).view(2, 3).T,
        torch.tensor(True),
        torch.zeros(0, 3, dtype=torch.int64),
        torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    ]
    for tensor, arrived in zip(tensors, unpacked(packed(tensors)), strict=True):
        assert arrived.dtype == tensor.dtype
        assert arrived.shape == tensor.shape
        torch.testing.assert_close(arrived, tensor, rtol=0, atol=0, equal_nan=True)
    arrived.zero_()  # a tensor of its own, not a view of what was read


def test_a_row_does_not_bring_its_neighbours() -> None:
    rows = torch.zeros(10_000, 10)
    assert len(packed(rows[3:4])) < 1_000


def test_everything_else_is_pickled() -> None:
    module = torch.nn.Linear(2, 3)
    arrived = unpacked(packed({"module": module, "error": RunError("full")}))
    assert torch.equal(arrived["module"].weight, module.weight)
    assert arrived["error"].args == ("full",)
