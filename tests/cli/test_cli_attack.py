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
    assert set(get_args(Method)) == expected


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
