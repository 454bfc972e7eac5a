"""What is said of a surface: doubt, holes, and points that bound no volume."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from levelset.reconstruction import extract_mesh
from levelset.reconstruction._cloud import prepare
from levelset.reconstruction._notes import cloud_words, lid_words
from levelset.reconstruction._open import Footprint
from levelset.reconstruction._orientation import OrientedPoints
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
    seen = Footprint(points.numpy(), points.numpy(), spacing, 0.0 * spacing)
    said = lid_words(mesh, seen.of(mesh), cloud, "smooth")
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


def test_a_flat_lid_is_no_want_of_volume(ball):
    mesh, points = ball
    points = points[points[:, 2] < -0.2]
    cloud = prepare(points, None, 10_000)
    spacing = np.full(len(points), math.sqrt(4 * math.pi / 4000))
    seen = Footprint(points.numpy(), points.numpy(), spacing, 0.0 * spacing)
    (said,) = lid_words(mesh, seen.of(mesh), cloud, "flat")
    assert said.startswith("Holes were closed flat: 6")


def test_noise_that_differs_is_said_with_its_range_in_units_of_the_cloud(ball):
    cloud = prepare(2.0 * ball[1], None, 10_000)
    ones = np.ones(len(cloud.points))
    spread = np.where(cloud.points[:, 0] < 0.0, 0.001, 0.02)
    oriented = OrientedPoints(cloud.points, cloud.points, ones, ones, ones, spread)
    (said,) = cloud_words(cloud, oriented, 0.0)
    assert said.startswith("The noise differs from place to place, from 0.002 to 0.04: ")
    (said,) = cloud_words(replace(cloud, raw_noise=0.01), oriented, 0.0)
    assert said.startswith("The noise of the means differs from place to place, from 0.002 to 0.04")
    alike = replace(oriented, spread=np.where(cloud.points[:, 0] < 0.0, 0.011, 0.02))
    assert cloud_words(cloud, alike, 0.0) == ()


def test_an_unsure_side_is_said_from_a_tenth_of_the_points_on_with_its_place(ball):
    cloud, points = prepare(ball[1], None, 10_000), ball[1].numpy()
    confidence = np.where(points[:, 0] > 0.7, 0.3, 1.0)
    confidence[:5] = 0.3  # alone, elsewhere
    ones = np.ones(len(points))
    unit = (points - cloud.centre.numpy()) / cloud.scale
    oriented = OrientedPoints(unit, points, ones, confidence, ones, 0.0 * ones)
    assert cloud_words(cloud, oriented, 0.05) == cloud_words(cloud, oriented, math.nan) == ()
    (said,) = cloud_words(cloud, oriented, oriented.unsure)
    place = re.search(r"unsure for 1\d % of the points, most of them near \((0\.[789]\d*),", said)
    assert place is not None
