"""Planes through inputs of an audit, and the singular values of the boundary near them."""

import re

import pytest
import torch
from torch import nn

from levelset import Classifier
from levelset.auditing import Audit
from levelset.cli import _planes


@pytest.fixture
def model(settled):
    return Classifier(settled(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), 1))


def audit_of(model, points, witnesses=None):
    with torch.no_grad():
        prediction = model(points).argmax(1)
    columns = {"index": torch.arange(len(points)), "label": prediction, "prediction": prediction}
    far = {} if witnesses is None else {2.0: witnesses}
    return Audit(points, columns, far, tuple(far), ("a", "b", "c"))


def planes(model, audit, indices):
    generator = torch.Generator().manual_seed(0)
    return _planes.planes_of(model, audit, indices, batch_size=None, generator=generator)


def test_the_plane_goes_through_the_witness_of_the_audit(model, monkeypatch):
    points = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        classes = model(points).argmax(1)
        others = torch.rand(2000, 6, generator=torch.Generator().manual_seed(1))
        witness = others[(model(others).argmax(1) != classes[1]).nonzero()[0]]
    audit = audit_of(model, points, torch.cat([points[:1], witness]))
    plane, near = planes(model, audit, [1])
    length = float((witness - points[1]).norm())
    assert f"({length:.4g} away, to the right)" in plane.text
    assert "Proven complete" in plane.content.markup
    assert f"labelled {audit.classes[int(classes[1])]}" in plane.content.markup
    assert near.title == "Singular values near input 1"
    samples, spread = re.match(r"(\d+) points .* cloud, (\S+) in each", near.text).groups()
    assert int(samples) > 300
    assert float(spread) == pytest.approx(0.1 * length / 6**0.5, rel=1e-2)
    # What misses the boundary, or costs more than a page is worth, is left out.
    monkeypatch.setattr(_planes, "SECONDS", 0.0)
    assert [one.title for one in planes(model, audit, [1])] == ["A plane through input 1"]


def test_an_input_without_another_class_says_so():
    constant = nn.Linear(6, 2)
    constant.weight.data.zero_()
    constant.bias.data = torch.tensor([2.0, -1.0])
    points = torch.rand(1, 6)
    (section,) = planes(Classifier(constant), audit_of(constant, points), [0])
    assert section.title == "A plane through input 0"
    assert "no point of another class was found near input 0" in section.text
    assert section.content is None
