import math

import pytest
import torch

from levelset._display.profiles import broken, end_places, mean_profile, places
from levelset.boundary import curvature
from levelset.errors import ParameterError
from levelset.shapes import Sphere


def test_places_count_from_one_and_leave_a_gap_between_the_ends():
    points = torch.eye(8)
    whole = curvature(Sphere(), points)
    assert places("f", whole, "all") == [1, 2, 3, 4, 5, 6, 7]
    both = curvature(Sphere(), points, count=2, ends="both")
    assert places("f", both, "both") == [1, 2, None, 6, 7]
    assert places("f", both, "top") == [1, 2, 3, 4]
    assert places("f", both, "bottom") == [4, 5, 6, 7]
    assert places("f", curvature(Sphere(), points, count=7, ends="both"), "both") == [
        1, 2, 3, 4, 5, 6, 7,
    ]  # fmt: skip
    with pytest.raises(ParameterError, match="must hold all 7 principal curvatures, got 4"):
        places("f", both, "all")


def test_an_axis_leaves_out_a_gap_that_all_share():
    at = end_places(4, 1000)
    assert broken([at, at]) == ([0, 1, 3, 4], ["1", "2", "999", "1,000"])
    assert broken([at, end_places(4, 10)]) is None
    assert broken([[1, 2, 3]]) is None


def test_means_are_over_the_rows_that_are_known():
    principal = torch.tensor([[3.0, 1.0], [torch.nan, torch.nan], [1.0, -1.0]])
    values = mean_profile(principal, [1, None, 9])
    assert values[0] == 2.0
    assert values[2] == 0.0
    assert math.isnan(values[1])
    assert all(map(math.isnan, mean_profile(principal[1:2], [1, None, 9])))
