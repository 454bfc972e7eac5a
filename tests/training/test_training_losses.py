import functools
import inspect

import pytest
import torch

from levelset import losses
from levelset.errors import DataError
from levelset.networks import fc
from levelset.training import build_loss, cross_entropy
from levelset.training._losses import loss_names

# Options without which a loss cannot be: those of every other one have defaults.
WANTED = {
    name: "(radius=0.1)"
    for name in loss_names()
    if name != "cross_entropy" and "radius" in inspect.signature(getattr(losses, name)).parameters
}


def test_names_are_those_of_the_losses_of_classifiers():
    assert set(loss_names()) == {*losses.__all__, "cross_entropy"} - {"reconstruction"}


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_has_a_gradient_in_the_parameters(name):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(8, 5, generator=generator)
    net = fc(5, 6, 3).train()
    loss = build_loss(name + WANTED.get(name, ""))(net, points, torch.tensor([0, 1, 2, 0] * 2))
    assert loss.shape == ()
    gradients = torch.autograd.grad(loss, net.parameters(), allow_unused=True)
    assert all(g is None or bool(g.isfinite().all()) for g in gradients)
    assert net.training


def test_options_are_handed_on():
    loss = build_loss("interval-bound(radius=0.1, kappa=0.25)")
    assert isinstance(loss, functools.partial)
    assert loss.func is losses.interval_bound
    assert loss.keywords == {"radius": 0.1, "kappa": 0.25}
    assert build_loss(" cross_entropy ") is cross_entropy
    assert build_loss("robust_distance(radius=0.1, bounds=(-1, 1))").keywords["bounds"] == (-1, 1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hinges", "is no loss known here. Known are: adversarial, cross_entropy, curvature"),
        ("reconstruction", "is no loss known here"),
        ("trades", r"trades needs `radius`, got 'trades'. Write 'trades\(radius=...\)'"),
        ("hinge(radius=0.1)", "has radius; hinge takes the options: margin"),
        ("hinge(2)", "has options without a name; hinge takes the options: margin"),
        ("cross_entropy(weight=1)", "cross_entropy takes the options: none"),
        ("hinge(margin=open('x'))", "must be plain literals"),
    ],
)
def test_what_does_not_fit_is_refused(spec, words):
    with pytest.raises(DataError, match=words):
        build_loss(spec)
