"""What all tests share: models of known weights, a witness that nothing was touched, data."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

# The same examples in every run, so that a failure is that of a change; `HYPOTHESIS_PROFILE=search`
# looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def bits(tensor: Tensor | None) -> bytes | None:
    """Return the raw bytes, which tell -0.0 from 0.0 and one NaN from another."""
    return None if tensor is None else tensor.detach().cpu().contiguous().numpy().tobytes()


def look(thing: Any) -> dict[str, Any]:
    """Return all there is to know about a module or a tensor, as values that compare."""
    if isinstance(thing, Tensor):
        return {
            "bits": bits(thing),
            "shape": (thing.shape, thing.stride(), thing.dtype, thing.device),
            "writes": thing._version,
            "requires_grad": thing.requires_grad,
            "grad": (id(thing.grad) if thing.is_leaf and thing.grad is not None else None),
        }
    parameters = dict(thing.named_parameters())
    return {
        "training": {name: m.training for name, m in thing.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in parameters.items()},
        "grad": {name: (id(p.grad), bits(p.grad)) for name, p in parameters.items()},
        "identity": {name: id(p) for name, p in parameters.items()},
        "state": {name: bits(t) for name, t in thing.state_dict().items()},
        "buffers": {name: bits(t) for name, t in thing.named_buffers()},
        "hooks": {
            name: [len(getattr(m, kind, ())) for kind in _HOOKS]
            for name, m in thing.named_modules()
        },
    }


def surroundings() -> dict[str, Any]:
    """Return the global state that a function might move."""
    kind, keys, position, gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one
    return {
        "torch": bits(torch.get_rng_state()),
        "numpy": (kind, keys.tobytes(), position, gauss, cached),
        "random": random.getstate(),
        "grad_enabled": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
    }


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    """Begin each test with the same global random state, whatever ran before it."""
    torch.manual_seed(0)
    # the old global state is what is to be the same: a generator of one's own has no part in it
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


@pytest.fixture
def hooked(pytestconfig: pytest.Config) -> bool:
    """Return whether shapes are checked by the hook, which adds frames and draws random numbers."""
    return bool(pytestconfig.getoption("jaxtyping_packages", default=None))


@pytest.fixture
def left_as_found(hooked: bool) -> Callable[..., AbstractContextManager[None]]:
    """Return a context that fails if modules, tensors or the global state leave it changed."""

    @contextmanager
    def watch(*things: Any) -> Iterator[None]:
        before = [look(thing) for thing in things]
        around = surroundings()
        yield
        for thing, found in zip(things, before, strict=True):
            now = look(thing)
            for aspect, value in found.items():
                assert now[aspect] == value, f"{type(thing).__name__}: {aspect} changed"
        for aspect, value in surroundings().items():
            same = value == around[aspect] or (hooked and aspect == "random")
            assert same, f"the global {aspect} changed"

    return watch


@pytest.fixture
def same_bits() -> Callable[[Tensor, Tensor], bool]:
    """Return a comparison of tensors that tells -0.0 from 0.0."""

    def same(a: Tensor, b: Tensor) -> bool:
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)

    return same


@pytest.fixture
def settled() -> Callable[..., nn.Module]:
    """Return a function that gives a model weights of a seed, and leaves the global state alone."""

    def settle(model: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model.to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                fan = parameter[0].numel() if parameter.dim() > 1 else 4
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(1.4 * drawn / fan**0.5)
        return model

    return settle


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Return a function that draws normal numbers of a shape from a seed."""

    def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=dtype)

    return draw


@pytest.fixture
def levelset_data() -> Path:
    """Return the folder of real data sets, or skip."""
    home = os.environ.get("LEVELSET_DATA")
    if not home:
        pytest.skip("LEVELSET_DATA names no folder of data sets")
    return Path(home)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--most-cases`."""
    parser.addoption(
        "--most-cases", type=int, help="most cases of each test, but of those on every public name"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases beyond `--most-cases`, and skip what needs a device where there is none."""
    most = config.getoption("--most-cases")
    if most:
        left_out = set(_beyond(items, most))
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def _beyond(items: list[pytest.Item], most: int) -> list[pytest.Item]:
    """Return what is left of the cases of each test when so many, spread over them, are kept."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.parent.name != "contracts":
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out: list[pytest.Item] = []
    for cases in tests.values():
        stay = {round(i * (len(cases) - 1) / max(most - 1, 1)) for i in range(most)}
        left_out += [case for number, case in enumerate(cases) if number not in stay]
    return left_out
