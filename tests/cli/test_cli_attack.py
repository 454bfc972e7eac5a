"""`levelset attack`: what is written holds what is said."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from levelset import attacks
from levelset.attacks import Attack, RandomDirections
from levelset.cli import main
from levelset.cli._attack import Method
from levelset.datasets import load_model

WORDS = ["attack", "--model", "digits", "--data", "digits", "--limit", "20", "--json"]


def test_every_attack_is_a_method() -> None:
    functions = {name: getattr(attacks, name) for name in attacks.__all__ if name.islower()}
    returned = {name: get_type_hints(function)["return"] for name, function in functions.items()}
    expected = {name for name, kind in returned.items() if kind in (Attack, RandomDirections)}
    assert set(get_args(Method)) == expected | {"ensemble"}


@pytest.mark.parametrize(
    "method",
    [["pgd", "--radius", "0.2", "--steps", "10"], ["direct_boundary", "--norm", "2"]],
    ids=lambda words: words[0],
)
def test_inputs_and_picture_are_written(
    method: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folder" / "found.npz"
    assert main([*WORDS, "--method", *method, "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with np.load(out, allow_pickle=False) as held:
        inputs, points, success = held["inputs"], held["points"], held["success"]
        labels = held["labels"]
    assert said["success"] == int(success.sum()) > 0
    if "--radius" in method:
        assert np.abs(points - inputs).max() <= 0.2 + 1e-6
    assert points.min() >= 0
    assert points.max() <= 1
    answers = load_model("digits")(torch.from_numpy(points)).argmax(1).numpy()
    assert (answers[success] != labels[success]).all()


def test_a_target_is_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.npz"
    words = [*WORDS, "--method", "igsm", "--radius", "0.5", "--target", "3", "--out", str(out)]
    assert main(words) == 0
    with np.load(out, allow_pickle=False) as held:
        assert (held["labels"] != 3).all()
        assert held["success"].sum() > 0


def test_options_a_method_does_not_take_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "found.npz")
    assert main([*WORDS, "--method", "deepfool", "--restarts", "2", "--out", out]) == 1
    assert "deepfool takes no --restarts" in capsys.readouterr().err
    assert main([*WORDS, "--method", "fgsm", "--out", out]) == 1
    assert "fgsm needs --radius" in capsys.readouterr().err
    assert not Path(out).exists()


def test_the_ensemble_answers_as_an_audit_with_the_same_radius(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "ensemble.npz", tmp_path / "run"
    radius = ["--radius", "26/255", "--effort", "quick", "--seed", "5"]
    assert main([*WORDS, "--method", "ensemble", *radius, "--out", str(out)]) == 0
    attacked = json.loads(capsys.readouterr().out)
    audited = ["audit", *WORDS[1:], "--measure", "robust_accuracy", *radius, "--out", str(run)]
    assert main(audited) == 0
    assert (
        json.loads(capsys.readouterr().out)["robust_accuracy_inf_0.101961"]
        == (attacked["accuracy"])
    )
    assert 0 < attacked["accuracy"] < 1
    with np.load(out, allow_pickle=False) as held:
        success, length = held["success"], np.abs(held["points"] - held["inputs"]).max((1, 2, 3))
        assert success.mean() == pytest.approx(1 - attacked["accuracy"])
        assert (length[success] <= 26 / 255).all()
        assert (length[~success] == 0).all()
        np.testing.assert_allclose(held["distance"][success], length[success])
        assert np.isinf(held["distance"][~success]).all()
    assert "Robust accuracy, L∞ 0.102" in (run / "report.html").read_text("utf-8")


@pytest.mark.parametrize("word", ["8/0", "0", "-0.1", "a lot", "nan", "1/2/3"])
def test_a_radius_is_a_positive_number_or_fraction(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--method", "pgd", f"--radius={word}", "--out", str(tmp_path / "a.npz")]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "--radius must be a positive number, such as 0.3 or 8/255" in said
