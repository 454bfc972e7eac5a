"""Objects are told apart, and each is turned outward."""

import numpy as np
import pytest

from levelset.reconstruction._objects import objects, turn_outward


def sphere(count, radius=1.0, centre=(0.0, 0.0, 0.0)):
    """Return places on a sphere, their outward normals, and their spacing."""
    k = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * k / count, np.pi * (1.0 + np.sqrt(5.0)) * k
    ring = np.sqrt(1.0 - z * z)
    normals = np.c_[ring * np.cos(turn), ring * np.sin(turn), z]
    spacing = np.full(count, radius * np.sqrt(4.0 * np.pi / count))
    return radius * normals + centre, normals, spacing


def joined(*shapes):
    return tuple(np.concatenate(parts) for parts in zip(*shapes, strict=True))


def outward(places, normals, spacing, part=None):
    """Return the signs that turn normals outward; they agree within objects without parts."""
    part = np.zeros(len(places), dtype=np.int64) if part is None else part
    return turn_outward(places, normals, spacing, part)


def test_objects_are_what_hangs_together():
    clouds = sphere(300), sphere(100, 0.3, (2.0, 0.0, 0.0)), sphere(200, 0.5)
    number = objects(*joined(*clouds))
    assert len(np.unique(number)) == 3
    for rows in (slice(0, 300), slice(300, 400), slice(400, 600)):
        assert len(np.unique(number[rows])) == 1


@pytest.mark.parametrize("turned", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_separate_objects_are_turned_each_by_itself(turned):
    places, normals, spacing = joined(sphere(300), sphere(100, 0.3, (2.0, 0.0, 0.0)))
    given = np.repeat(turned, [300, 100]).astype(float)
    np.testing.assert_array_equal(outward(places, normals * given[:, None], spacing), given)


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_the_wall_of_a_cavity_is_turned_into_the_cavity(turned):
    places, normals, spacing = joined(sphere(600), sphere(150, 0.5))
    given = np.repeat([1.0, turned], [600, 150])
    signs = outward(places, normals * given[:, None], spacing)
    np.testing.assert_array_equal(signs * given, np.repeat([1.0, -1.0], [600, 150]))


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_a_torn_off_piece_fits_into_the_rest(turned):
    """The cap of a sphere beyond a gap: by itself it has hardly a volume."""
    places, normals, spacing = sphere(1_500)
    height = places[:, 2]
    kept = (height < 0.7) | (height > 0.93)
    cap = height[kept] > 0.93
    given = np.where(cap, turned, 1.0)
    signs = outward(places[kept], normals[kept] * given[:, None], spacing[kept])
    assert len(np.unique(objects(places[kept], normals[kept], spacing[kept]))) == 2
    np.testing.assert_array_equal(signs, given)


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_the_two_faces_of_a_hollow_ball_two_spacings_thick_are_not_one_object(turned):
    outer = sphere(2_000)
    gap = 2.0 * outer[2][0]
    inner = sphere(round(2_000 * (1.0 - gap) ** 2), 1.0 - gap)
    places, normals, spacing = joined(outer, inner)
    assert len(np.unique(objects(places, normals, spacing))) == 2
    sides = np.repeat([1.0, turned], [len(outer[0]), len(inner[0])])
    signs = outward(places, normals * sides[:, None], spacing)
    truth = np.repeat([1.0, -1.0], [len(outer[0]), len(inner[0])])
    np.testing.assert_array_equal(signs * sides, truth)


def test_the_faces_of_a_block_are_one_object_whatever_the_corners():
    rng = np.random.default_rng(0)
    side, where = rng.integers(0, 6, 3_000), rng.uniform(-1.0, 1.0, (3_000, 3))
    normals = np.zeros((3_000, 3))
    normals[np.arange(3_000), side // 2] = 2.0 * (side % 2) - 1.0
    places = np.where(normals != 0.0, normals, where)
    spacing = np.full(3_000, np.sqrt(24.0 / 3_000))
    # sheared, half of its edges are sharper than a right angle
    shear = np.array([[1.0, 0.0, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for matrix in (np.eye(3), shear):
        across = normals @ np.linalg.inv(matrix).T
        across /= np.linalg.norm(across, axis=1)[:, None]
        assert len(np.unique(objects(places @ matrix, across, spacing))) == 1


def test_half_a_sphere_seen_from_one_side_is_turned_to_the_viewer():
    places, normals, spacing = sphere(800)
    front = places[:, 2] > 0.0
    signs = outward(places[front], -normals[front], spacing[front])
    assert (signs == -1.0).all()


@pytest.mark.parametrize("turned", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_bodies_that_touch_are_turned_each_by_itself(turned):
    """They are one object to what hangs together, and two to their signs."""
    places, normals, spacing = joined(sphere(800), sphere(400, 0.7, (1.75, 0.0, 0.0)))
    assert len(np.unique(objects(places, normals, spacing))) == 1
    body = np.repeat([0, 1], [800, 400])
    sides = np.array(turned, dtype=float)[body]
    signs = outward(places, normals * sides[:, None], spacing, body)
    np.testing.assert_array_equal(signs, sides)


def test_a_part_that_is_open_or_tiny_goes_with_its_object():
    places, normals, spacing = sphere(800)
    cap, dot = places[:, 2] > 0.5, np.arange(800) > 790
    for part in (cap.astype(np.int64), dot.astype(np.int64)):
        assert (outward(places, normals, spacing, part) == 1.0).all()
        assert (outward(places, -normals, spacing, part) == -1.0).all()
