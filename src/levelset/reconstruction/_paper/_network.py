"""The network that the paper trains on points, with the weights it begins with."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from levelset._tools.random import mixed_seed, private_stream
from levelset.networks import fc_1, fc_2

__all__ = ["as_sphere", "paper_network", "stream"]

_RADIUS = 0.5  # of the sphere that a surface's network begins as


def stream(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of one epoch of a training."""
    return torch.Generator().manual_seed(mixed_seed(seed, epoch))


def paper_network(points: Tensor, curve: bool, seed: int) -> nn.Module:
    """Return the paper's network: of a surface it begins as a sphere."""
    axes = points.shape[1]
    # No epoch has this number.
    with private_stream(torch.device("cpu"), seed, 2**32):
        made = fc_1(axes, axes - 1) if curve else fc_2(axes, 1)
    if not curve:
        made = as_sphere(made, axes, stream(seed, 2**32))
    return made.to(points.device)


def as_sphere(network: nn.Module, axes: int, drawn: torch.Generator) -> nn.Module:
    """Draw weights with which a network of ReLUs is nearly |x| less a radius, as released.

    Random layers that keep lengths make the sum of the last features grow as |x|; the factor is
    measured on the unit sphere instead of worked out, as skips add to it.
    """
    layers: Sequence[nn.Linear] = [m for m in network.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for layer in layers[:-1]:
            layer.bias.zero_()
            layer.weight.normal_(0.0, math.sqrt(2.0 / layer.out_features), generator=drawn)
        last = layers[-1]
        last.bias.zero_()
        last.weight.normal_(1.0, 1e-4, generator=drawn)
        around = torch.randn(1024, axes, generator=drawn)
        around = around / around.norm(dim=1, keepdim=True)
        last.weight /= network(around).mean()
        last.bias.sub_(_RADIUS)
    return network
