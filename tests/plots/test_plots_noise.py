import numpy as np
import pytest
import torch

from levelset import plots
from levelset.boundary import class_frequencies, persistence, persistence_along
from levelset.errors import ParameterError, ShapeError
from levelset.shapes import Orthant


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def measured(scale: float = 1.0, n: int = 8):
    points = scale * (1.0 + torch.rand(n, 3, generator=seeded()))
    return persistence(Orthant(2, 3), points, tolerance=0.1, generator=seeded())


def test_persistence_draws_every_finite_one_over_the_same_bins():
    held = {"natural": measured(2.0), "adversarial": measured(0.5)}
    ax = plots.persistence(held, bins=10)
    filled = [patch for patch in ax.patches if patch.get_fill()]
    for patch, result in zip(filled, held.values(), strict=True):
        values, edges, _ = patch.get_data()
        assert values.sum() == len(result)
        np.testing.assert_array_equal(edges, filled[0].get_data().edges)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(held)
    assert "0.7" in ax.get_xlabel()


def test_one_result_needs_no_legend_and_none_is_refused():
    assert plots.persistence(measured()).get_legend() is None
    with pytest.raises(ParameterError, match="must hold at least one result and `bins` be"):
        plots.persistence({})
    with pytest.raises(ParameterError, match="got 1 and 0"):
        plots.persistence(measured(), bins=0)


def test_class_frequencies_draws_a_line_a_class_that_is_met():
    sigmas = torch.linspace(0.0, 2.0, 6)

    def bands(points):
        return (points[:, 0] > -1).long() + (points[:, 0] > 2).long()

    shares = class_frequencies(bands, torch.zeros(1), sigmas, classes=5, generator=seeded())
    ax = plots.class_frequencies(shares, sigmas, classes=list("abcde"))
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert sorted(lines) == ["a", "b", "c"]
    np.testing.assert_allclose(lines["b"].get_ydata(), shares[:, 1])
    assert lines["b"].get_linewidth() > lines["a"].get_linewidth()
    with pytest.raises(ShapeError, match=r"\(6, 5\), \(5,\) and none"):
        plots.class_frequencies(shares, sigmas[1:])


def test_class_frequencies_of_many_classes_or_one_noise_are_told_apart():
    shares = torch.full((1, 14), 1 / 14, dtype=torch.float64)
    lines = plots.class_frequencies(shares, torch.tensor([0.5])).get_lines()
    assert len({line.get_color() for line in lines}) == 14
    assert all(line.get_marker() == "o" for line in lines)


def test_persistence_along_draws_a_line_a_gamma_and_where_the_class_ends():
    found = persistence_along(
        Orthant(1, 2), torch.ones(2), -torch.ones(2), steps=6, gammas=(0.7, 0.9), tolerance=0.1,
        generator=seeded(),
    )  # fmt: skip
    ax = plots.persistence_along(found)
    lines = ax.get_lines()
    assert [line.get_label() for line in lines[:2]] == ["gamma = 0.7", "gamma = 0.9"]
    np.testing.assert_allclose(lines[0].get_ydata(), found.sigma[:, 0])
    (cut,) = lines[2:]
    assert cut.get_xdata()[0] == pytest.approx(0.5)
