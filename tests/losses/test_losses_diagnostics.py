"""What losses report of themselves: terms that add up, samples with their distances."""

import inspect

import pytest
import torch

from levelset import Margin, losses
from levelset.losses import Diagnostics
from levelset.networks import fc

WATCHED = sorted(
    name
    for name in losses.__all__
    if inspect.isfunction(getattr(losses, name))
    and "watch" in inspect.signature(getattr(losses, name)).parameters
)
SAMPLED = {"direct_margin", "geometric_svm", "robust_distance"}


def evaluated(name: str, **options):
    generator = torch.Generator().manual_seed(8)
    net = fc(4, 16, 3).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    points = torch.rand(30, 4, generator=generator, dtype=torch.float64)
    labels = net(points).argmax(1)
    labels[:6] = (labels[:6] + 1) % 3
    function = getattr(losses, name)
    takes = inspect.signature(function).parameters
    known = {"radius": 0.3, "generator": torch.Generator().manual_seed(0)} | options
    known = {key: value for key, value in known.items() if key in takes}
    reports: list[Diagnostics] = []
    value = function(net, points, labels, watch=reports.append, **known)
    (report,) = reports
    return net, points, labels, value, report


def test_losses_of_several_terms_or_with_searches_take_a_watch():
    assert set(WATCHED) == SAMPLED | {"adversarial", "curvature", "interval_bound", "trades"}


@pytest.mark.parametrize("name", WATCHED)
def test_terms_add_up_to_the_loss_with_their_graph(name):
    net, _, _, value, report = evaluated(name, adversarial=0.5)
    torch.testing.assert_close(sum(report.terms.values()), value, rtol=1e-12, atol=1e-14)
    assert all(term.dim() == 0 for term in report.terms.values())
    parameters = list(net.parameters())
    whole = torch.autograd.grad(value, parameters, retain_graph=True)
    parts = [
        torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        for term in report.terms.values()
        if term.requires_grad
    ]
    for k, gradient in enumerate(whole):
        torch.testing.assert_close(sum(part[k] for part in parts), gradient)
    assert (report.converged is not None) == (report.distance is not None) == (name in SAMPLED)


@pytest.mark.parametrize("name", sorted(SAMPLED))
def test_samples_converge_at_distances_within_reach(name):
    _, points, _, _, report = evaluated(name, radius=0.9)
    assert report.converged.dtype == torch.bool
    assert report.converged.double().mean() > 0.5
    assert (report.distance >= 0).all()
    if name == "direct_margin":  # in the ball of the radius
        assert report.distance.max() <= 0.9 + 1e-12
    if name == "geometric_svm":  # each input projected on 0, 1 and -1
        assert (len(report.distance), len(report.converged)) == (len(points), 3 * len(points))


def test_the_distance_of_a_plane_is_exact():
    line = torch.nn.Linear(2, 1).double()
    line.weight.data = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    line.bias.data = torch.tensor([-1.0], dtype=torch.float64)
    points = torch.tensor([[0.75, 0.0], [0.5, 0.5]], dtype=torch.float64)
    reports: list[Diagnostics] = []
    losses.geometric_svm(line, points, torch.tensor([1, 1]), norm=2, watch=reports.append)
    distance = Margin(line)(points, torch.tensor([1, 1])) / 5**0.5
    torch.testing.assert_close(reports[0].distance, distance.detach(), rtol=1e-9, atol=0)
    assert reports[0].converged.all()


def test_the_summary_has_every_term_and_how_the_samples_fared():
    _, _, _, value, report = evaluated("robust_distance", adversarial=0.5)
    summary = report.summary()
    assert summary["adversarial"] + summary["samples"] == pytest.approx(float(value.detach()))
    assert summary["converged"] == float(report.converged.double().mean())
    assert summary["distance_median"] == float(report.distance.median())
    assert repr(report).startswith("Diagnostics(adversarial=")
    assert repr(Diagnostics()) == "Diagnostics()"
