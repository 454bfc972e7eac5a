"""Pictures of planes show what the result holds."""

import numpy as np
import pytest
import torch
from torch import nn

from levelset import plots
from levelset.boundary import exact_section, section


@pytest.fixture
def plane(settled):
    model = settled(nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 3)), 4)
    return model, torch.zeros(2), *torch.eye(2)


def test_regions_and_boundary_are_drawn(plane):
    found = exact_section(*plane, extent=2.0)
    axes = plots.section(found)
    regions, lines = axes.collections
    assert len(regions.get_paths()) == len(found.regions)
    drawn = np.concatenate(lines.get_segments())
    np.testing.assert_allclose(drawn, found.boundary.numpy().reshape(-1, 2))
    assert axes.get_xlim() == (-2.0, 2.0)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [f"class {k}" for k in found.classes.unique().tolist()]


def test_a_traced_boundary_and_a_sampled_plane_are_drawn(plane):
    traced = exact_section(*plane, extent=2.0, route="tracing")
    assert len(plots.section(traced).collections) == 1
    sampled = section(*plane, extent=2.0, resolution=9)
    (image,) = plots.section(sampled).images
    assert image.get_array().shape[:2] == (9, 9)
