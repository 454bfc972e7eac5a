import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest

from levelset.report._figures import blank, borders, robustness, scatter
from levelset.report._render import described, figure_html


def test_a_line_is_described_by_its_name_and_ranges():
    figure = blank("Radius", "Accuracy")
    figure.add_scatter(x=[0, 1, 2], y=[0.9, 0.5, None], name="a &lt;b&gt;", mode="lines")
    assert described(figure) == (
        "a <b>: 2 points, Radius 0 to 1, Accuracy 0.5 to 0.9. Arrow keys move from point to point."
    )
    figure.update_yaxes(tickformat=".0%")
    assert "Accuracy 50 % to 90 %" in described(figure)


def test_figures_of_an_audit_are_described(make_audit):
    audit = make_audit(n=40, wrong=3, missed=0)
    assert "model: 101 points" in described(robustness([audit], 2.0))
    clouds = described(scatter(audit, 2.0))
    counts = [int(n) for n in re.findall(r"(\d+) points?", clouds)]
    assert sum(counts) == 40
    counted = audit.borders(2.0)
    assert "3 rows (Predicted class) by 3 columns (Class of the nearest witness)" in described(
        borders(audit, 2.0)
    )
    i, j = divmod(int(counted.argmax()), 3)
    assert f"Most: c{i} → c{j}, {int(counted.max())}." in described(borders(audit, 2.0))


def test_scenes_say_how_they_turn():
    figure = go.Figure(go.Scatter3d(x=[0], y=[0], z=[0]))
    assert described(figure) == "A scene in space. Arrow keys turn it, plus and minus zoom."


@pytest.mark.parametrize(
    "trace",
    [
        go.Pie(values=[1, 2]), go.Bar(x=["a", "b"], y=[1, 2]), go.Histogram(x=[1, 2]),
        go.Scatter(x=["2020-01-01"], y=[1]), go.Scatter(y=[1, 2]), go.Heatmap(z=[[1, None]]),
        go.Heatmap(), go.Box(y=[1]), go.Scatter(x=np.zeros(2), y=np.full(2, np.nan)),
    ],
)  # fmt: skip
def test_any_figure_of_plotly_has_a_fragment(trace):
    fragment = figure_html(go.Figure(trace), 'a "label" & <more>').markup
    assert 'aria-label="a &#34;label&#34; &amp; &lt;more&gt;"' in fragment
    assert json.loads(re.search(r"<script[^>]*>(.*?)</script>", fragment, re.DOTALL)[1])["data"]


def test_a_name_with_markup_is_text_in_the_description(make_audit):
    audit = make_audit(name='"><img src=x onerror=alert(1)>')
    fragment = figure_html(robustness([audit], 2.0), "label").markup
    assert "<img" not in fragment
    assert (
        '"><' not in fragment.split("<script")[0].split("aria-description=")[1].split(" style")[0]
    )
