import pytest
import torch

from levelset.boundary import Detection
from levelset.errors import ParameterError, ShapeError


@pytest.fixture
def found():
    scores = torch.tensor([[0.1, -torch.inf, 0.7, 0.4], [2.0, 1.0, -torch.inf, 3.0]])
    return Detection(
        torch.tensor([1.0, -1.0]), torch.tensor([True, False]), scores.argmax(1), scores
    )


def test_the_rank_is_the_place_in_the_order_of_the_scores(found):
    order = found.class_scores.argsort(1, descending=True)
    for place in range(4):
        assert found.rank(order[:, place]).tolist() == [place, place]
    assert found.rank(found.original_class).tolist() == [0, 0]
    assert found.summary() == {"points": 2, "flagged": 1}


@pytest.mark.messages
def test_classes_that_are_none_are_refused_by_their_name(found):
    with pytest.raises(ParameterError, match=r"Detection.rank: `classes` must lie in 0 to 3"):
        found.rank(torch.tensor([0, 4]))
    with pytest.raises(ShapeError, match="`classes` must be integers"):
        found.rank(torch.zeros(2))
