"""The MNIST networks of Bell 2023, Tables 1 and 3: fully connected ones, and C-Ch."""

import itertools

from torch import nn

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset.errors import ParameterError
from levelset.networks._layers import Activation, activation_layer, stack

__all__ = ["bell_cnn", "fc"]


@checked
def fc(*widths: int, activation: Activation = "relu") -> nn.Module:
    """Return a fully connected network of these widths, the input's first and the classes' last.

    Bell's networks are `fc(784, 10)` for FC10-4, FC10-2 and FC10-0 (which differ in training, not
    in shape), `fc(784, 100, 100, 10)`, `fc(784, 200, 200, 10)`, and `fc(784, 100, 20, 10)` in
    section 5.1.1.

    Maps `(n, *d)`, flattened to `(n, widths[0])`, to `(n, widths[-1])`. There is an activation
    after each layer but the last: `len(widths) - 2` of them.

    Args:
        *widths: Numbers of units, two at least.
        activation: `"relu"`, `"leaky_relu"`, `"softplus"`, `"tanh"` or `"sigmoid"`.

    Raises:
        ParameterError: If there are fewer than two widths, one is not positive, or the activation
            has another name.

    Example:
        >>> import torch
        >>> from levelset.networks import fc
        >>> fc(784, 100, 100, 10)(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: Table 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        message = f"fc: `widths` must be two or more positive numbers, got {widths}."
        raise ParameterError(message)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), activation_layer("fc", activation)]
    return stack(*layers[:-1])


@checked
def bell_cnn(channels: int) -> nn.Module:
    """C-Ch: four 5x5 convolutions of `channels` channels, a 2x2 pool, linear layers (256, 10).

    No padding: the sides are 28, 24, 20, 16, 12, 6, as in the table. Its text puts a ReLU before
    the hidden linear layer and is silent about the rest; here each convolution and the hidden
    layer are followed by one, without which the four convolutions would be a single linear map.

    Maps `(n, 1, 28, 28)` to `(n, 10)`. `75 Ch^2 + 9,245 Ch + 2,826` parameters for Ch channels,
    5 ReLUs. Bell's range is 2 to 512 channels.

    Raises:
        ParameterError: If `channels` is not positive.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: Table 3.
    """
    check_at_least_one("bell_cnn", "channels", channels)
    layers: list[nn.Module] = []
    for before in (1, channels, channels, channels):
        layers += [nn.Conv2d(before, channels, 5), nn.ReLU()]
    return stack(
        *layers,
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(channels * 6 * 6, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )
