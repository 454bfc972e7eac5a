import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from levelset._display.palette import model_colours
from levelset.auditing._result import Audit
from levelset.report import _figures

Make = Callable[..., Audit]


def test_robustness_draws_the_curve_of_each_audit_over_one_range(make_audit: Make) -> None:
    audits = [make_audit(name="a"), make_audit(name="b", scale=2.0, seed=1)]
    figure = _figures.robustness(audits, 2.0)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [line.line.color for line in lines] == model_colours(2)
    for audit, line in zip(audits, lines, strict=True):
        radius = torch.tensor(line.x, dtype=torch.float64)
        curve = audit.robustness(2.0, radius)
        np.testing.assert_allclose(line.y, curve.accuracy)
        np.testing.assert_allclose(
            np.array(line.customdata), torch.stack([curve.low, curve.high], 1)
        )
    top = max(float(a.distance(2.0)[a.distance(2.0).isfinite()].max()) for a in audits)
    assert lines[0].x[-1] == lines[1].x[-1] == pytest.approx(top)
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 2
    np.testing.assert_allclose(bands[0].x, [*lines[0].x, *lines[0].x[::-1]])


def test_a_model_keeps_its_colour_where_another_lacks_the_norm(make_audit: Make) -> None:
    audits = [make_audit(name="a", norms=(2.0,)), make_audit(name="b")]
    figure = _figures.robustness(audits, math.inf)
    assert [trace.line.color for trace in figure.data if trace.mode == "lines"] == model_colours(2)[
        1:
    ]


def test_histograms_count_each_right_input_with_a_witness_once(make_audit: Make) -> None:
    audits = [make_audit(n=50, wrong=4, missed=3), make_audit(n=50, wrong=1, missed=0, seed=1)]
    figure = _figures.distances(audits, math.inf)
    assert [sum(trace.y[:-1]) for trace in figure.data] == [43, 49]
    for audit, trace in zip(audits, figure.data, strict=True):
        distance = audit.distance(math.inf)[audit.columns["correct"]].double()
        below = int((distance < trace.x[10]).sum())
        assert sum(trace.y[:10]) == below


def test_scatter_has_a_dot_an_input_and_tells_its_row(make_audit: Make) -> None:
    audit = make_audit(n=40, wrong=3, missed=2)
    figure = _figures.scatter(audit, 2.0)
    *traces, pin = figure.data
    assert len(pin.x) == 0
    assert [trace.name for trace in traces] == ["c0", "c1", "c2"]
    rows = np.concatenate([trace.customdata for trace in traces])
    drawn = audit.distance(2.0).isfinite()
    assert sorted(rows.tolist()) == drawn.nonzero().flatten().tolist()
    for i, trace in enumerate(traces):
        chosen = torch.tensor(np.array(trace.customdata)).long()
        np.testing.assert_array_equal(trace.x, audit.columns["margin"][chosen])
        np.testing.assert_array_equal(trace.y, audit.distance(2.0)[chosen])
        assert (audit.columns["prediction"][chosen] == i).all()
        opened = ["open" in symbol for symbol in trace.marker.symbol]
        assert opened == (~audit.columns["correct"][chosen]).tolist()
        assert not opened[0]


def test_many_points_are_drawn_by_webgl_and_many_classes_share_a_legend(make_audit: Make) -> None:
    figure = _figures.scatter(make_audit(n=4000, shape=(2,), k=50), 2.0)
    assert {trace.type for trace in figure.data} == {"scattergl"}
    *traces, _ = figure.data
    assert len(traces) == 21
    assert traces[-1].name == "other classes"
    assert sum(len(trace.x) for trace in traces) == 3999


def test_borders_hold_the_counts_and_leave_zeros_empty(make_audit: Make) -> None:
    audit = make_audit(n=40)
    (trace,) = _figures.borders(audit, 2.0).data
    counts = audit.borders(2.0)
    for i in range(3):
        for j in range(3):
            assert trace.z[i][j] == (int(counts[i, j]) or None)
            assert list(trace.customdata[i][j]) == [i, j]


def test_of_many_classes_the_busiest_are_drawn(make_audit: Make) -> None:
    audit = make_audit(n=90, k=100)
    figure = _figures.borders(audit, 2.0)
    (trace,) = figure.data
    assert len(trace.z) == _figures.MATRIX_CLASSES
    places = [row[0][0] for row in trace.customdata]
    counts = audit.borders(2.0)
    parts = counts.sum(0) + counts.sum(1)
    left = [i for i in range(100) if i not in places]
    assert int(parts[left].max()) <= int(parts[places].min())
    assert trace.texttemplate is None


def test_long_names_are_cut_and_their_markup_is_text(make_audit: Make) -> None:
    audit = make_audit(classes=("<b>x</b>", "a name that goes on and on", "short"))
    ticks = _figures.borders(audit, 2.0).layout.xaxis.ticktext
    assert ticks == ("&lt;b&gt;x&lt;/b&gt;", "a name that goes …", "short")


def test_ramp_starts_at_zero(make_audit: Make) -> None:
    audit = make_audit(n=30)
    (trace,) = _figures.borders(audit, 2.0).data
    assert (trace.zmin, trace.zmax) == (0, int(audit.borders(2.0).max()))


@pytest.mark.parametrize(("n", "tick"), [(6, 1), (300, None)])
def test_the_scale_of_the_map_counts_whole_inputs(
    make_audit: Make, n: int, tick: int | None
) -> None:
    (cells,) = _figures.borders(make_audit(n=n), 2.0).data
    assert cells.colorbar.dtick == tick
