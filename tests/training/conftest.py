"""Data that is learnt in no time, and networks with everything a checkpoint must hold."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from levelset.training import initialise


class Toy(NamedTuple):
    """The least that `train` takes as data."""

    points: Tensor
    labels: Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def toy() -> Toy:
    """Three classes by angle, 50 points in the plane."""
    points = torch.randn(50, 2, generator=seeded(7))
    angle = torch.atan2(points[:, 1], points[:, 0])
    return Toy(points, ((angle + torch.pi) / (2 * torch.pi) * 3).long().clamp(max=2))


@pytest.fixture
def make() -> Callable[[], nn.Module]:
    """A network with running statistics and random numbers in training mode."""

    def network() -> nn.Module:
        layers = nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
        return initialise(nn.Sequential(*layers), generator=seeded(3))

    return network
