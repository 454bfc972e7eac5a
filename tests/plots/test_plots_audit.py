import math
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from levelset import plots
from levelset.auditing._result import Audit
from levelset.errors import MissingExtraError, ParameterError, ShapeError


def make(n: int = 12, shape: tuple[int, ...] = (1, 4, 5), scale: float = 1.0) -> Audit:
    """Row 0 is classified wrong, row 1 has no witness, row i has distance i * scale / 100."""
    places = torch.arange(n)
    distance = places / 100.0 * scale
    points = torch.full((n, *shape), 0.5)
    witness = points + distance.view(-1, *(1,) * len(shape))
    distance[0], distance[1] = 0.0, math.inf
    witness[1] = math.nan
    label = places % 3
    columns = {
        "index": places,
        "label": label,
        "prediction": torch.where(places == 0, 1, label),
        "correct": places > 0,
        "margin": places.float(),
        "distance_inf": distance,
        "nearest_class_inf": torch.where(places == 1, -1, (label + 1) % 3),
    }
    return Audit(points, columns, {math.inf: witness}, (math.inf,), ("a", "b", "c"), f"s{scale:g}")


def test_robustness_draws_the_curve_and_its_band() -> None:
    audit = make()
    ax = plots.robustness(audit)
    (line,) = ax.get_lines()
    curve = audit.robustness(math.inf, torch.tensor(line.get_xdata()))
    assert line.get_xdata()[-1] == pytest.approx(0.11)
    np.testing.assert_array_equal(line.get_xdata(), curve.radius)
    np.testing.assert_array_equal(line.get_ydata(), curve.accuracy)
    (band,) = ax.collections
    extent = band.get_paths()[0].get_extents()
    assert (extent.y0, extent.y1) == pytest.approx(
        (float(curve.low.min()), float(curve.high.max()))
    )
    assert ax.get_legend() is None


def test_several_results_share_axes_in_colours_of_their_own() -> None:
    given = Figure().subplots()
    ax = plots.robustness([make(), make(scale=2.0)], given)
    assert ax is given
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()
    np.testing.assert_array_equal(first.get_xdata(), second.get_xdata())
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["s1", "s2"]


def test_distances_counts_right_inputs_with_a_witness() -> None:
    ax = plots.distances([make(), make(scale=2.0)], bins=11)
    outlines = [patch for patch in ax.patches if not patch.get_fill()]
    counts = [patch.get_data().values for patch in outlines]
    assert [int(values.sum()) for values in counts] == [10, 10]
    assert outlines[0].get_data().edges[-1] == pytest.approx(0.22)
    assert int(counts[0][6:].sum()) == 0


def test_borders_shows_the_counts() -> None:
    audit = make()
    ax = plots.borders(audit)
    (image,) = ax.get_images()
    np.testing.assert_array_equal(image.get_array(), audit.borders(math.inf))
    shown = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    counts = audit.borders(math.inf)
    assert shown == {(i, j): str(int(counts[i, j])) for i, j in counts.nonzero().tolist()}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5)])
def test_witnesses_puts_inputs_above_witnesses_above_differences(shape: tuple[int, ...]) -> None:
    ax = plots.witnesses(make(shape=shape), count=3)
    (image,) = ax.get_images()
    pixels = np.asarray(image.get_array())
    assert pixels.shape == (12, 15, 3)
    np.testing.assert_allclose(pixels[:4], 0.5)
    for place, row in enumerate((2, 3, 4)):
        block = pixels[4:8, 5 * place : 5 * place + 5]
        np.testing.assert_allclose(block, 0.5 + row / 100.0, atol=1e-6)
    red = mpl.colormaps["RdBu_r"](1.0)[:3]
    np.testing.assert_allclose(pixels[8:], np.broadcast_to(red, (4, 15, 3)))
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["c → a\n0.02", "a → b\n0.03", "b → c\n0.04"]


def test_nothing_global_is_touched_and_no_window_opened() -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    audit = make()
    before = audit.points.clone()
    plots.robustness(audit)
    plots.witnesses(audit)
    assert loaded or "matplotlib.pyplot" not in sys.modules
    assert torch.equal(audit.points, before)


def test_no_result_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"plots.robustness: `results` must hold at least one"):
        plots.robustness([])


def test_a_norm_not_measured_is_refused() -> None:
    with pytest.raises(ParameterError, match="`norm` must be one of inf, got 2"):
        plots.distances(make(), norm=2.0)


@pytest.mark.parametrize(
    ("options", "message"), [({"bins": 0}, "`bins` must be at least 1, got 0")]
)
def test_bins_must_be_positive(options: dict[str, int], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        plots.distances(make(), **options)


def test_count_must_be_positive() -> None:
    with pytest.raises(ParameterError, match="`count` must be at least 1, got 0"):
        plots.witnesses(make(), count=0)


def test_vectors_have_no_witness_pictures() -> None:
    with pytest.raises(ShapeError, match=r"the inputs must be pictures.*got \(5, 4\)"):
        plots.witnesses(make(shape=(4,)), count=5)


def test_an_audit_without_witnesses_is_refused() -> None:
    audit = make()
    wrong = replace(audit, columns={**audit.columns, "correct": torch.zeros(12, dtype=torch.bool)})
    with pytest.raises(ParameterError, match="at least one input that is classified right"):
        plots.witnesses(wrong)


def test_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib is not installed.*levelset\[plot\]"):
        plots.robustness(make())
