"""Audits in one table and trainings in one figure: the right numbers under the right names."""

import json
import math
import re

import pytest
import torch

from levelset import report
from levelset.auditing import Audit
from levelset.errors import DataError
from levelset.report._comparison import _round_radii
from levelset.training import Epoch, History


def made(name: str, distances: list[float], correct: list[bool]) -> Audit:
    n = len(distances)
    columns = {
        "index": torch.arange(n),
        "label": torch.zeros(n, dtype=torch.int64),
        "prediction": (~torch.tensor(correct)).long(),
        "correct": torch.tensor(correct),
        "margin": torch.ones(n),
        "distance_2": torch.tensor(distances),
        "nearest_class_2": torch.ones(n, dtype=torch.int64),
    }
    points = torch.zeros(n, 3)
    return Audit(points, columns, {2.0: points + 0.1}, (2.0,), ("a", "b"), name)


def test_the_table_has_the_numbers_of_each_audit() -> None:
    one = made("one", [0.1, 0.15, 0.3, 0.4], [True] * 4)
    other = made("other", [0.0, 0.3, 0.3], [False, True, True])
    section = report.comparison([one, other, one])
    table = section.content
    assert list(table) == ["", "one", "other", "one (2)"]
    cells = {
        key: (a, b) for key, a, b in zip(*(table[k] for k in ("", "one", "other")), strict=True)
    }
    assert cells["Inputs"] == ("4", "3")
    assert cells["Accuracy"] == ("100.0\u00a0%", "66.7\u00a0%")
    assert cells["Distance to the witness, L₂, min"] == ("0.1", "0.3")
    assert cells["Distance to the witness, L₂, median"][1] == "0.3"
    assert cells["Accuracy within 0.2, L₂"] == ("50.0\u00a0%", "66.7\u00a0%")


def test_round_radii() -> None:
    assert _round_radii(0.3) == [0.1, 0.2, 0.3, 0.4]
    assert _round_radii(0.103) == [0.05, 0.1, 0.15]
    assert _round_radii(8.0) == [2.0, 4.0, 6.0, 8.0]
    assert _round_radii(0.0) == []


def test_trainings_are_lines_of_figures() -> None:
    epochs = [
        Epoch(loss=1.0 / k, accuracy=0.5, seconds=1.0, held_out=0.25 * k, converged=math.nan)
        for k in (1, 2, 3)
    ]
    one = History.of(epochs)
    other = History.of([Epoch(loss=2.0, accuracy=0.1, seconds=1.0, converged=0.9, distance=0.2)])
    markup = report.trainings({"<one>": one, "other": other}).content.markup
    figures = [
        json.loads(text)
        for text in re.findall(r"<script[^>]*json[^>]*>(.*?)</script>", markup, re.S)
    ]
    titles = [f["layout"]["yaxis"]["title"]["text"] for f in figures]
    assert titles == [
        "Loss", "Accuracy on the batches", "Accuracy on held-out inputs",
        "Share of samples that converged", "Median distance of a sample",
    ]  # fmt: skip
    loss = figures[0]["data"]
    assert [trace["name"] for trace in loss] == ["&lt;one&gt;", "other"]
    assert loss[0]["y"] == pytest.approx([1.0, 0.5, 1 / 3])
    assert figures[3]["data"][0]["y"] == []
    assert figures[3]["data"][1]["x"] == [1]


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(DataError, match="at least one audit, got none"):
        report.comparison([])
    with pytest.raises(DataError, match="at least one training, got none"):
        report.trainings({})
