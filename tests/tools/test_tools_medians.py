import statistics

import pytest
import torch

from levelset._tools.medians import median


@pytest.mark.parametrize("values", [[3.0], [996.7, 32.9], [5.0, 1.0, 2.0], [4, 1, 3, 2]])
def test_it_is_the_median_of_the_textbook(values: list[float]) -> None:
    given = torch.tensor(values)
    assert median(given) == pytest.approx(statistics.median(values))
    assert given.tolist() == pytest.approx(values)
