"""Means of points in cells, whatever the blocks that they come in."""

import numpy as np
import pytest

from levelset.datasets._cells import SAMPLE, Cells
from levelset.datasets._columns import Columns


@pytest.fixture
def cloud(noise):
    points = noise.normal(size=(20_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Columns(
        3e5 + 7.0 * points,
        points,
        colours=noise.integers(0, 256, points.shape).astype(np.uint16),
        sensors=noise.normal(size=points.shape),
        scalars={"echo": noise.normal(size=len(points))},
    )


def part(cloud, rows):
    return Columns(
        cloud.points[rows], cloud.normals[rows], (), cloud.colours[rows], cloud.sensors[rows],
        {name: values[rows] for name, values in cloud.scalars.items()},
    )  # fmt: skip


def averaged(cloud, most, rows):
    cells = Cells(most)
    for start in range(0, len(cloud.points), rows):
        cells.add(part(cloud, slice(start, start + rows)))
    return (cells, *cells.columns())


def assert_same(a, b):
    for name in ("points", "normals", "colours", "sensors"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=1e-9), name
    assert np.allclose(a.scalars["echo"], b.scalars["echo"], rtol=0, atol=1e-9)


def test_fewer_points_than_cells_stay_as_they_are_and_in_their_order(cloud):
    cells, result, counts = averaged(cloud, 20_000, 700)
    assert cells.level == 0
    assert counts.tolist() == [1] * 20_000
    assert np.allclose(result.points, cloud.points, rtol=0, atol=1e-9)
    assert_same(result, part(cloud, slice(None)).__class__(
        cloud.points, cloud.normals, (), cloud.colours / 255.0, cloud.sensors, cloud.scalars
    ))  # fmt: skip


@pytest.mark.parametrize("rows", [300, 1000, 7000])
def test_blocks_of_any_size_give_what_one_block_gives(cloud, rows):
    one, whole, counts = averaged(cloud, 1500, 20_000)
    cells, result, others = averaged(cloud, 1500, rows)
    assert cells.side == one.side
    assert 300 < len(counts) <= 1500
    assert np.array_equal(counts, others)
    assert_same(result, whole)
    assert np.array_equal(np.sort(cells.drawn, axis=0), np.sort(cloud.points, axis=0))


def test_each_cell_is_the_mean_of_its_points_one_side_of_a_wall_each(cloud):
    cells, result, counts = averaged(cloud, 1500, 1000)
    index = np.floor((cloud.points - cells.anchor) / cells.side).astype(int)
    axis = np.abs(cloud.normals).argmax(1)
    face = 2 * axis + (cloud.normals[np.arange(len(axis)), axis] > 0)
    _, first, cell = np.unique(np.c_[index, face], axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    size = np.bincount(cell.ravel())
    for name, scale in (("points", 1.0), ("normals", 1.0), ("colours", 255.0)):
        means = [np.bincount(cell.ravel(), row) / size for row in getattr(cloud, name).T / scale]
        assert np.allclose(getattr(result, name), np.stack(means, 1)[order], rtol=0, atol=1e-9)
    assert np.array_equal(result.sensors, cloud.sensors[first[order]])
    assert np.array_equal(counts, size[order])


def test_a_few_points_very_far_away_change_no_cell_of_the_others(cloud):
    far = np.concatenate([cloud.points, np.full((10, 3), 1e12) + np.arange(10)[:, None]])
    cells, near = Cells(1500), Cells(1490)
    cells.add(Columns(far, None))
    near.add(Columns(cloud.points, None))
    assert cells.side == near.side
    assert cells.columns()[1].sum() == 20_010


def test_what_not_every_block_has_is_left_out_and_rows_with_nan_are_counted(cloud):
    cells = Cells(1500)
    cells.add(part(cloud, slice(0, 10_000)))
    rest = cloud.points[10_000:].copy()
    rest[::100] = np.nan
    cells.add(Columns(rest, None, colours=cloud.colours[10_000:]))
    result, counts = cells.columns()
    assert (result.normals, result.sensors, result.scalars) == (None, None, {})
    assert result.colours is not None
    assert (cells.dropped, counts.sum()) == (100, 19_900)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.full((5, 3), np.nan)])
def test_no_point_at_all(points):
    cells = Cells(10)
    cells.add(Columns(points, None))
    assert len(cells.columns()[0].points) == 0


def test_equal_points_and_points_in_the_plane():
    cells = Cells(10)
    cells.add(Columns(np.full((3000, 2), 4.0), None))
    result, counts = cells.columns()
    assert (result.points.tolist(), counts.tolist()) == ([[4.0, 4.0]], [3000])


def test_the_sample_is_even_whatever_the_order():
    cells = Cells(1000)
    line = np.linspace(0.0, 1.0, SAMPLE + 99_999)
    for some in np.array_split(np.stack([line] * 3, 1), 7):
        cells.add(Columns(some, None))
    shares = np.histogram(cells.drawn[:, 0], 10, (0.0, 1.0))[0] / SAMPLE
    assert len(cells.drawn) == SAMPLE
    assert np.abs(shares - 0.1).max() < 0.003
