"""Sections by sampling: against the network itself and against exact sections."""

import pytest
import torch
from torch import nn

from levelset.boundary import exact_section, section
from levelset.errors import ParameterError

X, Y = torch.eye(2, dtype=torch.float64)
ZERO = torch.zeros(2, dtype=torch.float64)


def network(settled, act):
    return settled(nn.Sequential(nn.Linear(2, 20), act, nn.Linear(20, 4)), 3, torch.float64)


def test_classes_and_margins_are_those_of_the_model(settled):
    model = network(settled, nn.Tanh())
    found = section(model, ZERO, X, 2 * Y, extent=((-1.0, 1.0), (0.0, 3.0)), resolution=20)
    with torch.no_grad():
        places = torch.stack(torch.meshgrid(found.x, 2 * found.y, indexing="xy"), 2)
        top = model(places).topk(2, dim=2)
    assert torch.equal(found.classes, top.indices[..., 0])
    torch.testing.assert_close(found.margins, top.values[..., 0] - top.values[..., 1])
    assert float(found.x[0]) == pytest.approx(-0.95)
    assert float(found.y[-1]) == pytest.approx(3.0 - 3.0 / 40)
    assert float(found.class_areas.sum()) == pytest.approx(6.0)
    assert found.summary()["resolution"] == 20


def test_pixels_are_those_of_the_exact_section(settled):
    model = network(settled, nn.ReLU())
    exact = exact_section(model, ZERO, X, Y, extent=2.0)
    sampled = section(model, ZERO, X, Y, extent=2.0, resolution=150)
    assert torch.equal(exact.raster(150), sampled.classes)
    assert float((exact.class_areas - sampled.class_areas).abs().max()) < 0.1
    assert len(exact.class_areas) == 4


def test_bad_input(settled):
    model = network(settled, nn.ReLU())
    with pytest.raises(ParameterError, match="must span a plane"):
        section(model, ZERO, X, -X, extent=1.0)
    with pytest.raises(ParameterError, match="`resolution` must be an integer of at least 1"):
        section(model, ZERO, X, Y, extent=1.0, resolution=0)


def test_progress_counts_pixels(settled):
    seen = []
    model = network(settled, nn.ReLU())
    section(model, ZERO, X, Y, extent=1.0, resolution=70, progress=lambda d, t: seen.append((d, t)))
    assert seen == [(4096, 4900), (4900, 4900)]
