"""Arguments read by annotation: what is taken, in which form, and what each refusal says."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._typing import Bounds, FieldLabels, Labels, Norm, Norms, PerPoint, Points, Progress
from levelset.errors import FieldError, LevelSetError, ParameterError, ShapeError

pytestmark = pytest.mark.messages


POINTS = torch.zeros(3, 2)


@checked
@dataclass(frozen=True)
class Option:
    """An option."""

    size: int = 1
    scale: float | None = None


@checked
def taken(
    model: nn.Module | None = None,
    points: Points = POINTS,
    labels: Labels | None = None,
    *,
    extra: FieldLabels = None,
    levels: PerPoint | None = None,
    tensor: Tensor | None = None,
    norm: Norm = 2.0,
    norms: Norms = (2.0,),
    bounds: Bounds | None = None,
    count: int = 1,
    size: float | None = None,
    flag: bool = False,
    name: str = "",
    file: str | Path = "a",
    mode: Literal["one", "two"] = "one",
    method: Option | Path | None = None,
    sizes: Sequence[float] = (),
    pair: tuple[int, str] = (1, "a"),
    table: Mapping[str, int] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the arguments as they arrive."""
    return dict(locals())


def arrives(**argument: Any) -> Any:
    (name,) = argument
    if name in ("labels", "extra"):
        return taken(None, torch.zeros(3, 2), **argument)[name]
    return taken(**argument)[name]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, 1], (0, 2, 1), np.array([0, 2, 1]), np.array([0, 2, 1], dtype=np.uint16),
        torch.tensor([0, 2, 1], dtype=torch.int32), torch.tensor([0, 2, 1], dtype=torch.uint8),
        [np.int64(0), 2, np.int8(1)],
    ],
)  # fmt: skip
def test_labels_arrive_as_int64_whatever_they_were(labels):
    found = arrives(labels=labels)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 2, 1]


@pytest.mark.parametrize("one", [2, np.int32(2), torch.tensor(2), np.array(2)])
def test_one_label_is_that_of_all_points(one):
    assert arrives(labels=one).tolist() == [2, 2, 2]
    assert arrives(extra=one).tolist() == [2, 2, 2]


def test_labels_of_no_points():
    assert taken(None, torch.zeros(0, 2), [])["labels"].tolist() == []


def test_what_comes_with_each_point_keeps_its_dtype():
    assert arrives(extra=[0.5, 1.5, 2.5]).dtype == torch.float64
    given = torch.rand(3, 4)
    assert arrives(extra=given) is given


@pytest.mark.parametrize("norm", ["Linf", "linf", "inf", "L_inf", "l-inf", math.inf, np.inf, "∞"])
def test_the_names_of_the_largest_entry(norm):
    assert arrives(norm=norm) == math.inf


@pytest.mark.parametrize("norm", ["l2", "L2", "2", " l_2 ", "2.0", 2, 2.0, np.float32(2)])
def test_the_names_of_the_euclidean_norm(norm):
    assert arrives(norm=norm) == 2.0
    assert arrives(norms=norm) == (2.0,)
    assert arrives(norms=[norm, "L1", 2.0]) == (2.0, 1.0)


@pytest.mark.parametrize("count", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_counts(count):
    found = arrives(count=count)
    assert (type(found), found) == (int, 3)


@pytest.mark.parametrize("size", [3, 3.0, np.float32(3), np.int8(3), torch.tensor(3.0)])
def test_numbers(size):
    found = arrives(size=size)
    assert (type(found), found) == (float, 3.0)


def test_what_else_is_taken():
    assert arrives(sizes=[1, 2.5]) == (1.0, 2.5)
    assert arrives(sizes=torch.tensor([1.0, 2.5])) == (1.0, 2.5)
    assert arrives(sizes=np.array([1, 2])) == (1.0, 2.0)
    assert arrives(pair=[1, "b"]) == (1, "b")
    assert arrives(table={"a": np.int64(1)}) == {"a": 1}
    assert arrives(flag=np.True_) is True
    assert arrives(file=Path("b")) == Path("b")
    assert arrives(method=Path("b")) == Path("b")
    assert arrives(method=Option(2)) == Option(2)
    assert arrives(bounds=[0, 1]) == [0, 1]
    assert callable(arrives(progress=lambda done, total: None))
    assert Option(np.int64(4), torch.tensor(0.5)) == Option(4, 0.5)


@pytest.mark.parametrize(
    ("argument", "error", "text"),
    [
        ({"model": 3}, ParameterError, r"taken: `model` must be a Module, got 3\."),
        ({"model": nn.Linear}, ParameterError, "got the class Linear itself"),
        ({"points": None}, ShapeError, r"`points` must be a torch\.Tensor, got NoneType\."),
        ({"points": [[1.0]]}, ShapeError, r"got list\. Convert with `torch\.as_tensor\(points\)`"),
        ({"points": torch.zeros(2, 2).to_sparse()}, ShapeError, r"a dense tensor, got torch\.sp"),
        (
            {"points": torch.zeros(2, 2, device="meta")},
            ShapeError,
            "must hold values, got a tensor",
        ),
        ({"labels": [0.0, 1.0, 2.0]}, ShapeError, r"`labels` must be integers, got torch\.float64"),
        (
            {"labels": [True, False, True]},
            ShapeError,
            r"`labels` must be integers, got torch\.bool",
        ),
        ({"labels": "abc"}, ShapeError, r"one label per point, or one integer for all, got 'abc'"),
        ({"labels": 1.5}, ShapeError, r"one label per point, or one integer for all, got 1\.5"),
        ({"labels": True}, ShapeError, r"or one integer for all, got True"),
        ({"labels": [0, [1, 2], 3]}, ShapeError, r"`labels` must be numbers, one row per point: "),
        ({"labels": ["a", "b", "c"]}, ShapeError, r"`labels` must be numbers, one row per point: "),
        ({"labels": [0, 1]}, ShapeError, r"`labels` must have one row per point \(3\), got \(2,\)"),
        (
            {"labels": np.zeros((3, 1), int)},
            ShapeError,
            r"must have the shape \(n,\), got \(3, 1\)",
        ),
        ({"extra": {"a": 1}}, ShapeError, r"one label per point, or one integer for all, got dict"),
        (
            {"levels": torch.zeros(3, 1)},
            ShapeError,
            r"floating point of the shape \(n,\), got Tens",
        ),
        (
            {"levels": torch.zeros(3).long()},
            ShapeError,
            r"of the shape \(n,\), got Tensor of shape",
        ),
        ({"tensor": np.zeros(2)}, ShapeError, r"`tensor` must be a torch\.Tensor, got ndarray\."),
        (
            {"norm": "euclid"},
            ParameterError,
            r"a norm, such as 2, inf, 'l2' or 'Linf', got 'euclid'",
        ),
        ({"norm": None}, ParameterError, r"`norm` must be a number, got None\."),
        ({"norms": ["l2", "x"]}, ParameterError, r"`norms` must be a norm, such as .* got 'x'\."),
        (
            {"bounds": (1.0, 0.0)},
            ParameterError,
            r"taken: `bounds` must be \(low, high\) with low <",
        ),
        ({"count": 2.5}, ParameterError, r"taken: `count` must be an integer, got 2\.5\."),
        ({"count": True}, ParameterError, r"`count` must be an integer, got True\."),
        ({"count": "3"}, ParameterError, r"`count` must be an integer, got '3'\."),
        (
            {"count": torch.tensor([3])},
            ParameterError,
            r"got Tensor of shape \(1,\) and torch\.int",
        ),
        (
            {"count": 10**40},
            ParameterError,
            r"`count` must be an integer below 9\.2e\+18, got 1000",
        ),
        ({"size": True}, ParameterError, r"`size` must be a number, got True\."),
        ({"size": 10**400}, ParameterError, r"`size` must be a number, got 1000.*\.\.\.\."),
        ({"size": 1j}, ParameterError, r"`size` must be a number, got 1j\."),
        ({"flag": 1}, ParameterError, r"`flag` must be True or False, got 1\."),
        ({"name": 3}, ParameterError, r"`name` must be a str, got 3\."),
        (
            {"file": ""},
            ParameterError,
            r"`file` must be a path, as text or pathlib\.Path, got ''\.",
        ),
        (
            {"file": b"a"},
            ParameterError,
            r"`file` must be a path, as text or pathlib\.Path, got b'a",
        ),
        ({"mode": "three"}, ParameterError, r"`mode` must be one of one, two, got 'three'\."),
        ({"mode": torch.zeros(2)}, ParameterError, r"`mode` must be one of one, two, got Tensor"),
        ({"method": 3}, ParameterError, r"`method` must be Option or a path, or None, got 3\."),
        ({"method": Option}, ParameterError, r"got the class Option itself"),
        ({"sizes": "12"}, ParameterError, r"`sizes` must be a sequence, each a number, got '12'\."),
        ({"sizes": [1.0, "a"]}, ParameterError, r"`sizes\[1\]` must be a number, got 'a'\."),
        ({"pair": (1,)}, ParameterError, r"`pair` must be 2 values, got tuple\."),
        ({"table": [1]}, ParameterError, r"`table` must be a dict with names as keys, got list\."),
        ({"table": {"a": "b"}}, ParameterError, r"`table\['a'\]` must be an integer, got 'b'\."),
        ({"loss": lambda x: x}, ParameterError, r"must take 2 arguments, as in `loss\(tensor, ten"),
        ({"generator": 3}, ParameterError, r"`generator` must be a Generator, got 3\."),
        (
            {"generator": np.random.default_rng(0)},
            ParameterError,
            r"must be a Generator, got Genera",
        ),
        ({"progress": lambda done: None}, ParameterError, r"progress\(done, tot"),
        ({"progress": True}, ParameterError, r"`progress` must be callable, got True\."),
    ],
)
def test_what_is_refused(argument, error, text):
    with pytest.raises(error, match=text):
        arrives(**argument)


def test_options_are_refused_by_the_name_of_their_class():
    with pytest.raises(ParameterError, match=r"^Option: `size` must be an integer, got 2\.5\."):
        Option(2.5)
    with pytest.raises(ParameterError, match=r"^Option: `scale` must be a number, got 'a'\."):
        Option(scale="a")


def test_missing_and_unknown_arguments_are_named_by_python():
    @checked
    def one(points: Points) -> None:
        """Take points."""

    with pytest.raises(
        TypeError, match=r"one\(\) missing 1 required positional argument: 'points'"
    ):
        one()
    with pytest.raises(TypeError, match=r"one\(\) got an unexpected keyword argument 'pionts'"):
        one(pionts=3)


def test_each_of_several_positional_arguments_is_checked():
    @checked
    def widths(*sizes: int) -> tuple[int, ...]:
        """Return the sizes."""
        return sizes

    assert widths(1, np.int64(2)) == (1, 2)
    with pytest.raises(LevelSetError, match=r"`sizes` must be an integer, got 2\.5\."):
        widths(1, 2.5)


def test_a_checked_function_looks_like_itself():
    assert taken.__name__ == "taken"
    assert taken.__doc__.startswith("Return the arguments")
    assert next(iter(inspect.signature(taken).parameters)) == "model"
    assert list(inspect.signature(Option).parameters) == ["size", "scale"]


def test_the_arguments_stay_as_they_are(left_as_found):
    points, labels, array = torch.zeros(3, 2), torch.tensor([0, 1, 2]), np.array([0, 1, 2])
    with left_as_found(points, labels):
        taken(None, points, labels)
        found = taken(None, points, array)["labels"]
    found += 1
    assert array.tolist() == [0, 1, 2]


def test_an_abstract_class_stands_for_its_children_those_to_come_too():
    class Kind(ABC):
        """A parent."""

        @abstractmethod
        def act(self) -> None:
            """Do nothing."""

    class First(Kind):
        def act(self) -> None:
            """Do nothing."""

    @checked
    def take(kind: Kind | None = None, kinds: Kind | Sequence[Kind] = ()) -> Any:
        """Return both."""
        return kind, kinds

    class Second(First):
        pass

    class Third(Kind):
        def act(self) -> None:
            """Do nothing."""

    third = Third()
    assert take(third, [third, Second()])[0] is third
    with pytest.raises(ParameterError, match=r"`kind` must be one of First, Third, or None, got 3"):
        take(3)
    with pytest.raises(ParameterError, match=r"must be one of First, Third or a sequence, each "):
        take(None, 3)


def test_failures_of_a_field_name_the_model_that_the_caller_gave() -> None:
    @checked
    def measured(model: Callable[..., Tensor], points: Points) -> None:
        raise FieldError("measured: `field` must return floating point.")

    @checked
    def projected(field: Callable[..., Tensor], points: Points) -> None:
        raise FieldError("projected: `field` must return floating point.")

    with pytest.raises(FieldError, match="measured: `model` must return floating point"):
        measured(abs, POINTS)
    with pytest.raises(FieldError, match="projected: `field` must return floating point"):
        projected(abs, POINTS)
