"""Numbers of cells, counted, and faces of normals, against plain NumPy."""

import numpy as np
import pytest

from levelset._tools.cells import distinct, faces


@pytest.mark.parametrize("keys", [[], [7], [3, 3, 3], [2, 1, 2, -5, 1 << 62]])
def test_different_numbers_are_counted(keys):
    assert distinct(np.array(keys, dtype=np.int64)) == len(set(keys))


def test_each_normal_goes_through_the_face_that_it_points_at_most():
    axes = np.concatenate([-np.eye(3), np.eye(3)])
    np.testing.assert_array_equal(faces(axes + 0.3), [0, 2, 4, 1, 3, 5])
