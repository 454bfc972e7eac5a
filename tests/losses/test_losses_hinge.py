import pytest
import torch
from torch import nn

from levelset.errors import FieldError, ParameterError
from levelset.losses import hinge


def test_it_is_the_hinge_of_the_margin(settled, noise, check_gradient):
    net = settled(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)), 1, torch.float64)
    points, labels = noise(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    rows = []
    for logits, label in zip(net(points), labels, strict=True):
        rivals = torch.cat([logits[:label], logits[label + 1 :]])
        rows.append((2.0 - logits[label] + rivals.max()).clamp(min=0.0))
    torch.testing.assert_close(hinge(net, points, labels, margin=2.0), torch.stack(rows).mean())
    check_gradient(net, lambda: hinge(net, points, labels, margin=2.0))


def test_one_logit_is_a_binary_classifier(settled, noise):
    net, points = settled(nn.Linear(3, 1), 1, torch.float64), noise(6, 3)
    labels = torch.tensor([0, 1] * 3)
    expected = (1.0 - (2 * labels - 1) * net(points).squeeze(1)).clamp(min=0.0).mean()
    torch.testing.assert_close(hinge(net, points, labels), expected)


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(settled, noise, left_as_found):
    net, points, labels = settled(nn.Linear(3, 3)).double(), noise(3, 3), torch.tensor([0, 1, 2])
    with left_as_found(net, points, labels):
        hinge(net, points, labels)
    with pytest.raises(ParameterError, match="`margin` must be positive, got 0"):
        hinge(net, points, labels, margin=0.0)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 2"):
        hinge(net, points, labels + 1)
    with pytest.raises(FieldError, match="must map points"):
        hinge(lambda x: net(x)[None], points, labels)
    assert float(hinge(net, points[:0], labels[:0]).detach()) == 0.0
