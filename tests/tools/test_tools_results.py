"""Results: cut, joined, printed."""

import dataclasses
import importlib
import io
import pickle
from typing import ClassVar

import pytest
import rich
import torch
from torch import Tensor

import levelset
from levelset._tools.results import Result, Rows, concatenate


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
    assert repr(found) == "Found(points=(4, 3), mean=5.5)"
    copy = pickle.loads(pickle.dumps(found))
    assert repr(copy) == repr(found)
    assert found != copy  # tensors have no one truth value, so identity it is
    assert Rows.summary(found) == {"points": 4}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Measured(Result):
    _headline: ClassVar = ("image", "name", "norm", "far_{norm}_median", "flags", "absent")

    image: Tensor
    flags: Tensor
    name: str
    norm: float

    def summary(self) -> dict[str, int | float]:
        return {"flags": int(self.flags.sum()), "far_inf_median": 2 / 3, "<b>": 1, "absent": None}


def test_the_line_holds_the_shapes_and_numbers_of_the_headline():
    flags = torch.tensor([True, False, True])
    result = Measured(torch.zeros(3, 1, 8, 8), flags, "a & b", float("inf"))
    line = "Measured(image=(3, 1, 8, 8), name='a & b', norm=inf, far_inf_median=0.6667, flags=2)"
    assert repr(result) == line


def test_without_a_headline_the_line_is_the_summary_and_that_the_numbers():
    @dataclasses.dataclass(repr=False)
    class Numbers(Result):
        share: float
        count: int
        genus: int | None
        words: str = "left out"

    assert repr(Numbers(0.25, 3, None)) == "Numbers(share=0.25, count=3)"
    assert Numbers(0.25, 3, None).summary() == {"share": 0.25, "count": 3, "genus": None}


def test_a_notebook_shows_the_whole_summary_as_a_table_with_markup_escaped():
    table = Measured(torch.zeros(2, 2), torch.ones(2), "a & b", float("inf"))._repr_html_()
    assert table.startswith("<table><caption>Measured(image=(2, 2), name=&#x27;a &amp; b&#x27;")
    assert "<tr><th>far_inf_median</th><td>0.6667</td></tr>" in table
    assert "<tr><th>&lt;b&gt;</th><td>1</td></tr>" in table


def test_rich_prints_a_line_an_entry():
    out = io.StringIO()
    result = Measured(torch.zeros(2, 2), torch.ones(2), "name", float("inf"))
    rich.get_console().__class__(file=out, width=40).print(result)
    assert "    far_inf_median=0.66" in out.getvalue()
    assert out.getvalue().count("\n") == 6


def holds(field: dataclasses.Field) -> bool:
    """Return whether a field is a tensor or another result, and not what computes one."""
    kinds = ("Tensor", "Point", "Mask", "Counts", "Labels", "Mesh", "Polylines")
    return any(kind in str(field.type) for kind in kinds) and "Callable" not in str(field.type)


def results() -> list[type]:
    """Return every public class with tensors or other results among its fields."""
    families = [getattr(levelset, name) for name in dir(levelset)] + [
        importlib.import_module(f"levelset.{name}") for name in ("auditing", "boundary.detect")
    ]
    classes = {
        value
        for family in [levelset, *families]
        for value in (getattr(family, name) for name in dir(family))
        if isinstance(value, type) and dataclasses.is_dataclass(value)
    }
    return sorted(
        (c for c in classes if any(map(holds, dataclasses.fields(c)))),
        key=lambda c: c.__name__,
    )


@pytest.mark.parametrize("result", results())
def test_public_results_print_by_one_mechanism(result):
    assert issubclass(result, Result)
    assert result.__repr__ is Result.__repr__
