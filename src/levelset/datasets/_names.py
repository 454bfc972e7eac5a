"""Networks by the names that `levelset.networks` gives them, safely parsed."""

import inspect
from collections.abc import Callable

from torch import nn

from levelset import networks
from levelset._tools.arguments import checked
from levelset._tools.specs import arguments_of, split_spec
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
    name, written = split_spec(spec)
    known = _networks()
    if name not in known:
        message = (
            f"build_network: {spec!r} is no network known here. "
            f"Known are: {', '.join(network_names())}."
        )
        raise DataError(message)
    positional, named = arguments_of("build_network", spec, written)
    try:
        return known[name](*positional, **named)
    except (TypeError, ValueError) as error:
        signature = inspect.signature(known[name])
        message = f"build_network: {spec!r} does not fit {name}{signature}: {error}."
        raise DataError(message) from error


def is_network_name(spec: str) -> bool:
    """Tell whether `spec` names a network of `levelset.networks`, arguments aside."""
    return split_spec(spec)[0] in _networks()


def network_names() -> list[str]:
    """Return the names of the networks that can be built."""
    return sorted(_networks())


def _networks() -> dict[str, Callable[..., nn.Module]]:
    builders = {name: getattr(networks, name) for name in networks.__all__}
    return {name: build for name, build in builders.items() if inspect.isfunction(build)}
