"""A recorded training from the command line, and the page on a few of its predictions."""

import json

import pytest

from levelset.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "recorded"
    words = "train --data digits --network fc(64,10) --record --epochs 1 --limit 100 --threads 1"
    assert main([*words.split(), "--out", str(folder), "--optimizer", "sgd", "--json"]) == 0
    return folder


def test_a_recorded_run_is_explained_on_a_page(run, tmp_path, capsys):
    page = tmp_path / "page.html"
    words = ["explain", "--run", str(run), "--data", "digits", "--index", "3", "7", "--json"]
    assert main([*words, "--out", str(page), "--top", "2", "--suspects", "--threads", "1"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["points"] == 2
    assert summary["identity_error"] < 1e-5
    text = page.read_text()
    assert 'id="input-3"' in text
    assert 'id="input-7"' in text
    assert "Suspect labels" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--index", "500"], "--index must lie in 0 to 499"),
        (["--index", "-1"], "--index must lie in 0 to 499"),
    ],
)
def test_inputs_that_are_not_there(run, tmp_path, capsys, words, message):
    options = ["--run", str(run), "--data", "digits", "--out", str(tmp_path / "page.html")]
    assert main(["explain", *options, *words]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_without_a_recording(tmp_path, capsys):
    options = ["--run", str(tmp_path), "--data", "digits", "--out", str(tmp_path / "page.html")]
    assert main(["explain", *options, "--index", "0"]) == 1
    assert "holds no recorded training. Make one with `levelset train" in capsys.readouterr().err


def test_other_losses_are_not_recorded(tmp_path, capsys):
    words = "train --data digits --network digits --record --loss hinge --limit 20 --out"
    assert main([*words.split(), str(tmp_path / "run")]) == 1
    assert "--record keeps the path of plain training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--clip-norm", "1.0"], "--clip-norm"),
        (["--precision", "bfloat16", "--tensorboard"], "--precision, --tensorboard"),
        (["--statistics", "batch"], "--statistics"),
    ],
)
def test_what_a_recording_does_not_do_is_refused(tmp_path, capsys, words, named):
    options = ["--data", "digits", "--network", "fc(64, 10)", "--record", "--limit", "20"]
    with pytest.raises(SystemExit, match="2"):
        main(["train", *options, *words, "--out", str(tmp_path / "run")])
    assert f"--record does not go with {named}:" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
