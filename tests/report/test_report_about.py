import json
from pathlib import Path
from typing import Any

import pytest
import torch

from levelset import report
from levelset.auditing import audit
from levelset.errors import ParameterError

MANIFEST = {
    "command": "levelset audit --model digits --out 'a b'",
    "date": "2026-11-28T09:05:00+00:00",
    "levelset": "1.2.3",
    "torch": "2.11.0",
    "threads": 1,
    "options": {"effort": "quick", "norms": ["2", "inf"], "seed": 7, "noise_levels": None},
}


def folder(path: Path, content: Any) -> Path:
    path.mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (path / "manifest.json").write_text(text, encoding="utf-8")
    return path


def rows(section: report.Section, name: str) -> dict[str, str]:
    return dict(zip(section.content["setting"], section.content[name], strict=True))


def test_what_the_manifest_says_stands_on_the_page(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", MANIFEST)
    section = report.about({"mine": run})
    assert section.title == "About this run"
    assert section.text == ""
    known = rows(section, "mine")
    assert known["Command"] == MANIFEST["command"]
    assert known["Date"] == "28 November 2026, 09:05 UTC"
    assert known["PyTorch"] == "2.11.0"
    assert known["Effort"] == "quick"
    assert known["Norms"] == "2, inf"
    assert known["Seed"] == "7"
    assert known["Noise levels"] == "none"
    assert known["Python"] == "not recorded"
    assert report.subtitle(run) == "28 November 2026, 09:05 UTC · effort quick · levelset 1.2.3"


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "a", MANIFEST), folder(tmp_path / "b", {"options": {"extra": 1}})
    section = report.about({"first": one, "second": two})
    assert rows(section, "first")["Extra"] == "not recorded"
    assert rows(section, "second")["Extra"] == "1"
    assert rows(section, "second")["Command"] == "not recorded"


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{", "7", '{"options": []}', '{"date": 3}', "[" * 100_000]
)
def test_a_manifest_that_says_nothing_is_no_error(tmp_path: Path, content: str) -> None:
    run = folder(tmp_path / "run", content)
    section = report.about({"mine": run})
    assert set(rows(section, "mine").values()) <= {"not recorded", "3"}
    report.write(tmp_path / "p.html", [section], title="t", subtitle=report.subtitle(run))


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    assert "“gone” has no readable manifest.json." in report.about({"gone": tmp_path}).text
    assert report.subtitle(tmp_path) == ""


def test_no_run_is_refused() -> None:
    with pytest.raises(ParameterError, match="at least one folder of an audit, got none"):
        report.about({})


def test_long_lists_and_hostile_text_are_fine(tmp_path: Path) -> None:
    content = {"options": {"classes": [f"c{i}" for i in range(1000)], "<b>": "</script><b>x"}}
    run = folder(tmp_path / "run", content)
    assert rows(report.about({"m": run}), "m")["Classes"].endswith("c19 and 980 more")
    report.write(tmp_path / "p.html", [report.about({"m": run})], title="t")
    assert "<b>x" not in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_an_audit_on_disk_says_its_settings_and_versions(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        model.bias.zero_()
    audit(
        model, torch.tensor([[0.9, 0.1]]), torch.tensor([0]), norms=[2.0], effort="quick",
        out=tmp_path / "run", name="mine",
    )  # fmt: skip
    known = rows(report.about({"mine": tmp_path / "run"}), "mine")
    assert known["Effort"] == "quick"
    assert known["PyTorch"] == torch.__version__
    assert known["Measures"] == "distance"
