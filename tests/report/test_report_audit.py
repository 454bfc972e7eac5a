import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from levelset import report
from levelset.auditing._result import Audit
from levelset.errors import DataError, ParameterError
from levelset.report import Html, Section

Make = Callable[..., Audit]
TITLES = [
    "At a glance",
    "Robustness",
    "Distances",
    "Margin and distance",
    "Borders",
    "Closest inputs",
    "All inputs",
    "How to read this page",
]


def markup(sections: list[Section], title: str) -> str:
    content = {section.title: section.content for section in sections}[title]
    assert isinstance(content, Html)
    return content.markup


def book_of(sections: list[Section]) -> dict[str, Any]:
    found = re.search(r'id="book">(.*?)</script>', markup(sections, "All inputs"), re.DOTALL)
    assert found
    book: dict[str, Any] = json.loads(
        found[1], parse_constant=lambda word: pytest.fail(f"{word} in JSON")
    )
    return book


def test_every_value_of_every_row_is_on_the_page(make_audit: Make) -> None:
    audits = [make_audit(name="a"), make_audit(name="b", seed=1)]
    book = book_of(report.audit(audits))
    assert book["classes"] == ["c0", "c1", "c2"]
    for audit, held in zip(audits, book["audits"], strict=True):
        assert held["name"] == audit.name
        assert held["norms"] == ["2", "inf"]
        assert [column["name"] for column in held["columns"]] == list(audit.columns)
        for column in held["columns"]:
            values = np.frombuffer(base64.b64decode(column["data"]), f"<{column['type']}")
            np.testing.assert_array_equal(values, audit.columns[column["name"]].numpy())


def test_one_audit_and_a_list_of_one_are_the_same(make_audit: Make) -> None:
    alone, listed = report.audit(make_audit()), report.audit([make_audit()])
    assert [section.title for section in alone] == TITLES
    assert alone == listed


def test_headline_is_that_of_the_summary(make_audit: Make) -> None:
    audit = make_audit(n=40, wrong=3)
    sections = report.audit(audit)
    cards = markup(sections, "At a glance")
    assert "92.5\u00a0%" in cards
    assert "37 of 40 inputs classified right" in cards
    median = audit.summary()["distance_2_median"]
    assert f"{median:.3g}" in cards
    assert "<table" not in cards
    assert "half within" in sections[0].text
    assert "3 of 40 inputs are classified wrong" in sections[2].text
    assert "L₂: 36 drawn, 1 without a witness." in sections[2].text


def test_two_audits_are_compared_in_words_with_the_best_marked(make_audit: Make) -> None:
    near = make_audit(name="near", missed=0)
    far = make_audit(name="far", missed=0, wrong=4, scale=2.0)
    sections = report.audit([near, far])
    text = sections[0].text
    assert text.startswith("“far” against “near”: 86.7\u00a0% of the inputs")
    assert "against 93.3\u00a0% (\u22126.7 points)" in text
    ratio = far.summary()["distance_2_median"] / near.summary()["distance_2_median"]
    assert f"{ratio:.2f} times" in text
    table = markup(sections, "At a glance")
    row = re.search(r'<th scope="row">Accuracy</th>(.*?)</tr>', table)
    assert row
    cells = row[1].split("</td>")
    assert "best" in cells[0]
    assert "best" not in cells[1]
    row = re.search(r'<th scope="row">Median distance, L₂</th>(.*?)</tr>', table)
    assert row
    cells = row[1].split("</td>")
    assert "best" not in cells[0]
    assert "best" in cells[1]


def test_equal_values_have_no_best(make_audit: Make) -> None:
    sections = report.audit([make_audit(name="a"), make_audit(name="b")])
    assert 'class="star"' not in markup(sections, "At a glance")


def test_gallery_holds_the_closest_right_inputs_closest_first(make_audit: Make) -> None:
    audit = make_audit(n=60, wrong=5, missed=2)
    gallery = markup(report.audit(audit), "Closest inputs")
    views = gallery.split('class="view"')[1:]
    assert len(views) == 2
    for norm, view in zip(audit.norms, views, strict=True):
        distance = torch.where(audit.columns["correct"], audit.distance(norm), math.inf)
        wanted = distance.argsort(stable=True)[:24].tolist()
        assert [int(row) for row in re.findall(r'<li data-row="(\d+)"', view)] == wanted
        assert view.count("<canvas") == 3 * 24
        first = wanted[0]
        label = int(audit.columns["label"][first])
        assert f"<b>c{label} → c{(label + 1) % 3}</b>" in view
        assert f"{float(distance[first]):.3g}" in view


def test_hostile_names_do_no_harm(make_audit: Make, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    classes = (evil, "<img src=x onerror=alert(2)>", '"&')
    audits = [make_audit(classes=classes, name=evil, seed=seed) for seed in (0, 1)]
    path = tmp_path / "page.html"
    report.write(path, report.audit(audits), title=evil)
    text = path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img" not in text
    scripts = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", text, re.DOTALL)
    book = next(json.loads(script) for script in scripts if script.startswith('{"classes"'))
    assert book["classes"] == list(classes)
    for script in scripts:
        if script.startswith('{"data"'):
            shown = json.dumps(json.loads(script)["data"])
            assert "<img" not in shown


def test_bytes_are_the_same_twice(make_audit: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        report.write(tmp_path / name, report.audit([make_audit(), make_audit(seed=1)]), title="t")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"n": 1, "wrong": 0, "missed": 0},
        {"n": 1, "wrong": 1, "missed": 0},
        {"n": 1, "wrong": 0, "missed": 1},
        {"n": 5, "wrong": 2, "missed": 3},
        {"shape": (6,)},
        {"shape": (4, 4)},
        {"shape": (3, 4, 4)},
        {"k": 2, "norms": (math.inf,)},
        {"k": 1000, "n": 50},
        {"bounds": (-1.0, 2.0)},
        {"norms": (1.0, 2.0, math.inf)},
    ],
)
def test_unusual_audits_give_whole_pages(
    make_audit: Make, options: dict[str, Any], tmp_path: Path
) -> None:
    audits = [make_audit(**options, name="a"), make_audit(**options, name="b", seed=3)]
    for held in (audits, audits[0]):
        sections = report.audit(held)
        assert [section.title for section in sections] == TITLES
        assert not re.search(r"\b(nan|inf)\b", sections[0].text + markup(sections, TITLES[0]))
        book_of(sections)
        report.write(tmp_path / "page.html", sections, title="t")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    own = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    for script in own:
        json.loads(script, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))


def test_vectors_have_no_pictures_and_the_page_says_so(make_audit: Make) -> None:
    sections = report.audit(make_audit(shape=(6,)))
    assert "are no pictures" in sections[6].text
    assert book_of(sections)["pictures"] is None
    assert "<canvas" not in markup(sections, "Closest inputs")


def test_left_out_pictures_are_told(make_audit: Make) -> None:
    audit = make_audit(n=200, shape=(3, 64, 64), norms=(2.0, math.inf))
    sections = report.audit(audit)
    kept = 6_000_000 // (3 * 3 * 64 * 64)
    assert f"pictures of {kept} of the 200 inputs" in sections[6].text
    assert markup(sections, "Closest inputs").count("<canvas") == 2 * 24 * 3


def test_norms_of_one_audit_alone_are_shown_without_comparison(make_audit: Make) -> None:
    both, one = make_audit(name="a"), make_audit(name="b", norms=(2.0,), seed=1)
    sections = report.audit([both, one])
    assert markup(sections, "Robustness").count("data-figure") == 2
    assert markup(sections, "Borders").count("data-figure") == 3
    assert "Median distance, L∞" not in markup(sections, "At a glance").split("<table")[1]


def test_unconverged_inputs_are_counted(make_audit: Make) -> None:
    assert "model, L₂: 1; model, L∞: 1" in markup(report.audit(make_audit()), TITLES[-1])


def test_missing_optional_columns_are_fine(make_audit: Make) -> None:
    audit = make_audit()
    kept = {k: v for k, v in audit.columns.items() if not k.startswith(("conv", "iter"))}
    assert "Not converged" not in markup(report.audit(replace(audit, columns=kept)), TITLES[-1])


def test_no_audit_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"`audits` must hold at least one audit, got none"):
        report.audit([])


def test_empty_audit_is_refused(make_audit: Make) -> None:
    with pytest.raises(DataError, match=r"at least one input each, got none in audits\[0\]"):
        report.audit(make_audit(n=0))


def test_audits_of_other_inputs_are_refused(make_audit: Make) -> None:
    with pytest.raises(DataError, match=r"must be of the same inputs, got others in audits\[1\]"):
        report.audit([make_audit(n=30), make_audit(n=31)])
    other = make_audit()
    moved = replace(other, columns={**other.columns, "index": other.columns["index"] + 1})
    with pytest.raises(DataError, match="must be of the same inputs"):
        report.audit([make_audit(), moved])


def test_audits_of_other_classes_are_refused(make_audit: Make) -> None:
    with pytest.raises(DataError, match="must have the same classes in the same order"):
        report.audit([make_audit(), make_audit(classes=("x", "y", "z"))])


def test_ten_thousand_rows_stay_small(make_audit: Make, tmp_path: Path) -> None:
    audit = make_audit(n=10_000, shape=(1, 8, 8), k=10)
    report.write(tmp_path / "page.html", report.audit(audit), title="t")
    assert (tmp_path / "page.html").stat().st_size < 11_000_000
