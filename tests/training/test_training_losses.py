import inspect

import pytest
import torch

from levelset import losses
from levelset.errors import DataError
from levelset.networks import fc
from levelset.training import Ramp, Steps, build_loss, build_schedule, cross_entropy
from levelset.training._losses import loss_names

# Options without which a loss cannot be: those of every other one have defaults.
WANTED = {
    name: "(radius=0.1)"
    for name in loss_names()
    if name != "cross_entropy" and "radius" in inspect.signature(getattr(losses, name)).parameters
}


def test_names_are_those_of_the_losses_of_classifiers():
    assert set(loss_names()) == {
        *(name for name in losses.__all__ if name.islower()), "cross_entropy",
    } - {"reconstruction"}  # fmt: skip


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


def only(spec):
    (term,) = build_loss(spec).terms
    return term


def test_options_are_handed_on():
    term = only("interval-bound(radius=0.1, kappa=0.25)")
    assert term.loss is losses.interval_bound
    assert (term.options, term.weight) == ({"radius": 0.1, "kappa": 0.25}, 1.0)
    assert only(" cross_entropy ").loss is cross_entropy
    assert only("robust_distance(radius=0.1, bounds=(-1, 1))").options["bounds"] == (-1, 1)


def test_sums_weights_and_schedules_are_read_and_written_alike():
    text = "0.5 * hinge + ramp({1: 1.0, '50%': 0.1}) * trades(radius=0.3)"
    with pytest.raises(DataError, match="must be all numbers of epochs or all shares"):
        build_loss(text)
    text = (
        "0.5 * hinge + ramp({0: 1.0, 5: 0.1}) * trades(radius=ramp({'0%': 0.1, '30%': 0.3})) + "
        "robust_distance(radius=steps({0: 0.2, 5: 0.4}), samples='project')"
    )
    objective = build_loss(text)
    assert str(objective) == text
    assert str(build_loss(str(objective))) == text
    assert str(build_loss("hinge*0.5 + 2 * hinge(margin=2)")) == "0.5 * hinge + 2 * hinge(margin=2)"
    at = objective.at(5, 20)
    assert [term.weight for term in at.terms] == [0.5, pytest.approx(0.1), 1.0]
    assert at.terms[1].options["radius"] == pytest.approx(0.1 + 0.2 * 5 / 6)
    assert at.terms[2].options == {"radius": 0.4, "samples": "project"}


def test_schedules_of_the_learning_rate_are_read():
    assert build_schedule("cosine") == "cosine"
    assert build_schedule("constant") == "constant"
    assert build_schedule("steps({50: 0.5})") == Steps({50: 0.5})
    assert build_schedule(" ramp({'0%': 0.1, '30%': 1}) ") == Ramp({"0%": 0.1, "30%": 1})


@pytest.mark.messages
def test_what_is_no_schedule_is_refused():
    for wrong in ("linear", "steps(5)", "ramp({0: 'x'})", "0.5", "steps", ""):
        with pytest.raises(DataError, match=r"a schedule|schedule is cosine, constant, steps"):
            build_schedule(wrong)


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
        ("hinge - trades(radius=0.1)", "cannot be read|no loss known"),
        ("hinge +", "cannot be read. Write a loss, as `hinge"),
        ("hinge * hinge", "must be plain literals|cannot be read"),
        ("'a' * hinge", "cannot be read"),
        ("2 * 3", "is no loss known here"),
        ("hinge(margin=ramp({}))", "a schedule that cannot be: Ramp: `knots` must be a dict"),
        ("hinge(margin=ramp({5: 1, 2: 1}))", "the times of `knots` must ascend"),
        ("hinge(watch=1)", "has watch; hinge takes the options: margin"),
    ],
)
def test_what_does_not_fit_is_refused(spec, words):
    with pytest.raises(DataError, match=words):
        build_loss(spec)
