import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset import losses
from levelset.errors import FieldError, ParameterError
from levelset.losses._outputs import cross_entropies, logits_of


def test_logits_carry_their_graph_and_are_checked(two_classes, noise):
    points, labels = noise(5, 3), torch.tensor([0, 1, 0, 1, 1])
    logits = logits_of("test", two_classes, points, labels)
    assert logits.requires_grad
    assert torch.equal(logits, two_classes(points))
    assert torch.equal(logits_of("test", lambda x: (two_classes(x),), points, labels), logits)
    with pytest.raises(FieldError, match=r"test: `model` must return logits .* got class labels"):
        logits_of("test", lambda x: two_classes(x).argmax(1), points, labels)
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


@pytest.mark.parametrize("last", [nn.Identity(), nn.Sigmoid()])
@pytest.mark.parametrize("name", [
    "adversarial", "curvature", "direct_margin", "geometric_svm", "hinge", "interval_bound",
    "large_margin", "robust_distance", "trades",
])  # fmt: skip
def test_one_output_is_a_binary_classifier(settled, noise, name, last):
    single = settled(nn.Sequential(nn.Linear(3, 6), nn.Softplus(), nn.Linear(6, 1)), seed=3)
    twin = nn.Sequential(nn.Linear(3, 6), nn.Softplus(), nn.Linear(6, 2)).double()
    with torch.no_grad():
        twin[0].load_state_dict(single[0].state_dict())
        twin[2].weight.copy_(torch.cat([torch.zeros(1, 6), single[2].weight]))
        twin[2].bias.copy_(torch.cat([torch.zeros(1), single[2].bias]))
    single.double()
    points = noise(12, 3).sigmoid()
    labels = (single(points)[:, 0] > 0).long()
    labels[:4] = 1 - labels[:4]
    loss = getattr(losses, name)
    drawn = {"adversarial", "direct_margin", "robust_distance", "trades"}
    options = {} if name in {"curvature", "geometric_svm", "hinge"} else {"radius": 0.1}
    values = []
    for model in (nn.Sequential(single, last), twin):
        if name in drawn:
            options["generator"] = torch.Generator().manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values.append(float(loss(model, points, labels, **options).detach()))
    assert values[0] > 0
    assert values[0] == pytest.approx(values[1], rel=1e-9)
