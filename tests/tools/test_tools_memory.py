"""A batch that does not fit is halved once, and every row is done once."""

import pytest
import torch

from levelset._tools.memory import Room
from levelset.boundary import curvature
from levelset.errors import LevelSetWarning


def test_rows_are_done_once_in_order_and_the_half_is_remembered() -> None:
    room, sizes = Room("job"), []

    def do(rows: slice) -> list[int]:
        sizes.append(rows.stop - rows.start)
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("no room")
        return list(range(rows.start, rows.stop))

    assert [row for _, part in Room("job").batches(7, 3, do) for row in part] == list(range(7))
    with pytest.warns(LevelSetWarning, match="job: 6 points at once do not .* `batch_size=3` to"):
        assert [row for _, part in room.batches(8, 6, do) for row in part] == list(range(8))
    assert sizes == [3, 3, 1, 6, 3, 3, 2]
    assert [cut for cut, _ in room.batches(4, 6, do)] == [slice(0, 3), slice(3, 4)]
    assert list(room.batches(0, 6, do)) == []


def test_the_second_time_and_one_row_are_an_error_with_the_remedy() -> None:
    def do(rows: slice) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError) as one:
        list(Room("job").batches(2, 1, do))
    with (
        pytest.warns(LevelSetWarning, match="job: 9 points"),
        pytest.raises(torch.OutOfMemoryError) as again,
    ):
        list(Room("job").batches(9, 9, do))
    for caught in (one, again):
        assert caught.value.__notes__ == ["job: give a smaller `batch_size`."]


class Narrow(torch.nn.Module):
    """A smooth field that takes few points at once: a device with little memory."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        if len(points) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return (points**2).sum(1) + points[:, 0] * points[:, 1]


def test_second_derivatives_fit_too() -> None:
    points = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).double()
    few = curvature(Narrow(), points, level=None, batch_size=4)
    with pytest.warns(LevelSetWarning, match="curvature: 12 points at once do not fit"):
        many = curvature(Narrow(), points, level=None)
    torch.testing.assert_close(many.mean, few.mean, rtol=1e-12, atol=0)
