"""Row-wise results: cut, joined, printed."""

import dataclasses
import pickle

import pytest
import torch
from torch import Tensor

from levelset._tools.results import Rows, concatenate


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Found(Rows):
    points: Tensor
    norm: float
    labels: Tensor | None = None

    def summary(self) -> dict[str, int | float]:
        return {"points": len(self), "mean": float(self.points.mean())}


@pytest.fixture
def found() -> Found:
    return Found(torch.arange(12.0).view(4, 3), 2.0, torch.arange(4))


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (slice(1, 3), [1, 2]),
        ([3, 0, 3], [3, 0, 3]),
        (torch.tensor([2]), [2]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        (slice(0, 0), []),
    ],
)
def test_rows_are_cut_in_every_tensor_and_nothing_else(found, rows, kept):
    part = found[rows]
    assert len(part) == len(kept)
    assert part.labels.tolist() == kept
    assert torch.equal(part.points, found.points[kept])
    assert part.norm == 2.0


@pytest.mark.parametrize("row", [0, -1, True])
@pytest.mark.messages
def test_one_integer_is_refused(found, row):
    with pytest.raises(TypeError, match="with a mask, a slice or a list of rows, not one integer"):
        found[row]


def test_joining_undoes_cutting(found):
    joined = concatenate([found[:1], found[1:1], found[1:]])
    assert torch.equal(joined.points, found.points)
    assert torch.equal(joined.labels, found.labels)
    without = dataclasses.replace(found, labels=None)
    assert concatenate([without, without]).labels is None


def test_results_are_frozen_print_on_one_line_and_pickle(found):
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.norm = 1.0
    assert repr(found) == "Found(points=4, mean=5.5)"
    copy = pickle.loads(pickle.dumps(found))
    assert repr(copy) == repr(found)
    assert found != copy  # tensors have no one truth value, so identity it is
    assert Rows.summary(found) == {"points": 4}
