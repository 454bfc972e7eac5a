"""`levelset compare`: audits and trainings on one page, and what is refused."""

import json
from pathlib import Path

import fsspec
import pytest

from levelset.cli import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = ["--data", "digits", "--seed", "3"]
    train = ["train", *words, "--network", "fc(64, 10)", "--epochs", "2", "--limit", "100"]
    for name in ("plain", "broken"):
        assert main([*train, "--out", str(folder / name)]) == 0
    audit = ["audit", *words, "--effort", "quick", "--norms", "2", "--model", "digits"]
    for name, limit in (("one", "8"), ("two", "8"), ("few", "5")):
        assert main([*audit, "--limit", limit, "--out", str(folder / name)]) == 0
    (folder / "broken" / "log.csv").write_text("a,b\n1,2\n")
    return folder


@pytest.mark.slow
def test_one_page_holds_audits_and_trainings(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    words = ["compare", *(str(runs / name) for name in ("one", "two", "plain")), "--json"]
    assert main([*words, "--out", str(page)]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["one: points"] == numbers["two: points"] == 8
    assert numbers["plain: epochs"] == 2
    text = page.read_text(encoding="utf-8")
    for anchor in ("at-a-glance", "robustness", "trainings", "about-this-run"):
        assert f'id="{anchor}"' in text
    assert "http-equiv" in text
    assert main(["compare", str(runs / "plain"), "--out", str(tmp_path / "b.html")]) == 0
    assert main(["compare", str(runs / "one"), str(runs / "few"), "--out", str(page)]) == 0
    assert "Only a table, no figures: report.audit: `audits` must be of" in capsys.readouterr().err
    assert 'id="side-by-side"' in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_audits_at_addresses_are_compared(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "memory://bucket/compared"
    fsspec.filesystem("memory").put(str(runs / "two"), "/bucket/compared", recursive=True)
    out = str(tmp_path / "page.html")
    assert main(["compare", str(runs / "one"), address, "--json", "--out", out]) == 0
    numbers = json.loads(capsys.readouterr().out)
    of_one = {k.removeprefix("one: "): v for k, v in numbers.items() if k.startswith("one: ")}
    other = {k.removeprefix("compared: "): v for k, v in numbers.items() if "compared: " in k}
    assert of_one == other
    assert other["points"] == 8
    assert main(["compare", address, address + "/", "--out", out]) == 1
    assert f"{address} is given twice" in capsys.readouterr().err
    assert main(["compare", "memory://nowhere", "--out", out]) == 1
    assert "memory://nowhere holds no audit and no training" in capsys.readouterr().err
    assert main(["compare", "none://here", "--out", out]) == 1
    assert "compare: `RUN` must be a folder, or an address that" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("one", "nowhere"), "nowhere is no folder. Give what `levelset audit`"),
        (("one", "."), "holds no audit and no training"),
        (("one", "one"), "one is given twice. Give each run once"),
        (("broken",), "log.csv is no log of a training"),
    ],
)
def test_what_cannot_be_compared_is_named(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: tuple[str, ...],
    message: str,
) -> None:
    paths = [str(runs / name) for name in names]
    assert main(["compare", *paths, "--out", str(tmp_path / "page.html")]) == 1
    assert message in capsys.readouterr().err
