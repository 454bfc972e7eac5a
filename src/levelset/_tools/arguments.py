"""Arguments checked by what a signature says, before a public function does anything.

`checked` reads the annotations of a function once. At each call every argument is refused by its
name if it is of the wrong kind, and brought into the one form that the function works on: labels
as int64 beside the points, counts as `int`, norms as `float`. What depends on several arguments,
or on the model, the function checks itself.
"""

import functools
import inspect
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn

from levelset._tools.bounds import check_sides
from levelset._tools.checks import (
    check_batch_size,
    check_callable,
    check_choice,
    check_instance,
    check_number,
    check_path,
    check_points,
    check_tensor,
    check_whole,
    integer_labels,
    row_labels,
    shown,
)
from levelset._tools.norms import read_norm, read_norms
from levelset._typing import Progress
from levelset.errors import LevelSetError, ParameterError, ShapeError

__all__ = ["checked", "checked_as"]

T = TypeVar("T", bound=Callable[..., Any])
# Takes the function, the argument, its value, and the points that precede it.
Read = Callable[[str, str, Any, Tensor | None], Any]


class _Kind(NamedTuple):
    """What an argument must be, in words or as a function that returns them, and how it is read."""

    label: str | Callable[[], str]
    read: Read

    @property
    def what(self) -> str:
        """The words that complete "must be ..."."""
        return self.label if isinstance(self.label, str) else self.label()


def checked(function: T) -> T:
    """Check every argument of a public function, method or dataclass by its annotation.

    Annotations that are text, or `Any`, say nothing, and are not checked.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)  # type: ignore[misc]
        return function
    title = function.__qualname__.removesuffix(".__init__").removesuffix(".__call__")
    return _checked(function, title)


def checked_as(title: str) -> Callable[[T], T]:
    """Check as `checked` does, with another title for the messages."""
    return lambda function: _checked(function, title)


def _checked(function: T, title: str) -> T:
    signature = inspect.signature(function)
    kinds = {name: _kind_of(p.annotation) for name, p in signature.parameters.items()}
    several = {p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python says which argument is missing or unknown
        points: Tensor | None = None
        for name, value in bound.arguments.items():
            kind = kinds[name]
            if kind is None:
                continue
            if name in several:
                taken = tuple(kind.read(title, name, each, points) for each in value)
            else:
                taken = kind.read(title, name, value, points)
            bound.arguments[name] = taken
            if name == "batch_size":
                check_batch_size(title, bound.arguments[name])
            if kind is _POINTS:
                points = bound.arguments[name]
        with _failures(set(kinds)):
            return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


@contextmanager
def _failures(names: set[str]) -> Iterator[None]:
    """Give back what was drawn before a failure, and name the caller's own argument in it."""
    state = torch.get_rng_state() if names & {"generator", "model"} else None
    try:
        yield
    except Exception as error:
        if state is not None:
            torch.set_rng_state(state)
        if "model" in names and "field" not in names and isinstance(error, LevelSetError):
            error.args = (str(error).replace("`field`", "`model`"), *error.args[1:])
        raise


def _kind_of(annotation: Any) -> _Kind | None:
    """Return the kind that an annotation stands for; `None` where it says nothing."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _NAMED[get_args(annotation)[1]]
    if origin is Literal:
        return _choice(get_args(annotation))
    if origin in (Union, types.UnionType):
        return _union(get_args(annotation))
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if hasattr(annotation, "dtypes"):
        return _array(annotation)
    if origin is not None:
        return _container(origin, get_args(annotation))
    if inspect.isabstract(annotation):
        return _family(annotation)
    if isinstance(annotation, type) and annotation not in (Any, inspect.Parameter.empty):
        return _Kind(annotation.__name__, _instance_of(annotation))
    return None


def _union(options: tuple[Any, ...]) -> _Kind | None:
    if Path in options:  # names of files are text or paths
        options = tuple(option for option in options if option is not str)
    kinds = [_kind_of(option) for option in options if option is not type(None)]
    if any(kind is None for kind in kinds):
        return None
    known = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    optional, family = type(None) in options, any(map(inspect.isabstract, options))

    def what() -> str:
        classes = [kind.what for kind in known if kind.what[:1].isupper()]
        words = [f"one of {', '.join(classes)}"] if len(classes) > 1 else classes
        words += [kind.what for kind in known if kind.what not in classes]
        return " or ".join(words) + (", or None" if optional else "")

    def read(function: str, name: str, value: Any, points: Tensor | None) -> Any:
        if value is None and optional:
            return None
        if len(known) == 1 and not family:
            return known[0].read(function, name, value, points)
        for kind in known:
            try:
                return kind.read(function, name, value, points)
            except LevelSetError:
                continue
        message = f"{function}: `{name}` must be {what()}, got {shown(value)}."
        raise ParameterError(message)

    return _POINTS if known == [_POINTS] and not optional else _Kind(what, read)


def _choice(options: tuple[Any, ...]) -> _Kind:
    words = "one of " + ", ".join(str(option) for option in options)
    return _Kind(words, lambda f, n, v, p: check_choice(f, n, v, options))


def _array(annotation: Any) -> _Kind:
    """Return the kind of a jaxtyping array: points, labels, or floats with so many axes."""
    axes, variadic = len(annotation.dims), annotation.index_variadic is not None
    if "float32" in annotation.dtypes and variadic:
        return _POINTS
    if "float32" not in annotation.dtypes:
        return _LABELS if "int64" in annotation.dtypes else _PLAIN[Tensor]
    shape = "(" + ", ".join(annotation.dim_str.split()) + ("," if axes == 1 else "") + ")"

    def read(function: str, name: str, value: Any, points: Tensor | None) -> Any:
        check_tensor(function, value, name)
        if not value.is_floating_point() or value.dim() != axes:
            message = (
                f"{function}: `{name}` must be floating point of the shape {shape}, "
                f"got {shown(value)}."
            )
            raise ShapeError(message)
        return value

    return _Kind(f"a tensor {shape}", read)


def _container(origin: Any, inner: tuple[Any, ...]) -> _Kind | None:
    if origin is Callable or origin is get_origin(Callable[..., Any]):
        return _callable(inner)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(inner)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(origin, inner)
    return None


def _callable(inner: tuple[Any, ...]) -> _Kind:
    words = None
    if isinstance(inner[0], list):
        words = tuple(getattr(word, "__name__", "value").lower() for word in inner[0])
    return _Kind("callable", lambda f, n, v, p: check_callable(f, n, v, words))


def _mapping(inner: tuple[Any, ...]) -> _Kind:
    kind = _kind_of(inner[1])

    def read(function: str, name: str, value: Any, points: Tensor | None) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            message = f"{function}: `{name}` must be a dict with names as keys, got {shown(value)}."
            raise ParameterError(message)
        if kind is None:
            return value
        return {k: kind.read(function, f"{name}[{k!r}]", v, points) for k, v in value.items()}

    return _Kind("a dict", read)


def _sequence(origin: type, inner: tuple[Any, ...]) -> _Kind:
    fixed = origin is tuple and Ellipsis not in inner
    kinds = [_kind_of(each) for each in inner if each is not Ellipsis]
    build = list if origin is list else tuple

    def what() -> str:
        of = kinds[0].what if kinds and kinds[0] is not None else "values"
        return f"{len(kinds)} values" if fixed else f"a sequence, each {of}"

    def read(function: str, name: str, value: Any, points: Tensor | None) -> Any:
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        several = several and (not isinstance(value, Tensor | np.ndarray) or value.ndim > 0)
        plain = isinstance(value, Sequence | Tensor | np.ndarray)
        entries = list(value) if several and plain else []
        if not several or not plain or (fixed and len(entries) != len(kinds)):
            message = f"{function}: `{name}` must be {what()}, got {shown(value)}."
            raise ParameterError(message)
        own = kinds if fixed else kinds * len(entries)
        return build(
            entry if kind is None else kind.read(function, f"{name}[{i}]", entry, points)
            for i, (entry, kind) in enumerate(zip(entries, own, strict=False))
        )

    return _Kind(what, read)


def _family(parent: type) -> _Kind:
    """Return the kind of any child of an abstract class; messages name those there are by then."""

    def what() -> str:
        children: list[type] = parent.__subclasses__()
        names = [child.__name__ for child in children if child.__name__[0] != "_"]
        return f"one of {', '.join(names)}"

    def read(function: str, name: str, value: Any, points: Tensor | None) -> Any:
        if isinstance(value, parent):
            return value
        message = f"{function}: `{name}` must be {what()}, got {shown(value)}."
        raise ParameterError(message)

    return _Kind(what, read)


def _flag(function: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        message = f"{function}: `{name}` must be True or False, got {shown(value)}."
        raise ParameterError(message)
    return bool(value)


def _number(function: str, name: str, value: Any, points: Tensor | None) -> float:
    """Return a number that the points can hold, float32 where there are none, or infinity."""
    number = check_number(function, name, value)
    dtype = torch.float32 if points is None else points.dtype
    if torch.finfo(dtype).max < abs(number) < math.inf:
        message = f"{function}: `{name}` must be within the range of {dtype}, got {number:g}."
        raise ParameterError(message)
    return number


def _instance_of(kind: type) -> Read:
    return lambda f, name, value, points: check_instance(f, name, value, kind)


_POINTS = _Kind("a floating point tensor (n, *d)", lambda f, n, v, p: check_points(f, v, n))
_LABELS = _Kind("integers, one per point", lambda f, n, v, p: integer_labels(f, v, p, n))
_NAMED = {
    "norm": _Kind("a norm", lambda f, n, v, p: read_norm(f, v, n)),
    "norms": _Kind("norms", lambda f, n, v, p: read_norms(f, v, n)),
    "model": _Kind("a model", lambda f, n, v, p: check_callable(f, n, v)),
    "bounds": _Kind("(low, high)", lambda f, n, v, p: check_sides(f, v)),
    "field labels": _Kind(
        "one row per point", lambda f, n, v, p: None if v is None else row_labels(f, v, p, n)
    ),
}
_PLAIN: dict[Any, _Kind] = {
    int: _Kind("an integer", lambda f, n, v, p: check_whole(f, n, v, at_least=None)),
    float: _Kind("a number", _number),
    bool: _Kind("True or False", lambda f, n, v, p: _flag(f, n, v)),
    str: _Kind("text", _instance_of(str)),
    Path: _Kind("a path", lambda f, n, v, p: check_path(f, n, v)),
    Tensor: _Kind("a torch.Tensor", lambda f, n, v, p: check_tensor(f, v, n)),
    Progress: _Kind("callable", lambda f, n, v, p: check_callable(f, n, v, ("done", "total"))),
    nn.Module: _Kind("a Module", _instance_of(nn.Module)),
    torch.Generator: _Kind("a torch.Generator", _instance_of(torch.Generator)),
}
