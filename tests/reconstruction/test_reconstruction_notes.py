"""What is said of a surface: doubt, holes, and points that bound no volume."""

import math

import numpy as np
import pytest
import torch

from levelset.reconstruction import extract_mesh
from levelset.reconstruction._cloud import prepare
from levelset.reconstruction._notes import cloud_words, lid_words
from levelset.reconstruction._open import Footprint
from levelset.shapes import Sphere


@pytest.fixture(scope="module")
def ball():
    mesh = extract_mesh(Sphere(), bounds=([-1.2] * 3, [1.2] * 3), resolution=40)
    draws = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return mesh, torch.nn.functional.normalize(draws, dim=1)


@pytest.mark.parametrize(
    ("height", "words"), [(0.95, ()), (0.6, ("Holes were closed: ",)), (-0.2, ("bound no volume",))]
)
def test_a_cap_that_was_not_seen_is_named_by_its_share(ball, height, words):
    mesh, points = ball
    points = points[points[:, 2] < height]
    cloud = prepare(points, None, 10_000)
    spacing = np.full(len(points), math.sqrt(4 * math.pi / 4000))
    seen = Footprint(points.numpy(), points.numpy(), spacing, 0.0)
    said = lid_words(mesh, seen, cloud)
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


def test_an_unsure_side_is_said_from_a_tenth_of_the_points_on(ball):
    cloud = prepare(ball[1], None, 10_000)
    assert cloud_words(cloud, 0.05) == cloud_words(cloud, math.nan) == ()
    assert "unsure for 20% of the points" in cloud_words(cloud, 0.2)[0]
