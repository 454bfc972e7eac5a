"""Plots of class regions show the numbers of their results."""

import math

import pytest
import torch
from torch import nn

from levelset import plots
from levelset.boundary import (
    connect,
    convexity,
    decision_level,
    dimension,
    dropout_crossings,
    planarity,
    skewness,
)
from levelset.errors import ParameterError
from levelset.shapes import Sphere, Wedge


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def gated(settled):
    return settled(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)), 2)


def test_a_spectrum_shows_its_values_and_what_lies_outside(noise):
    drawn = noise(500, 20)
    drawn[:, 0] *= 5.0
    result = dimension(drawn)
    ax = plots.spectrum({"cloud": result, "again": result})
    assert ax.lines[0].get_ydata().tolist() == result.values.tolist()
    assert ax.lines[1].get_ydata().tolist() == result.values[:1].tolist()
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["cloud: 1 above, 0 below", "again: 1 above, 0 below"]
    with pytest.raises(ParameterError, match="at least one result"):
        plots.spectrum({})


def test_the_simplex_has_its_ties_and_points(gated, noise):
    result = decision_level(gated.double(), noise(30, 3))
    ax = plots.simplex(result)
    assert sum(len(line.get_xdata()) for line in ax.lines[3:]) == 30
    for line in ax.lines[:3]:
        assert float(line.get_xdata()[0]) == float(line.get_ydata()[0]) == 0.0
    line = plots.simplex(result, classes=(0, 2))
    points = torch.tensor(
        [
            [float(x), float(y)]
            for part in line.lines[2:]
            for x, y in zip(*part.get_data(), strict=True)
        ]
    )
    assert torch.allclose(points.sum(1), torch.ones(30), atol=1e-6)
    with pytest.raises(ParameterError, match="two or three different classes"):
        plots.simplex(result, classes=(0, 0))


def test_planarity_is_drawn_in_degrees(noise):
    points = Sphere().project(noise(3, 3))
    ax = plots.planarity(planarity(Sphere(), points, radii=(0.1, 1.0), draws=3, tol=1e-12))
    assert ax.lines[0].get_ydata()[1] == pytest.approx(45.0, abs=1e-6)
    assert ax.lines[-1].get_ydata()[0] == pytest.approx(math.degrees(0.1))


def test_skewness_counts_every_point(noise):
    edge = torch.zeros(4, 3).double()
    result = skewness(Wedge((0.3,), 3), edge, radius=0.1, draws=20, generator=seeded())
    values, _, _ = plots.skewness({"a": result, "b": result}, bins=18).patches[0].get_data()
    assert values.sum() == 4
    assert values.argmax() == int(math.degrees(math.pi / 2 + 0.3) / 10)
    with pytest.raises(ParameterError, match="`bins` must be at least 1"):
        plots.skewness(result, bins=0)


def test_links_and_mixtures_are_counted(gated, noise):
    gated.double()
    points = noise(12, 3)
    link = connect(gated, points, points * 1.01)
    ax = plots.links({"one": link, "two": link})
    heights = [bar.get_height() for bar in ax.containers[0]]
    assert sum(heights) == len(link)
    assert [t.get_text() for t in ax.get_xticklabels()][:2] == ["none", "straight"]
    mixtures = [convexity(gated, points, k=k, draws=50, generator=seeded()) for k in (3, 2)]
    line = plots.convexity(mixtures).lines[0]
    assert line.get_xdata().tolist() == [2, 3]
    assert line.get_ydata().tolist() == [mixtures[1].share, mixtures[0].share]
    with pytest.raises(ParameterError, match="at least one result"):
        plots.convexity([])


def test_crossings_are_drawn_beside_their_gaussian(gated):
    values = dropout_crossings(
        gated, torch.full((3,), -3.0), torch.full((3,), 3.0), draws=40, generator=seeded()
    )
    before = torch.get_rng_state()
    ax = plots.crossings(values, bins=20)
    assert torch.equal(torch.get_rng_state(), before)
    count = int((~values.isnan()).sum())
    assert sum(bar.get_height() for bar in ax.patches) == count
    assert "Gaussian" in ax.get_legend().get_texts()[0].get_text()
