import pytest
import torch
from torch.nn import functional

from levelset.errors import FieldError, ParameterError
from levelset.losses._outputs import cross_entropies, logits_of


def test_logits_carry_their_graph_and_are_checked(two_classes, noise):
    points, labels = noise(5, 3), torch.tensor([0, 1, 0, 1, 1])
    logits = logits_of("test", two_classes, points, labels)
    assert logits.requires_grad
    assert torch.equal(logits, two_classes(points))
    with pytest.raises(FieldError, match=r"test: `model` must return logits \(5, k\), got tuple"):
        logits_of("test", lambda x: (two_classes(x),), points, labels)
    with pytest.raises(ParameterError, match="test: `labels` must lie in 0 to 1, got 2"):
        logits_of("test", two_classes, points, labels + 1)
    before = points.clone()
    logits_of("test", lambda x: two_classes(x.mul_(2.0)), points, labels)
    assert torch.equal(points, before)


def test_cross_entropies_are_one_an_input(two_classes, noise):
    points, labels = noise(5, 3), torch.tensor([0, 1, 0, 1, 1])
    found = cross_entropies("test", two_classes)(points, labels)
    torch.testing.assert_close(found.mean(), functional.cross_entropy(two_classes(points), labels))
    assert found.shape == (5,)
