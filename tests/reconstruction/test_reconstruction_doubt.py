"""Doubt at the corners of a mesh: where no points are, where their side is unsure, on handles."""

import math

import numpy as np
import pytest
import torch

from levelset.reconstruction import extract_mesh
from levelset.reconstruction._doubt import doubted, doubted_as, share_doubtful
from levelset.reconstruction._meshes._loops import Loop
from levelset.reconstruction._orientation import OrientedPoints
from levelset.reconstruction._topology import Handle
from levelset.shapes import Sphere


@pytest.fixture(scope="module")
def ball():
    return extract_mesh(Sphere(), bounds=([-1.2] * 3, [1.2] * 3), resolution=32)


def test_a_cap_without_points_is_doubtful_by_its_area(ball):
    height = ball.vertices[:, 2].numpy()
    mesh = doubted(ball, height - 0.5, None, ())
    assert torch.equal(mesh.scalars["doubt"], torch.from_numpy((height > 0.5) * 1.0))
    assert share_doubtful(mesh) == pytest.approx(0.25, abs=0.02)  # a cap of height 1/2 of 2
    assert share_doubtful(doubted(ball, height - 2.0, None, ())) == 0.0


def test_the_doubt_of_a_place_is_that_of_the_points_there(ball):
    places = ball.vertices.numpy()
    confidence = np.where(places[:, 0] > 0, 0.3, 0.9)
    ones = np.ones(len(places))
    points = OrientedPoints(places, places, ones, confidence, ones, 0.0 * ones)
    doubt = doubted(ball, -ones, points, ()).scalars["doubt"].numpy()
    assert np.allclose(doubt[places[:, 0] > 0.2], 0.7)
    assert np.allclose(doubt[places[:, 0] < -0.2], 0.1)


def test_all_around_a_handle_that_may_be_none_is_doubtful(ball):
    turn = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    ring = np.stack([0.2 * np.cos(turn), 0.2 * np.sin(turn), np.ones(20)], 1)
    handle = Handle(Loop(ring, 0.4 * math.pi, ring), 0.5, 1.0)
    doubt = doubted(ball, -np.ones(len(ball.vertices)), None, (handle,)).scalars["doubt"]
    away = (ball.vertices - torch.tensor([0.0, 0.0, 1.0]).double()).norm(dim=1)
    assert (doubt[away < 0.28] == 1.0).all()
    assert (doubt[away > 0.32] == 0.0).all()


def test_a_finer_mesh_has_the_doubt_of_the_coarse_one(ball):
    fine = extract_mesh(Sphere(), bounds=([-1.2] * 3, [1.2] * 3), resolution=48)
    coarse = doubted(ball, ball.vertices[:, 2].numpy(), None, ())
    doubt = doubted_as(fine, coarse).scalars["doubt"]
    assert (doubt[fine.vertices[:, 2] > 0.1] == 1.0).all()
    assert (doubt[fine.vertices[:, 2] < -0.1] == 0.0).all()
