"""Voronoi classifiers: the nearest point's label, and crossings exact to rounding."""

import pytest
import torch

from levelset.errors import ShapeError
from levelset.shapes import VoronoiClassifier


def classifier(m: int = 60, d: int = 2) -> VoronoiClassifier:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(m, d, generator=generator, dtype=torch.float64)
    return VoronoiClassifier(points, torch.randint(0, 3, (m,), generator=generator))


def test_the_class_is_that_of_the_nearest_point(noise):
    model, points = classifier(d=5), noise(300, 5, seed=3)
    nearest = torch.cdist(points, model.points).argmin(1)
    assert torch.equal(model(points).argmax(1), model.labels[nearest])


@pytest.mark.parametrize("d", [2, 6])
def test_crossings_are_all_there_and_on_the_boundary(d, noise, check_changes):
    model, start, end = classifier(d=d), noise(60, d, seed=1), noise(60, d, seed=2)
    check_changes(model, start, end, step=1e-7)


def test_edges_between_neighbours_cross_their_own_face_at_right_angles():
    """Where no third point is nearer to the middle; elsewhere they pass through other cells."""
    model = classifier(200)
    pairs = model.neighbours()
    a, b = model.points[pairs].unbind(1)
    middle = (a + b) / 2
    others = torch.cdist(middle, model.points).topk(3, largest=False).values
    direct = others[:, 2] > others[:, 1] + 1e-9
    direct &= others[:, 0] > (a - b).norm(dim=1) / 2 - 1e-9
    found = model.crossings(a[direct], b[direct])
    assert torch.equal(found.segments, torch.arange(int(direct.sum())))
    assert torch.allclose(found.shares, torch.tensor(0.5, dtype=torch.float64))
    along = torch.nn.functional.normalize((b - a)[direct], dim=1)
    assert torch.allclose((found.normals * along).sum(1), torch.ones(len(along)).double())
    assert 0.5 < float(direct.double().mean()) < 1  # the draft has all


def test_no_points_and_no_crossings():
    model = classifier()
    nothing = model.crossings(torch.zeros(0, 2), torch.zeros(0, 2))
    assert len(nothing.segments) == 0
    assert nothing.points.shape == (0, 2)
    with pytest.raises(ShapeError, match="`points` must have a row"):
        VoronoiClassifier(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
