"""Exact crossings: against a brute force of roots, and against exact sections."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from levelset.boundary import exact_crossings, exact_section
from levelset.errors import DataError, FieldError, ParameterError, ShapeError


def network(settled, seed=3):
    return settled(
        nn.Sequential(
            nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 6, 2), nn.ReLU(), nn.MaxPool2d(2, stride=1),
            nn.Conv2d(6, 5, 2), nn.Hardtanh(-0.7, 0.9), nn.Flatten(), nn.Linear(5, 9, bias=False),
        ),
        seed, torch.float64,
    )  # fmt: skip


@pytest.fixture
def ends(noise):
    return 4 * noise(16, seed=1), -4 * noise(16, seed=2)


@torch.no_grad()
def test_the_network_is_affine_between_knots_and_ties_at_crossings(settled, ends):
    for seed in range(4):
        model = network(settled, seed)
        crossings = exact_crossings(model, *ends, regions=True)
        assert len(crossings.knots) == crossings.pieces + 1
        assert crossings.knots[0] == 0
        assert crossings.knots[-1] == 1
        assert bool((crossings.knots.diff() > 0).all())
        at = lambda t, m=model: m(torch.lerp(*ends, t.unsqueeze(1)))  # noqa: E731
        low, high = crossings.knots[:-1], crossings.knots[1:]
        middle = at((low + high) / 2)
        torch.testing.assert_close((at(low) + at(high)) / 2, middle, rtol=1e-11, atol=1e-11)
        if not len(crossings):
            continue
        logits = at(crossings.fraction)
        pair = logits.gather(1, torch.stack([crossings.before, crossings.after], 1))
        assert float((pair - logits.amax(1, keepdim=True)).abs().max()) < 1e-11
        for step, classes in ((-1e-7, crossings.before), (1e-7, crossings.after)):
            assert torch.equal(at(crossings.fraction + step).argmax(1), classes)


@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_no_change_is_missed(settled, ends, seed):
    model = network(settled, seed)
    crossings = exact_crossings(model, *ends)
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    classes = model(torch.lerp(*ends, fine.unsqueeze(1))).argmax(1)
    change = (classes[1:] != classes[:-1]).nonzero().flatten()
    assert torch.equal(torch.cat([classes[change], classes[-1:]])[:-1], crossings.before)
    assert bool((fine[change] <= crossings.fraction).all())
    assert bool((crossings.fraction <= fine[change + 1]).all())


@pytest.mark.parametrize("seed", range(6))
def test_bounds_leave_out_what_has_no_change(settled, ends, seed):
    model = network(settled, seed)
    whole, crossings = exact_crossings(model, *ends), exact_crossings(model, *ends, route="bounds")
    torch.testing.assert_close(crossings.fraction, whole.fraction, rtol=1e-12, atol=1e-12)
    assert torch.equal(crossings.before, whole.before)
    assert torch.equal(crossings.after, whole.after)
    assert crossings.pieces < whole.pieces
    with pytest.raises(ParameterError, match="`route` must be 'pieces' where `regions`"):
        exact_crossings(model, *ends, regions=True, route="bounds")


def test_by_bounds_a_segment_of_one_class_has_no_piece_to_cut(settled):
    model = settled(nn.Linear(3, 2), 0)
    crossings = exact_crossings(model, torch.zeros(3), 1e-3 * torch.ones(3), route="bounds")
    assert len(crossings) == 0
    assert crossings.points.shape == (0, 3)
    assert crossings.pieces == 1


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_stretches_change_nothing(settled, ends, size):
    model = network(settled, 1)
    whole = exact_crossings(model, *ends, regions=True)
    parts = exact_crossings(model, *ends, batch_size=size)
    torch.testing.assert_close(parts.fraction, whole.fraction, rtol=0, atol=1e-13)
    assert torch.equal(parts.before, whole.before)
    assert torch.equal(parts.after, whole.after)


def test_knots_are_where_a_section_has_its_walls(settled, ends):
    """Along the x-axis of a plane the linear regions change where the knots are."""
    model = network(settled, 2)
    start, end = ends
    crossings = exact_crossings(model, start, end, regions=True)
    plane = exact_section(
        model, start, end - start, start.flip(0), extent=((0.0, 1.0), (-1e-7, 1e-7))
    )
    assert plane.linear_regions >= crossings.pieces
    walls = plane.regions.vertices[:, 0]
    gaps = (crossings.knots.unsqueeze(1) - walls).abs().amin(1)
    assert float(gaps.max()) < 1e-3


def test_closed_form():
    """Three logits along a line: x, 1 - x and 0.8."""
    model = nn.Linear(1, 3).double()
    model.weight.data.copy_(torch.tensor([[1.0], [-1.0], [0.0]]))
    model.bias.data.copy_(torch.tensor([0.0, 1.0, 0.8]))
    low, high = torch.zeros(1).double(), torch.ones(1).double()
    crossings = exact_crossings(model, low, high)
    torch.testing.assert_close(crossings.fraction, torch.tensor([0.2, 0.8]).double())
    assert crossings.before.tolist() == [1, 2]
    assert crossings.after.tolist() == [2, 0]
    assert crossings.pieces == 1
    model.bias.data.copy_(torch.tensor([0.0, 1.0, 0.5]))  # the third only touches
    crossings = exact_crossings(model, low, high)
    assert crossings.fraction.tolist() == [0.5]


def test_bad_input(settled, ends):
    model = network(settled)
    with pytest.raises(ParameterError, match="`end` must be another point"):
        exact_crossings(model, ends[0], ends[0])
    with pytest.raises(ShapeError, match=r"`end` must have the shape of `start`, \(16,\)"):
        exact_crossings(model, ends[0], torch.ones(3))
    with pytest.raises(DataError, match="`start` must be finite"):
        exact_crossings(model, ends[0] / 0, ends[1])
    with pytest.raises(FieldError, match="smooth"):
        exact_crossings(nn.Sequential(nn.Linear(16, 2), nn.Sigmoid(), nn.Linear(2, 2)), *ends)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif("LEVELSET_DATA" not in os.environ, reason="LEVELSET_DATA is not set")
@torch.no_grad()
def test_a_released_network():
    from levelset.datasets import load_model, read_images

    folder = Path(os.environ["LEVELSET_DATA"]) / "networks"
    model = load_model("convnet_4a", folder / "mnist-convnet4a-xent.safetensors")
    start = read_images("mnist", limit=1).points[0]
    end = start + 0.05 * (start.roll(1, 1) - start)
    crossings = exact_crossings(model, start, end, regions=True)
    assert crossings.pieces > 100
    model, start, end = model.double(), start.double(), end.double()
    at = lambda t: model(start + t.view(-1, 1, 1, 1) * (end - start))  # noqa: E731
    rows = torch.arange(0, crossings.pieces, 9)
    low, high = crossings.knots[rows], crossings.knots[rows + 1]
    torch.testing.assert_close((at(low) + at(high)) / 2, at((low + high) / 2), rtol=0, atol=1e-11)
