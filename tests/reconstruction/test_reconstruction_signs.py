"""Signs are the best there are where that can be checked, and right on known shapes."""

import itertools

import numpy as np
import pytest

from levelset.reconstruction._dipoles import couplings
from levelset.reconstruction._signs import (
    CLUSTERS,
    best_signs,
    contract,
    parts,
    polish,
    settle_signs,
)
from levelset.reconstruction._thinning import thin


def random_couplings(count, seed):
    matrix = np.random.default_rng(seed).standard_normal((count, count)).astype(np.float32)
    matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0.0)
    return matrix


def energy(matrix, signs):
    return float(signs @ (matrix.astype(np.float64) @ signs))


def torus(count, radius, noise=0.0):
    """Return evenly spread places on a torus and its outward normals."""
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, 2 * np.pi, (2, 40 * count))
    ring = 0.8 + radius * np.cos(v)
    places = np.c_[ring * np.cos(u), ring * np.sin(u), radius * np.sin(v)]
    normals = np.c_[np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)]
    rows = thin(places, count)
    tilted = normals[rows] + noise * rng.standard_normal((len(rows), 3))
    tilted /= np.linalg.norm(tilted, axis=1, keepdims=True)
    area = 4 * np.pi**2 * 0.8 * radius
    return places[rows], tilted, np.full(len(rows), np.sqrt(area / len(rows)))


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_the_best_of_all_signs(seed):
    matrix = random_couplings(12, seed).astype(np.float64)
    signs = [np.array((1.0, *rest)) for rest in itertools.product([-1.0, 1.0], repeat=11)]
    best = max(energy(matrix, each) for each in signs)
    assert energy(matrix, best_signs(matrix)) == pytest.approx(best)


def test_along_a_chain_whole_sides_turn_where_no_single_sign_would():
    """Pairs pull hard at one another, weakly at the next, some the other way: all can be had."""
    link = np.arange(47)
    pulls = np.where(link % 5 == 2, -1.0, 1.0) * np.where(link % 2, 1.0, 2.0)
    matrix = np.diag(pulls, 1) + np.diag(pulls, -1)
    assert energy(matrix, best_signs(matrix)) == pytest.approx(2.0 * np.abs(pulls).sum())


def test_signs_that_nothing_couples_are_left():
    assert np.abs(best_signs(np.zeros((3, 3)))).tolist() == [1.0, 1.0, 1.0]
    assert len(best_signs(np.zeros((1, 1)))) == 1


def test_contracted_couplings_are_those_of_the_clusters():
    """Any signs of the clusters have the energy that they have on the whole, up to a constant."""
    matrix = random_couplings(200, 0)
    small, signs, labels = contract(matrix)
    assert len(small) <= CLUSTERS
    np.testing.assert_array_equal(np.unique(labels), np.arange(len(small)))
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(5):
        choice = rng.choice([-1.0, 1.0], len(small))
        gaps.append(energy(matrix, signs * choice[labels]) - energy(small, choice))
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-4)


def test_what_is_not_coupled_is_left_alone():
    matrix = np.zeros((100, 100), dtype=np.float32)
    small, signs, labels = contract(matrix)
    assert len(small) == 100
    np.testing.assert_array_equal(labels, np.arange(100))
    assert (signs == 1.0).all()


def test_polishing_leaves_none_outvoted_and_never_loses():
    for seed in range(5):
        matrix = random_couplings(80, seed)
        start = np.random.default_rng(seed).choice([-1.0, 1.0], 80).astype(np.float32)
        end = polish(matrix, start)
        assert (end * (matrix @ end) >= 0.0).all()
        assert energy(matrix, end) >= energy(matrix, start)


@pytest.mark.parametrize("radius", [0.4, 0.1, 0.05])
def test_a_torus_gets_back_the_signs_that_were_taken_from_it(radius):
    places, normals, spacing = torus(1_200, radius, noise=0.2)
    lost = np.random.default_rng(1).choice([-1.0, 1.0], len(places))
    signs, sure, _ = settle_signs(places, normals * lost[:, None], spacing)
    right = signs * lost
    right *= np.sign(right.sum())
    assert (right == 1.0).all()
    assert np.median(sure) > 0.8


@pytest.mark.parametrize(("apart", "count"), [(2.2, 2), (1.6, 1)])
def test_bodies_that_touch_are_parts_and_one_body_with_a_waist_is_not(apart, count):
    """Two balls, beside each other or grown together; the signs are taken away first."""
    k = np.arange(900) + 0.5
    z, turn = 1.0 - 2.0 * k / 900, np.pi * (1.0 + np.sqrt(5.0)) * k
    ball = np.c_[np.sqrt(1.0 - z * z)[:, None] * np.c_[np.cos(turn), np.sin(turn)], z]
    centres = np.array([[0.0, 0.0, 0.0], [apart, 0.0, 0.0]])
    body = np.repeat([0, 1], 900)
    places = np.r_[ball, ball] + centres[body]
    outside = np.linalg.norm(places - centres[1 - body], axis=1) > 1.0
    places, normals, body = places[outside], np.r_[ball, ball][outside], body[outside]
    spacing = np.full(len(places), np.sqrt(4.0 * np.pi / 900))
    lost = np.random.default_rng(1).choice([-1.0, 1.0], len(places))
    signs, _, part = settle_signs(places, normals * lost[:, None], spacing)
    assert len(np.unique(part)) == count
    for which in range(2):
        assert len(np.unique(part[body == which])) == 1
        assert abs((signs * lost)[body == which].mean()) == 1.0


def test_parts_are_what_a_weak_link_holds_together():
    agreement = np.zeros((4, 4))
    for one, other, link in ((0, 1, 5.0), (1, 2, 0.001), (2, 3, 5.0)):
        agreement[one, other] = agreement[other, one] = link
    gain = np.array([10.0, 10.001, 10.001, 10.0])
    assert parts(agreement, gain).tolist() == [0, 0, 1, 1]
    agreement[1, 2] = agreement[2, 1] = 1.0
    assert parts(agreement, gain).tolist() == [0, 0, 0, 0]
    assert parts(np.zeros((2, 2)), np.ones(2)).tolist() == [0, 1]


def test_the_true_signs_have_the_largest_energy():
    places, normals, spacing = torus(600, 0.2)
    matrix = couplings(places, normals, spacing)
    ones = np.ones(len(matrix), dtype=np.float32)
    np.testing.assert_array_equal(polish(matrix, ones), ones)
    rng = np.random.default_rng(2)
    for share in (0.01, 0.1, 0.5):
        others = np.where(rng.random(len(matrix)) < share, -1.0, 1.0)
        assert energy(matrix, others) < energy(matrix, ones)


def test_where_normals_are_wrong_it_is_less_sure():
    places, normals, spacing = torus(800, 0.3)
    normals[:20] = np.random.default_rng(3).standard_normal((20, 3))
    normals[:20] /= np.linalg.norm(normals[:20], axis=1, keepdims=True)
    _, sure, _ = settle_signs(places, normals, spacing)
    assert np.median(sure[:20]) < 0.8 * np.median(sure[20:])
