import math

import pytest
import torch
from torch import nn

from levelset.errors import FieldError, ParameterError
from levelset.reconstruction._curves._trace import trace_curve
from levelset.shapes import Circle

CUBE = (-1.5, 1.5)


class Linked:
    """Two circles of radius 1, linked, as the product of two complex numbers."""

    def __call__(self, x):
        a = Circle(1.0)(x)
        b = Circle(1.0)(torch.stack([x[:, 0] - 1.0, x[:, 2], x[:, 1]], 1))
        real = a[:, 0] * b[:, 0] - a[:, 1] * b[:, 1]
        return torch.stack([real, a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0]], 1)


def helix(x):
    turn = 4.0 * x[:, 2]
    return torch.stack([x[:, 0] - 0.7 * turn.cos(), x[:, 1] - 0.7 * turn.sin()], 1)


@pytest.mark.parametrize("resolution", [9, 32, 100])
def test_a_circle_is_one_closed_line_of_its_length(resolution):
    found = trace_curve(Circle(1.0), bounds=CUBE, resolution=resolution)
    assert found.closed == (True,)
    assert float(Circle(1.0).distance(found.points).max()) < 1e-9
    # Chords of a circle fall short by the square of their number at least.
    short = 2 * math.pi - float(found.lengths[0])
    assert 0 < short < 60.0 / len(found.lines[0]) ** 2


def test_the_order_runs_around_once(noise):
    line = trace_curve(Circle(1.0), bounds=CUBE, resolution=24).lines[0]
    angle = torch.atan2(line[:, 1], line[:, 0])
    turn = torch.remainder(angle.roll(-1) - angle, 2 * math.pi)
    turn = torch.minimum(turn, 2 * math.pi - turn)
    assert float(turn.sum()) == pytest.approx(2 * math.pi)


def test_linked_circles_are_two_closed_lines():
    found = trace_curve(Linked(), bounds=((-2.0, -1.5, -1.5), (3.0, 1.5, 1.5)), resolution=40)
    assert found.closed == (True, True)
    assert found.lengths.tolist() == pytest.approx([2 * math.pi] * 2, rel=1e-3)
    assert all(float(line[:, 2].std()) < 1e-9 or float(line[:, 1].std()) < 1e-9
               for line in found.lines)  # fmt: skip


def test_a_helix_ends_at_the_bounds():
    found = trace_curve(helix, bounds=(-1.0, 1.0), resolution=64)
    assert found.closed == (False,)
    ends = found.lines[0][[0, -1], 2]
    assert sorted(ends.tolist()) == pytest.approx([-1.0, 1.0], abs=1e-6)
    assert float(found.lengths[0]) == pytest.approx(2 * math.hypot(2.8, 1.0), rel=1e-4)
    assert float(helix(found.points).abs().max()) < 1e-9


def test_in_the_plane_one_value_is_enough():
    ring = lambda x: (x.norm(dim=1) - 0.8) * (x.norm(dim=1) - 0.3)  # noqa: E731
    found = trace_curve(ring, bounds=((-1.0, -1.0), (1.0, 1.0)), resolution=90)
    assert found.closed == (True, True)
    assert found.lengths.tolist() == pytest.approx([1.6 * math.pi, 0.6 * math.pi], rel=1e-3)
    hyperbola = lambda x: x[:, :1] * x[:, 1:] - 0.01  # noqa: E731
    found = trace_curve(hyperbola, bounds=((-1.0, -1.0), (1.0, 1.0)), resolution=60)
    assert found.closed == (False, False)


def test_ragged_surfaces_still_give_lines_without_loose_ends(settled):
    """Every line of a random network's zeros is closed, or leaves the box by its sides."""
    network = settled(
        nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 2)),
        seed=1, dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        network[0].weight.mul_(4.0)
    found = trace_curve(network, bounds=(-1.0, 1.0), resolution=64)
    assert len(found) >= 3
    with torch.no_grad():
        assert float(network(found.points).abs().max()) < 1e-8
    for line, closed in zip(found.lines, found.closed, strict=True):
        steps = (line[1:] - line[:-1]).norm(dim=1)
        assert float(steps.max()) < 2.5 * 2.0 / 64 * math.sqrt(3)
        if not closed:
            assert float((1.0 - line[[0, -1]].abs().amax(1)).abs().max()) < 0.05


def test_coarse_to_fine_finds_what_all_cells_give(settled, monkeypatch):
    network = settled(
        nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)), seed=1, dtype=torch.float64
    )
    with torch.no_grad():
        network[0].weight.mul_(3.0)
    fast = trace_curve(network, bounds=(-1.0, 1.0), resolution=48)
    monkeypatch.setattr("levelset.reconstruction._curves._trace._COARSEST", 48)
    full = trace_curve(network, bounds=(-1.0, 1.0), resolution=48)
    assert fast.closed == full.closed
    assert fast.lengths.tolist() == pytest.approx(full.lengths.tolist(), rel=1e-12)


def test_few_points_are_evaluated_and_each_level_is_told():
    asked, told = [], []
    field = lambda x: (asked.append(len(x)), Circle(1.0)(x))[1]  # noqa: E731
    trace_curve(field, bounds=CUBE, resolution=96, progress=lambda a, b: told.append((a, b)))
    assert sum(asked) < 0.1 * 97**3
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_network_in_float32_is_asked_in_float32(settled, left_as_found):
    network = settled(nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 2)), seed=3)
    with left_as_found(network):
        found = trace_curve(network, bounds=(-1.0, 1.0), resolution=24, batch_size=100)
    assert found.points.dtype == torch.float64
    with torch.no_grad():
        assert float(network.double()(found.points).abs().max()) < 1e-4


def test_jumps_of_the_field_are_no_zeros():
    """The second value changes its sign by a jump; there is no zero, and no line."""
    field = lambda x: torch.stack([x[:, 0] - 0.01, torch.where(x[:, 1] > 0.2, 1.0, -1.0)], 1)  # noqa: E731
    assert len(trace_curve(field, bounds=(-1.0, 1.0), resolution=16)) == 0
    nothing = lambda x: x[:, :2] * 0 + 1.0  # noqa: E731
    assert len(trace_curve(nothing, bounds=(-1.0, 1.0), resolution=16)) == 0


@pytest.mark.messages
def test_bad_arguments_are_refused():
    with pytest.raises(ParameterError, match="`bounds` must be the lowest and highest corner"):
        trace_curve(Circle(1.0), bounds=(1.0, -1.0))
    with pytest.raises(ParameterError, match="`bounds` must be the lowest and highest corner"):
        trace_curve(Circle(1.0), bounds=((0.0,) * 4, (1.0,) * 4))
    with pytest.raises(ParameterError, match="`resolution` must be at least 2, got 1"):
        trace_curve(Circle(1.0), bounds=CUBE, resolution=1)
    with pytest.raises(FieldError, match=r"must return 2 value\(s\) for a curve in 3 coordinates"):
        trace_curve(lambda x: x.norm(dim=1), bounds=CUBE, resolution=8)
