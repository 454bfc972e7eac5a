"""Networks by the names that `levelset.networks` gives them, safely parsed."""

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from levelset import networks
from levelset._tools.arguments import checked
from levelset.errors import DataError

__all__ = ["build_network", "is_network_name", "network_names"]


@checked
def build_network(spec: str) -> nn.Module:
    """Build a network of `levelset.networks` by its name, untrained.

    The name may be written with `-` for `_`, and carry arguments that are plain Python literals.
    Nothing in `spec` is evaluated.

    Args:
        spec: Such as `convnet_4a`, `convnet-4a(head="relu")` or `fc(784, 100, 10)`.

    Raises:
        DataError: If there is no such network, or it does not take such arguments.

    Example:
        >>> from levelset.datasets import build_network
        >>> network = build_network("fc(64, 32, 10)")
        >>> sum(parameter.numel() for parameter in network.parameters())
        2410
    """
    name, written = _split(spec)
    known = _networks()
    if name not in known:
        message = (
            f"build_network: {spec!r} is no network known here. "
            f"Known are: {', '.join(network_names())}."
        )
        raise DataError(message)
    positional, named = _arguments(spec, written)
    try:
        return known[name](*positional, **named)
    except (TypeError, ValueError) as error:
        signature = inspect.signature(known[name])
        message = f"build_network: {spec!r} does not fit {name}{signature}: {error}."
        raise DataError(message) from error


def is_network_name(spec: str) -> bool:
    """Tell whether `spec` names a network of `levelset.networks`, arguments aside."""
    return _split(spec)[0] in _networks()


def _split(spec: str) -> tuple[str, str]:
    match = re.fullmatch(r"\s*([A-Za-z][\w-]*)\s*(?:\((.*)\))?\s*", spec, re.DOTALL)
    return (match[1].replace("-", "_"), match[2] or "") if match else ("", "")


def network_names() -> list[str]:
    """Return the names of the networks that can be built."""
    return sorted(_networks())


def _networks() -> dict[str, Callable[..., nn.Module]]:
    builders = {name: getattr(networks, name) for name in networks.__all__}
    return {name: build for name, build in builders.items() if inspect.isfunction(build)}


def _arguments(spec: str, written: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = ast.parse(f"f({written}\n)", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a list of arguments")
        positional = [ast.literal_eval(argument) for argument in call.args]
        named = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, ValueError) as error:
        message = (
            f"build_network: the arguments of {spec!r} must be plain literals such as 32 or "
            f'head="relu", got ({written}).'
        )
        raise DataError(message) from error
    return positional, named
