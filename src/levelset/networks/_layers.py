"""Layers in a row, each under a name of its own, and activations by name."""

from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import nn

from levelset._tools.checks import check_whole
from levelset.errors import ParameterError

__all__ = ["Activation", "activation_layer", "check_counts", "check_size", "side_after", "stack"]

Activation: TypeAlias = Literal["relu", "leaky_relu", "softplus", "tanh", "sigmoid"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
_PREFIXES: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "fc",
    nn.MaxPool2d: "pool",
    nn.Flatten: "flatten",
}


def activation_layer(function: str, name: str) -> nn.Module:
    """Return a new activation layer of this name."""
    if name not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        message = f"{function}: `activation` must be one of {known}, got {name!r}."
        raise ParameterError(message)
    return _ACTIVATIONS[name]()


def stack(*layers: nn.Module) -> nn.Sequential:
    """Return the layers in order, named by kind and count: `conv1`, `relu1`, `conv2`, ...

    Names are numbers: in a dictionary of layers a name that occurs twice drops
    one of the two without a word (the released ConvNet-4a lost two ReLUs that way).
    """
    network = nn.Sequential()
    counts: Counter[str] = Counter()
    for layer in layers:
        kind = _PREFIXES.get(type(layer), type(layer).__name__.lower())
        counts[kind] += 1
        network.add_module(f"{kind}{counts[kind]}", layer)
    return network


def side_after(size: int, *layers: tuple[int, int, int]) -> int:
    """Return the side of an image of side `size` after layers of (kernel, stride, padding)."""
    for kernel, stride, padding in layers:
        size = (size + 2 * padding - kernel) // stride + 1
    return size


def check_counts(function: str, **counts: int) -> None:
    """Refuse numbers of channels, pixels or classes below 1."""
    for name, count in counts.items():
        check_whole(function, name, count)


def check_size(function: str, size: int, side: int) -> None:
    """Refuse images that vanish before the last layer."""
    if side < 1:
        message = f"{function}: `size` must leave at least one pixel to the last layer, got {size}."
        raise ParameterError(message)
