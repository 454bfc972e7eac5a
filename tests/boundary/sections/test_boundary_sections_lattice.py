"""A lattice of classes, and curves that explain it or leave a gap."""

import numpy as np
import pytest
import torch
from torch import nn

from levelset._relaxation._piecewise import read_piecewise
from levelset.boundary._sections._lattice import Lattice
from levelset.boundary._sections._plane import read_frame


@pytest.fixture
def lattice():
    """Class 1 where y > x / 2 + 0.1, on the square of side 2."""
    model = nn.Linear(2, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
        model.bias.copy_(torch.tensor([0.1, 0.0]))
        x, y = torch.eye(2, dtype=torch.float64)
        frame = read_frame("test", model, torch.zeros(2).double(), x, y, 1.0)
        program = read_piecewise("test", model, frame.origin, model(frame.origin), "")
        yield Lattice(program, frame, 7)


LINE = np.array([[-1.0, -0.4], [-0.31, -0.055], [1.0, 0.6]])


def test_a_gap_lies_across_the_boundary(lattice):
    gap = lattice.gap()
    sides = [place[1] - place[0] / 2 - 0.1 for place in (gap.start, gap.end)]
    assert sides[0] * sides[1] < 0
    assert gap.first == int(sides[0] > 0) == lattice.label(gap.start)
    assert np.abs(gap.start - gap.end).max() == pytest.approx(1 / 3)


@pytest.mark.parametrize("order", [1, -1])
def test_the_curve_explains_all(lattice, order):
    lattice.add(LINE[::order], (1, 0)[::order])
    assert lattice.gap() is None


def test_a_curve_with_the_classes_exchanged_or_a_part_alone_does_not(lattice):
    lattice.add(LINE[:2], (1, 0))
    gap = lattice.gap()
    assert max(gap.start[0], gap.end[0]) > -0.31
    lattice.add(LINE[1:], (0, 1))
    assert lattice.gap() is not None


def test_a_second_curve_in_one_cell_shows(lattice):
    """A curve that enters a class without leaving it again."""
    lattice.add(LINE, (1, 0))
    lattice.add(np.array([[-0.5, 0.5], [0.5, 0.52]]), (1, 0))
    assert lattice.gap() is not None


def test_gaps_are_skipped(lattice):
    first = lattice.gap()
    lattice.skip(first)
    assert lattice.gap().name != first.name
