"""Paths in a ring, in a linear region, across two discs that do not meet."""

import math

import pytest
import torch
from torch import nn

from levelset.boundary import connect
from levelset.errors import FieldError, ParameterError, ShapeError


def ring(points):
    """Class 1 between the circles of radius 1/2 and 3/2."""
    inside = 1.0 - 4.0 * (points.norm(dim=1) - 1.0).square()
    return torch.stack([torch.zeros_like(inside), inside], dim=1)


def on_ring(angle, radius=1.0):
    angle = torch.as_tensor(angle, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=-1)


def test_pairs_in_a_ring_are_joined_around_its_hole():
    start, end = on_ring([0.0] * 4), on_ring([0.5, 1.5, 2.3, 2.6])
    link = connect(ring, start, end)
    assert link.joined.tolist() == [True] * 4
    assert link.straight.tolist() == [True, True, False, False]
    assert link.pieces[:2].tolist() == [1, 1]
    assert float(link.ratio[0]) == 1.0
    assert 1.0 < float(link.ratio[2]) < float(link.ratio[3]) < math.pi / 2 + 0.1


def test_a_corner_too_near_the_hole_is_moved_further_inside():
    # With one bend allowed: a corner of margin .1 leaves both halves cutting the hole at .487, one
    # of margin .3 keeps them .528 from its centre.
    start, end = on_ring([0.0, 0.3]), on_ring([2.9, 0.6])
    link = connect(ring, start, end, depth=1)
    assert link.joined.tolist() == [True, True]
    assert link.pieces.tolist() == [2, 1]
    corner = on_ring([1.45], 1.0 - math.sqrt(0.7 / 4.0))
    assert torch.allclose(link.corners[0, 1], corner[0], atol=1e-3)
    assert float(link.ratio[0]) == pytest.approx(
        float((corner - start[:1]).norm() / math.sin(1.45)), abs=1e-3
    )


def test_a_path_is_inside_wherever_one_looks_and_as_long_as_it_says():
    start, end = on_ring([0.1, 1.0]), on_ring([2.4, 3.4])
    link = connect(ring, start, end)
    for row in range(2):
        corners = link.corners[row]
        steps = torch.linspace(0.0, 1.0, 500).double().view(-1, 1, 1)
        path = torch.lerp(corners[:-1], corners[1:], steps).flatten(0, 1)
        assert bool((ring(path).argmax(1) == 1).all())
        length = float(corners.diff(dim=0).norm(dim=1).sum())
        straight = float((end - start)[row].norm())
        assert length / straight == pytest.approx(float(link.ratio[row]), rel=1e-9)
        assert torch.equal(corners[0], start[row])
        assert torch.equal(corners[-1], end[row])
        assert float(ring(path)[:, 1].min()) <= float(link.margin[row]) + 1e-3


def test_a_linear_region_is_convex(linear, noise):
    model = linear(noise(4, 5))
    points = noise(40, 5, seed=1)
    classes = model(points).argmax(1)
    start, end = points[classes == classes[0]][:4], points[classes == classes[0]][-4:]
    link = connect(model, start, end)
    assert bool(link.straight.all())
    assert link.summary()["ratio_max"] == 1.0


def test_regions_apart_are_not_joined():
    def discs(points):
        centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]]).to(points)
        inside = 1.0 - torch.cdist(points, centres).amin(1)
        return torch.stack([torch.zeros_like(inside), inside], dim=1)

    ends = torch.tensor([[-2.0, 0.0]]).double(), torch.tensor([[2.0, 0.1]]).double()
    link = connect(discs, *ends, depth=3)
    assert link.joined.tolist() == [False]
    assert link.pieces.tolist() == [0]
    assert bool(link.ratio.isnan().all())
    assert "joined=0" in repr(link)


def test_a_narrow_gap_between_two_checks_is_seen_by_its_slope():
    """The margin is positive at all first points, and steep enough beside the gap to look again."""

    def gap(points):
        inside = (points[:, 0] - 0.5 / 32).abs() - 0.004
        return torch.stack([torch.zeros_like(inside), inside], dim=1)

    ends = torch.tensor([[0.0, 0.0]]).double(), torch.tensor([[1.0, 0.0]]).double()
    link = connect(gap, *ends, depth=0)
    assert link.joined.tolist() == [False]


def test_bending_takes_a_share_of_the_smaller_margin_at_the_ends():
    start, end = on_ring([0.0], 0.75), on_ring([2.6], 0.75)
    assert bool(connect(ring, start, end).joined)


def test_paths_of_a_piecewise_linear_network_are_proved(settled, noise):
    model = settled(
        nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2)),
        3,
    ).double()
    points = 4.0 * noise(60, 2)
    classes = model(points).argmax(1)
    own = (classes == classes.mode().values).nonzero().flatten()
    start, end = points[own[:15]], points[own[-15:]]
    link = connect(model, start, end, checks=3)
    assert torch.equal(link.proved, link.joined)
    assert int(link.joined.sum()) >= 10
    steps = torch.linspace(0.0, 1.0, 2000).double().view(-1, 1, 1)
    for row in link.joined.nonzero().flatten().tolist():
        path = torch.lerp(link.corners[row][:-1], link.corners[row][1:], steps).flatten(0, 1)
        assert bool((model(path).argmax(1) == link.classes[row]).all())
    sampled = connect(model, start, end, verify="sampled")
    assert not bool(sampled.proved.any())


def test_what_is_not_piecewise_linear_is_sampled_or_refused():
    start, end = on_ring([0.0]), on_ring([2.6])
    assert connect(ring, start, end).proved.tolist() == [False]
    with pytest.raises(FieldError):
        connect(ring, start, end, verify="exact")


@pytest.mark.messages
def test_ends_of_two_classes_and_of_two_shapes_are_refused(linear, noise):
    model = linear([[1.0, 0.0], [0.0, 1.0]])
    start, end = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.0, 2.0]])
    with pytest.raises(
        ParameterError, match=r"2 of 3 pairs have two \(first: 1, 2; pair 1: class 0"
    ):
        connect(model, start.double(), end.double())
    with pytest.raises(ShapeError, match="shape of `start`"):
        connect(model, start, end[:2])
    with pytest.raises(ParameterError, match="`share` must lie between 0 and 1"):
        connect(model, start, start, share=1.0)


@pytest.mark.data
@pytest.mark.slow
def test_pairs_of_mnist_are_joined_by_paths_at_most_one_per_cent_longer(levelset_data):
    from levelset.boundary._regions._cloud import predicted
    from levelset.datasets import load_model, read_images

    weights = levelset_data / "networks" / "mnist-convnet4a-ours-eps0.4.safetensors"
    model = load_model("convnet_4a", weights=str(weights))
    points = read_images(str(levelset_data / "mnist"), limit=300).points
    order = predicted("test", model, points).argsort(stable=True)
    classes = predicted("test", model, points[order])
    pairs = (classes[15:] == classes[:-15]).nonzero().flatten()[:60]
    assert len(pairs) == 60
    assert isinstance(model, nn.Module)
    link = connect(model, points[order][pairs], points[order][pairs + 15])
    assert bool(link.joined.all())
    assert float(link.ratio.max()) <= 1.01
