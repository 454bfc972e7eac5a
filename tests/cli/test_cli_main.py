"""The command line, through its `main` and, where signals matter, as a process."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

import levelset
from levelset.cli import main
from levelset.datasets import read_images
from levelset.report._about import _date

AUDIT = ["audit", "--model", "digits", "--data", "digits", "--effort", "quick"]


def summary_of(text: str) -> dict[str, object]:
    return json.loads(text)


def test_audit_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main([*AUDIT, "--limit", "12", "--out", str(out), "--json"]) == 0
    printed = summary_of(capsys.readouterr().out)
    assert printed["points"] == 12
    assert printed["missed_2"] == 0
    assert {p.name for p in out.iterdir()} == {
        "manifest.json",
        "measurements",
        "report.html",
        "summary.json",
        "witnesses",
    }
    table = pq.read_table(out / "measurements").to_pydict()
    assert len(table["index"]) == 12
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "digits on digits" in page
    assert 'id="about-this-run"' in page
    assert f"levelset {levelset.__version__}" in page


def test_norms_and_seed_are_recorded(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*AUDIT, "--limit", "3", "--norms", "inf", "--seed", "7", "--out", str(out)]
    assert main(words) == 0
    options = json.loads((out / "manifest.json").read_text())["options"]
    assert options["norms"] == ["inf"]
    assert options["seed"] == 7
    assert "distance_2" not in pq.read_schema(out / "measurements" / "part-00000.parquet").names


def test_the_manifest_says_what_was_run_and_when(tmp_path: Path) -> None:
    out = tmp_path / "a run"
    words = [*AUDIT, "--limit", "3", "--norms", "Linf", "l2", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    path = out / "manifest.json"
    content = json.loads(path.read_text())
    assert content["command"] == (
        f"levelset audit --model digits --data digits --out '{out}' --limit 3 --norms inf 2 "
        "--effort quick"
    )
    assert content["options"]["effort"] == "quick"
    assert datetime.fromisoformat(content["date"]) <= datetime.now(UTC)
    assert content["threads"] >= 1
    assert {"levelset", "torch", "python"} <= set(content)
    assert main([*words, "--resume"]) == 0
    assert json.loads(path.read_text()) == content
    assert main(shlex.split(content["command"])[1:]) == 1  # it is there already


def test_errors_are_one_message_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", "--model", "digits", "--data", str(tmp_path / "nowhere"), "--out", "x"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("levelset: ")
    assert "nowhere" in said
    assert "Traceback" not in said


def test_usage_errors_exit_with_two() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "--no-such-option"])
    assert stopped.value.code == 2


def test_train_then_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, out = tmp_path / "net", tmp_path / "run"
    words = ["train", "--data", "digits", "--network", "digits", "--epochs", "2", "--json"]
    assert main([*words, "--out", str(trained)]) == 0
    assert summary_of(capsys.readouterr().out)["epochs"] == 2
    weights = str(trained / "weights.safetensors")
    assert main([*AUDIT, "--weights", weights, "--limit", "4", "--out", str(out)]) == 0


@pytest.mark.slow
def test_train_takes_losses_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", "digits", "--network", "digits", "--epochs", "1", "--json"]
    words += ["--limit", "200", "--out", str(tmp_path / "net")]
    assert main([*words, "--loss", "robust-distance(radius=0.1, adversarial=1)"]) == 0
    assert summary_of(capsys.readouterr().out)["epochs"] == 1
    assert main([*words, "--loss", "trades(radius=0.1)", "--resume"]) == 1
    assert "loss" in capsys.readouterr().err
    assert main([*words, "--loss", "trades"]) == 1
    assert "trades needs `radius`" in capsys.readouterr().err


def test_an_unknown_device_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*AUDIT, "--device", "cuda:7", "--out", str(tmp_path / "run")]) == 1
    assert "--device cuda:7 cannot be used" in capsys.readouterr().err


def page_of(run: Path) -> str:
    """Return the page of a run without where and when that was."""
    date = json.loads((run / "manifest.json").read_text())["date"]
    text = (run / "report.html").read_text(encoding="utf-8")
    return text.replace(str(run), "RUN").replace(_date(date), "DATE")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_audit_resumes_to_the_same_rows(tmp_path: Path, how: signal.Signals) -> None:
    words = [sys.executable, "-m", "levelset", *AUDIT, "--limit", "500", "--threads", "1"]
    script = (
        "import sys, levelset._tools.engines._pieces as p; p._PART_ELEMENTS = 64 * 20;"
        "from levelset.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", script, *words[3:]]
    run, whole = tmp_path / "run", tmp_path / "whole"
    subprocess.run([*words, "--out", str(whole)], check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(
        [*words, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    parts = run / "measurements"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("part-*.parquet"))) < 2:  # of 25: time to be killed in
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "--resume goes on" in said
        assert "Traceback" not in said
    assert not (run / "summary.json").exists()
    subprocess.run([*words, "--out", str(run), "--resume"], check=True, capture_output=True)
    assert pq.read_table(parts).equals(pq.read_table(whole / "measurements"))
    assert (run / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    assert page_of(run) == page_of(whole)


@pytest.mark.slow
def test_the_demo_pushes_the_boundary_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), "--limit", "200", "--json"]) == 0
    found = summary_of(capsys.readouterr().out)
    plain, pushed = (
        found["cross-entropy: distance_2_median"],
        found["input margin: distance_2_median"],
    )
    assert float(str(pushed)) > 1.15 * float(str(plain))
    assert float(str(found["cross-entropy: accuracy"])) >= 0.975
    assert float(str(found["input margin: accuracy"])) >= 0.965
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "cross-entropy" in page
    assert "input margin" in page
    assert found["knot: watertight"] is True
    assert (found["knot: components"], found["knot: genus"]) == (1, 1)
    assert "A simulated scan" in (tmp_path / "demo" / "scan.html").read_text(encoding="utf-8")
    assert (tmp_path / "demo" / "knot.ply").exists()
    # Again into the same folder: the earlier demo is replaced.
    assert main(["demo", "--out", str(tmp_path / "demo"), "--limit", "5", "--json"]) == 0


def test_audit_of_persistence_shows_classes_around_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["audit", "--model", "digits", "--data", "digits", "--limit", "3", "--out", str(out)]
    assert main([*words, "--measure", "persistence", "--frequencies", "1", "--json"]) == 0
    assert summary_of(capsys.readouterr().out)["sigma_star_found"] == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Classes around input 1" in page
    assert "Noise by predicted class" in page
    again = [*words[:-1], str(tmp_path / "other"), "--frequencies", "3", "--effort", "quick"]
    assert main(again) == 1
    assert "--frequencies must lie in 0 to 2, got 3" in capsys.readouterr().err
    again[-4] = "--section"
    assert main(again) == 1
    assert "--section must lie in 0 to 2, got 3" in capsys.readouterr().err


def test_audit_of_distance_and_persistence_sets_natural_against_adversarial(tmp_path: Path) -> None:
    words = [*AUDIT, "--limit", "3", "--norms", "2", "--measure", "distance", "persistence"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Natural against adversarial" in page
    table = pq.read_table(tmp_path / "run" / "measurements").to_pydict()
    assert all(sigma > 0 for sigma in table["sigma_star_adversarial"])


def test_audit_of_curvature_takes_the_smoothing_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["audit", "--model", "digits", "--data", "digits", "--limit", "3", "--out", str(out)]
    words += ["--measure", "curvature", "--json"]
    assert main([*words, "--smoothing", "gaussian:0.2"]) == 0
    printed = summary_of(capsys.readouterr().out)
    assert printed["curvature_found"] == 3
    assert printed["smoothing"] == "GaussianSmoothing(sigma=0.2, draws=100)"
    assert json.loads((out / "summary.json").read_text())["curvature_mean_median"] is not None
    assert "noise of standard deviation 0.2" in (out / "report.html").read_text(encoding="utf-8")
    table = pq.read_table(out / "measurements").to_pydict()
    assert len(table["curvature_principal"][0]) == 63
    assert main([*words, "--resume"]) == 1
    said = capsys.readouterr().err
    assert "smoothing was GaussianSmoothing(sigma=0.2, draws=100), is SoftplusSurrogate" in said
    for wrong in ("softplus", "softplus:x", "softplus:-1", "sharply:5"):
        assert main([*words, "--smoothing", wrong]) == 1
        assert f"such as softplus:5, got '{wrong}'" in capsys.readouterr().err


def test_data_without_the_last_classes_is_audited(tmp_path: Path) -> None:
    digits = read_images("digits", limit=40)
    kept = digits[digits.labels < 7][:4]
    file = tmp_path / "some.npz"
    np.savez(file, images=kept.points.numpy(), labels=kept.labels.numpy())
    words = ["audit", "--model", "digits", "--data", str(file), "--measure", "curvature"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    options = json.loads((tmp_path / "run" / "manifest.json").read_text())["options"]
    assert options["classes"] == list("0123456789")


@pytest.mark.slow
def test_an_audit_goes_to_an_address(capsys):
    words = "audit --model digits --data digits --limit 4 --effort quick --norms 2 --json"
    assert main([*words.split(), "--out", "memory://cli/run"]) == 0
    system = fsspec.filesystem("memory")
    assert json.loads(capsys.readouterr().out)["report"] == "memory://cli/run/report.html"
    page = system.cat_file("/cli/run/report.html").decode()
    assert "--out memory://cli/run" in page
    assert json.loads(system.cat_file("/cli/run/manifest.json"))["command"] in page
    assert main([*words.split(), "--out", "memory://cli/run", "--resume"]) == 0
    system.rm("/cli", recursive=True)
