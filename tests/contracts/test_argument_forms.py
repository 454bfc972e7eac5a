"""One argument in several forms gives one result: bounds, labels and norms, in every function."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import levelset
from levelset import attacks, boundary
from levelset.errors import ParameterError

LOW, HIGH = [-0.1, -0.2, 0.0], [1.1, 1.2, 1.0]
SMALL = {"radius": 0.3, "steps": 5, "searches": 2, "effort": "quick"}
FAST = {"deepfool", "fgsm", "igsm", "r_fgsm"}


def side(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(3, 1, 1)


BOUNDS = {
    "lists": (LOW, HIGH),
    "arrays": (np.array(LOW), np.array(HIGH)),
    "tensors": (torch.tensor(LOW), torch.tensor(HIGH)),
    "sides that broadcast": (side(LOW), side(HIGH)),
    "a list and a full side": (LOW, side(HIGH).expand(3, 4, 5)),
}
LABELS = {
    "array": lambda labels: labels.numpy(),
    "list": lambda labels: labels.tolist(),
    "int32": lambda labels: labels.int(),
    "uint8": lambda labels: labels.to(torch.uint8),
}
NORMS = {2.0: ["l2", "L2", 2, "2"], math.inf: ["Linf", "linf", "inf", np.inf]}


def functions() -> list[Any]:
    found = {"distance": boundary.distance}
    for name in attacks.__all__:
        function = getattr(attacks, name)
        if inspect.isfunction(function) and "bounds" in inspect.signature(function).parameters:
            found[name] = function
    return [
        pytest.param(f, id=name, marks=[] if name in FAST else [pytest.mark.slow])
        for name, f in sorted(found.items())
    ]


@pytest.fixture
def images(noise) -> torch.Tensor:
    return torch.sigmoid(noise(5, 3, 4, 5, seed=4, dtype=torch.float32))


@pytest.fixture
def model(settled) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Tanh(), nn.Linear(24, 3))
    return settled(net, seed=2)


@pytest.fixture
def measured(model, images):
    """Return a function that measures, and gives what the result says of where inputs go."""

    def measure(function: Any, labels: Any, **options: Any) -> torch.Tensor:
        takes = inspect.signature(function).parameters
        small = {key: value for key, value in SMALL.items() if key in takes}
        if "generator" in takes:
            small["generator"] = torch.Generator().manual_seed(1)
        result = function(model, images, labels, **small, **options)
        name = "perturbation" if hasattr(result, "perturbation") else "points"
        return getattr(result, name).nan_to_num(7.0)

    return measure


@pytest.mark.parametrize("function", functions())
@pytest.mark.messages
def test_bounds_and_labels_in_every_form(function, model, images, measured):
    labels = model(images).argmax(1)
    full = side(LOW).expand(3, 4, 5), side(HIGH).expand(3, 4, 5)
    expected = measured(function, labels, bounds=full)
    for words, bounds in BOUNDS.items():
        assert torch.equal(measured(function, labels, bounds=bounds), expected), words
    for words, form in LABELS.items():
        assert torch.equal(measured(function, form(labels), bounds=full), expected), words


@pytest.mark.parametrize("function", functions())
def test_unbounded_boxes_are_searched_or_refused_by_name(function, model, images, measured):
    labels = model(images).argmax(1)
    unbounded = (-math.inf, math.inf)
    if function.__name__ in ("carlini_wagner", "jsma", "random_direction"):
        with pytest.raises(ParameterError, match=r"`bounds` must be finite|`reach` must be given"):
            measured(function, labels, bounds=unbounded)
    else:
        assert measured(function, labels, bounds=unbounded).isfinite().all()


@pytest.mark.parametrize("function", functions())
@pytest.mark.messages
def test_norms_by_every_name(function, model, images, measured):
    if "norm" not in inspect.signature(function).parameters:
        pytest.skip("has one norm")
    labels = model(images).argmax(1)
    for norm, names in NORMS.items():
        if function is attacks.alma and norm == math.inf:
            continue
        expected = measured(function, labels, norm=norm)
        for name in names[:2] if function is boundary.distance else names:
            assert torch.equal(measured(function, labels, norm=name), expected), name


@pytest.mark.messages
def test_one_target_and_one_measure_do(model, images):
    targets = torch.full((5,), 2)
    one = attacks.fgsm(model, images, 0, targets=2, radius=0.1)
    each = attacks.fgsm(
        model, images, torch.zeros(5, dtype=torch.int64), targets=targets, radius=0.1
    )
    assert torch.equal(one.points, each.points)


@pytest.mark.slow
def test_one_measure_and_one_norm_do_for_an_audit(settled):
    linear, points = settled(nn.Linear(3, 3)), torch.full((2, 3), 0.5)
    labels = linear(points).argmax(1).tolist()
    options = {"measures": "distance", "norms": "Linf", "effort": "quick"}
    audit = levelset.audit(linear, points, labels, **options)
    assert audit.norms == (math.inf,)
    assert torch.equal(audit.distance("linf"), audit.distance(math.inf))
