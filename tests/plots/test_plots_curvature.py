import math

import pytest
import torch

from levelset import plots
from levelset.boundary import cross_section, curvature
from levelset.boundary.detect import Roc
from levelset.errors import ParameterError
from levelset.shapes import Sphere, Torus


def test_profiles_and_means_show_the_numbers():
    sphere = curvature(Sphere(radius=0.5), 0.5 * torch.eye(3))
    torus = curvature(Torus(2.0, 0.5), torch.tensor([[2.5, 0.0, 0.0]]))
    ax = plots.curvature({"sphere": sphere, "torus": torus})
    assert ax.lines[0].get_ydata() == pytest.approx([2.0, 2.0])
    assert ax.lines[1].get_ydata() == pytest.approx([2.0, 0.4])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sphere", "torus"]
    bars = plots.mean_curvatures(sphere, bins=4).patches
    assert sum(bar.get_height() for bar in bars) == 3
    for draw in (plots.curvature, plots.mean_curvatures):
        with pytest.raises(ParameterError, match="must hold at least one point, got none"):
            draw(sphere[:0])


def test_a_cross_section_shows_the_three_points_and_the_boundary():
    found = cross_section(
        Sphere(), torch.tensor([[0.2, 0.3, 0.0]]), torch.tensor([[2.0, 0.1, 0.5]])
    )
    ax = plots.cross_section(found)
    assert [text.get_text() for text in ax.texts] == ["x", "y", "z"]
    assert ax.lines[2].get_xydata().tolist() == [[0.0, 0.0]]


def test_curves_and_ranks():
    natural = torch.rand(9, generator=torch.Generator().manual_seed(0))
    roc = Roc.of(natural, natural + 0.3, generator=torch.Generator().manual_seed(0))
    ax = plots.roc(roc)
    assert ax.lines[0].get_ydata() == pytest.approx(roc.hits.numpy())
    assert f"{roc.area:.3f}" in ax.get_title()
    bars = plots.ranks(torch.tensor([0, 0, 2, 0])).patches
    assert [bar.get_height() for bar in bars] == [0.75, 0.0, 0.25]
    with pytest.raises(ParameterError, match="must hold at least one input"):
        plots.ranks(torch.zeros(0, dtype=torch.int64))


def test_ends_are_parted_bins_shared_and_nothing_is_told_in_words():
    few = curvature(Sphere(), torch.eye(9), count=2, ends="both")
    ax = plots.curvature(few, ends="both")
    assert ax.lines[0].get_ydata() == pytest.approx([1.0, 1.0, math.nan, 1.0, 1.0], nan_ok=True)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "7", "8"]
    assert "1 / unit of the inputs" in ax.get_ylabel()
    with pytest.raises(ParameterError, match="must hold all 8 principal curvatures, got 4"):
        plots.curvature(few)
    small, large = (curvature(Sphere(radius=r), r * torch.eye(3)) for r in (1.0, 4.0))
    bars = plots.mean_curvatures({"small": small, "large": large}, bins=3).patches
    assert [bar.get_x() for bar in bars] == pytest.approx([0.25, 0.5, 0.75] * 2)
    assert [bar.get_height() for bar in bars] == [0.0, 0.0, 3.0, 3.0, 0.0, 0.0]
    small.principal.fill_(math.nan)
    small.mean.fill_(math.nan)
    for draw, words in (
        (plots.curvature, "no point has principal curvatures"),
        (plots.mean_curvatures, "no point has a mean curvature"),
    ):
        ax = draw(small)
        assert [text.get_text() for text in ax.texts] == [words]
        assert not len(ax.get_xticks())
