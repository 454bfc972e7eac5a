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
        plots.ranks(torch.zeros(0))
