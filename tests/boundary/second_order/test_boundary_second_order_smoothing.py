"""A new smoothing, added the way CONTRIBUTING says: one class, and every function takes it."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from levelset import LogitDifference
from levelset._tools.evaluation import Evaluator
from levelset.auditing import audit
from levelset.boundary import (
    CentralDifference,
    ForwardDifference,
    GaussianSmoothing,
    Lanczos,
    class_curvatures,
    curvature,
    detect,
    loss_curvature,
    normal_curvature,
)
from levelset.boundary._second_order._differences import ValueDifferences
from levelset.boundary._second_order._smoothing import Hessian, Scale, Smoothing, smoothings
from levelset.cli._audit import _smoothing as chosen
from levelset.errors import ParameterError


class Isotropic(Hessian):
    """The same second derivative in every direction."""

    def __init__(self, part, bend):
        values, jacobian = Evaluator(part.function, part.field).value_and_jacobian(
            part.points, part.labels
        )
        self.values, self.gradient, self.bend = values.flatten(), jacobian[:, 0], bend

    def product(self, vectors):
        return self.bend * vectors

    def dense(self):
        m, e = self.gradient.shape
        return self.bend * torch.eye(e, dtype=self.gradient.dtype).expand(m, e, e)


@dataclass(frozen=True)
class Toy(Smoothing, Scale):
    bend: float
    words = "the same bend in every direction"

    def operator(self, part):
        return Isotropic(part, self.bend)

    def second_derivatives(self, function, model, batch_size):
        return ValueDifferences(function, model, batch_size, 1e-3)


@pytest.fixture
def model(settled):
    return settled(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), dtype=torch.float64)


@pytest.mark.parametrize("method", [None, Lanczos(4)])
def test_every_curvature_of_a_new_smoothing_is_its_bend_over_the_slope(model, noise, method):
    points, tangents = noise(4, 5), noise(4, 5, seed=1)
    field = LogitDifference(model, 0, 1)
    result = curvature(field, points, count=3, smoothing=Toy(2.0), level=None, method=method)
    expected = 2.0 / result.gradient_norm
    torch.testing.assert_close(result.principal, expected.unsqueeze(1).expand(-1, 3))
    torch.testing.assert_close(result.mean, expected)
    assert result.smoothing == Toy(2.0)
    along = normal_curvature(field, points, tangents, smoothing=Toy(2.0))
    torch.testing.assert_close(along, expected)


def test_the_loss_and_the_classes_take_a_new_smoothing_too(model, noise):
    points = noise(4, 5)
    result = loss_curvature(model, points, smoothing=Toy(2.0))
    torch.testing.assert_close(result.eigenvalues, torch.full((4, 5), 2.0, dtype=torch.float64))
    torch.testing.assert_close(
        class_curvatures(model, points, smoothing=Toy(2.0)),
        class_curvatures(model, points, smoothing=CentralDifference(1e-3)), equal_nan=True,
    )  # fmt: skip


def test_a_detector_of_a_new_smoothing_is_saved_and_loaded(model, noise, tmp_path):
    points = noise(6, 5)
    detector = detect.fit(model, points, points + 1.0, scales=Toy(2.0), draws=10)
    detector.save(tmp_path)
    assert detect.load(tmp_path, model).scales == (Toy(2.0),)


def test_an_audit_takes_a_new_smoothing(model, noise):
    points = noise(4, 5).sigmoid()
    labels = model(points).argmax(1)
    found = audit(model, points, labels, measures="curvature", smoothing=Toy(2.0))
    columns = found.columns
    torch.testing.assert_close(columns["curvature_largest"], columns["curvature_mean"])
    torch.testing.assert_close(columns["curvature_smallest"], columns["curvature_mean"])
    assert found.settings["smoothing"] == Toy(2.0)


def test_the_command_line_knows_a_new_smoothing_by_its_name():
    assert smoothings()["toy"] is Toy
    assert {"central", "forward", "gaussian", "softplus"} <= set(smoothings())
    assert chosen("toy:2") == Toy(2.0)
    assert chosen("gaussian:0.2") == GaussianSmoothing(0.2, draws=100)
    assert chosen("forward:0.1") == ForwardDifference(0.1)
    with pytest.raises(ParameterError, match=r"central:H, forward:H, gaussian:SIGMA.*toy:BEND"):
        chosen("sharply:5")


@pytest.mark.messages
def test_messages_name_every_smoothing_there_is(model, noise):
    with pytest.raises(ParameterError, match=r"ForwardDifference, .*Toy.*, or None, got 0\.1"):
        curvature(model, noise(2, 5), smoothing=0.1)
    with pytest.raises(ParameterError, match=r"one of CentralDifference, .*Toy, got Plain"):
        class_curvatures(model, noise(2, 5), smoothing=Plain(1.0))


@dataclass(frozen=True)
class Plain(Smoothing):
    """No scale: it says nothing about values."""

    bend: float
    words = "the same bend in every direction"

    def operator(self, part):
        return Isotropic(part, self.bend)
