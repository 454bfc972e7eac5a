"""The words for shapes mean what they say."""

import pytest
import torch

from levelset import _typing as words


@pytest.mark.parametrize(
    ("word", "fits", "does_not"),
    [
        ("Points", torch.zeros(2, 3, 4), torch.zeros(2, 3).int()),
        ("PerPoint", torch.zeros(2), torch.zeros(2, 1)),
        ("Logits", torch.zeros(2, 3), torch.zeros(2)),
        ("Mask", torch.zeros(2).bool(), torch.zeros(2)),
        ("Counts", torch.zeros(2).long(), torch.zeros(2)),
        ("Labels", torch.zeros(2).byte(), torch.zeros(2, 1).int()),
        ("Labels", torch.zeros(2).long(), torch.zeros(2)),
    ],
)
def test_shapes_and_kinds(word, fits, does_not):
    alias = getattr(words, word)
    assert isinstance(fits, alias)
    assert not isinstance(does_not, alias)


def test_any_callable_of_two_numbers_hears_of_progress():
    assert isinstance(lambda done, total: None, words.Progress)
    assert not isinstance(3, words.Progress)
