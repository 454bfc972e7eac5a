"""Classifiers whose regions are known, for the tests of boundary/_regions."""

import pytest
import torch
from torch import nn


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def linear():
    """Return a function that builds a linear classifier of given rows, in float64."""

    def build(rows, bias=None):
        rows = torch.as_tensor(rows, dtype=torch.float64)
        model = nn.Linear(rows.shape[1], len(rows)).double()
        with torch.no_grad():
            model.weight.copy_(rows)
            model.bias.copy_(torch.zeros(len(rows)) if bias is None else torch.as_tensor(bias))
        return model

    return build


@pytest.fixture
def half_space(linear):
    """Class 1 where x_1 > 0, in five dimensions."""
    return linear([[0.0] * 5, [1.0, 0.0, 0.0, 0.0, 0.0]])
