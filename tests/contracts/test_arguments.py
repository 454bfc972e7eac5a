"""Every argument of every public function, replaced by wrong kinds: no raw exception comes out."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from valid_calls import CALLS, LONG, public_names

from levelset.errors import LevelSetError

WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "text": lambda: "wrong",
    "empty text": lambda: "",
    "bytes": lambda: b"wrong",
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "two": lambda: 2,
    "a fraction": lambda: 2.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "minus inf": lambda: -float("inf"),
    "a vast integer": lambda: 10**30,
    "a vast number": lambda: 1e300,
    "true": lambda: True,
    "complex": lambda: 1j,
    "no list": list,
    "a list": lambda: [1, 2],
    "a list of texts": lambda: ["a", "b"],
    "a ragged list": lambda: [1, [2, 3]],
    "a tuple of numbers": lambda: (0.25, 0.75),
    "a dict": lambda: {"a": 1},
    "a set": lambda: {1, 2},
    "an object": object,
    "a class": lambda: nn.Linear,
    "a lambda": lambda: lambda: None,
    "a function of one": lambda: lambda x: x,
    "a module": lambda: nn.Linear(2, 2),
    "a generator of numpy": lambda: np.random.default_rng(0),
    "an exception": lambda: ValueError("wrong"),
    "a float": lambda: torch.tensor(0.5),
    "a tensor of one axis": lambda: torch.ones(3),
    "a tensor of two axes": lambda: torch.ones(4, 3),
    "a tensor of other rows": lambda: torch.ones(7, 3),
    "a tensor of other columns": lambda: torch.ones(4, 2),
    "a tensor of three axes": lambda: torch.ones(4, 3, 2),
    "no rows": lambda: torch.ones(0, 3),
    "no columns": lambda: torch.ones(4, 0),
    "booleans": lambda: torch.ones(4, 3, dtype=torch.bool),
    "integers": lambda: torch.ones(4, 3, dtype=torch.int64),
    "bytes of a tensor": lambda: torch.ones(4, 3, dtype=torch.uint8),
    "half": lambda: torch.ones(4, 3, dtype=torch.float16),
    "bfloat16": lambda: torch.ones(4, 3, dtype=torch.bfloat16),
    "double": lambda: torch.full((4, 3), 0.5, dtype=torch.float64),
    "complex tensor": lambda: torch.ones(4, 3, dtype=torch.complex64),
    "sparse": lambda: torch.ones(4, 3).to_sparse(),
    "meta": lambda: torch.ones(4, 3, device="meta"),
    "a graph": lambda: torch.full((4, 3), 0.5, requires_grad=True) * 1.0,
    "nan in a tensor": lambda: torch.full((4, 3), torch.nan),
    "out of the box": lambda: torch.full((4, 3), 9.0),
    "labels": lambda: torch.tensor([0, 1, 2, 0]),
    "labels out of range": lambda: torch.tensor([0, 1, 2, 9]),
    "labels below": lambda: torch.tensor([0, -1, 2, 0]),
    "labels as floats": lambda: torch.tensor([0.0, 1.0, 2.0, 0.0]),
    "labels as booleans": lambda: torch.tensor([True, False, True, True]),
    "labels too few": lambda: torch.tensor([0, 1]),
    **{
        f"array of {kind}": lambda kind=kind: np.ones((4, 3)).astype(kind)
        for kind in ("float32", "float64", "int64", "uint8", "bool", "complex128", "str", "object")
    },
    "a label array": lambda: np.array([0, 1, 2, 0], dtype=np.int32),
    "numpy nan": lambda: np.float32("nan"),
    "numpy integer": lambda: np.int16(2),
}
CASES = sorted(CALLS)
# One value in so many goes with the fast tests, another one for each argument.
SHARE = 19


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Let what a text or a path makes a function write lie where nobody looks."""
    monkeypatch.chdir(tmp_path)


def fingerprint(things: dict[str, Any]) -> list[Any]:
    """Return what must be the same after a refusal: models, tensors, random state."""
    state: list[Any] = [torch.get_rng_state().numpy().tobytes(), torch.is_grad_enabled()]
    kind, keys, position, *_ = np.random.get_state()  # noqa: NPY002 - the global one
    state += [kind, keys.tobytes(), position]
    for name, thing in things.items():
        if isinstance(thing, nn.Module):
            state.append([(n, m.training) for n, m in thing.named_modules()])
            for n, p in [*thing.named_parameters(), *thing.named_buffers()]:
                state.append((name, n, p._version, p.requires_grad, p.grad is None))
        elif isinstance(thing, Tensor) and thing.device.type != "meta":
            state.append((name, thing._version, thing.requires_grad, thing.shape, thing.dtype))
    return state


def from_callable(error: Exception) -> bool:
    """Return whether the caller's own model, field or function raised, or refused to be called."""
    own = ("<lambda>", "forward() takes", "__call__() takes", "mat1 and mat2", "argument 'input'")
    return any(words in str(error) for words in own)


def names_one(error: TypeError, arguments: Iterable[str]) -> bool:
    return any(f"'{name}'" in str(error) or f"`{name}`" in str(error) for name in arguments)


def misuse(call: Callable[[], tuple[Any, dict[str, Any]]], wrong: dict[str, Any]) -> str:
    """Return what is wrong with how a function takes values: nothing, or a sentence."""
    function, given = call()
    given.update(wrong)
    args = positional(function, given)
    before = fingerprint(given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*args, **given)
    except LevelSetError:
        pass
    except Exception as error:
        if from_callable(error):
            return ""
        if not (isinstance(error, TypeError) and names_one(error, wrong)):
            return f"{type(error).__name__}: {error}"
    else:
        return ""
    return "" if fingerprint(given) == before else "left something changed"


def positional(function: Callable[..., Any], given: dict[str, Any]) -> list[Any]:
    """Take what goes by place, as `*models` does, out of the arguments, and return it."""
    parameters = inspect.signature(function).parameters.values()
    several = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    return [each for name in several for each in _several(given.pop(name))]


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def arguments_of(name: str) -> list[str]:
    return list(inspect.signature(CALLS[name]()[0]).parameters)


def failures(name: str, chosen: Callable[[int], bool]) -> list[str]:
    found, number = [], 0
    for argument in arguments_of(name):
        for words, make in WRONG.items():
            number += 1
            if chosen(number):
                trouble = misuse(CALLS[name], {argument: make()})
                if trouble:
                    found.append(f"{name}({argument}={words}): {trouble}"[:300])
    return found


def test_every_public_callable_has_a_valid_call():
    assert public_names() - set(CALLS) - LONG == set()


def test_numbers_with_a_graph_are_taken_as_those_without():
    cases = [(n, a) for n in CASES for a, value in CALLS[n]()[1].items() if is_numbers(value)]
    assert {f"{n}({a})": trouble for n, a in cases if (trouble := graph_trouble(n, a))} == {}


def is_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def graph_trouble(name: str, argument: str) -> str:
    """Return what a function says of an argument that carries a graph: nothing, or its error."""
    function, values = CALLS[name]()
    values[argument] = 1.0 * values[argument].detach().requires_grad_()
    args = positional(function, values)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*args, **values)
    except Exception as error:  # any at all is the finding
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.messages
def test_a_share_of_wrong_values_is_refused_by_name(name):
    assert failures(name, lambda number: number % SHARE == len(name) % SHARE) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.messages
def test_every_wrong_value_is_refused_by_name(name):
    assert failures(name, lambda number: True) == []
