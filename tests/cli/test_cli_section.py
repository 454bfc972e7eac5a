"""Planes from the command line, on a page and as a picture."""

import json
import re

import pytest

from levelset.cli import main

NETWORK = """
import torch
from torch import nn

def small():
    torch.set_grad_enabled(True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.{bend}(), nn.Linear(8, 10))
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator)
    return model
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(bend):
        (tmp_path / f"small_{bend.lower()}.py").write_text(NETWORK.format(bend=bend))
        return ["--model", f"small_{bend.lower()}:small", "--data", "digits", "--threads", "1"]

    return write


def run(words, capsys):
    assert main(["section", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_three_inputs_on_a_page(model, tmp_path, capsys):
    page = tmp_path / "page.html"
    summary = run([*model("ReLU"), "--index", "3", "7", "11", "--out", str(page)], capsys)
    assert summary["route"] == "subdivision"
    assert summary["complete"]
    text = page.read_text()
    assert "The plane through input 3, input 7 and input 11." in text
    assert 'id="linear-regions"' in text
    assert "labelled 7" in text
    shares = [float(share) for share in re.findall(r"<td[^>]*>(\d+\.\d\d)\u00a0%</td>", text)]
    assert sum(shares) == pytest.approx(100.0, abs=0.05)


@pytest.mark.parametrize("plane", ["tangent", "principal"])
def test_one_input_in_a_picture(model, tmp_path, capsys, plane):
    picture = tmp_path / "plane.svg"
    words = [*model("ReLU"), "--index", "3", "--plane", plane, "--out", str(picture)]
    summary = run(words, capsys)
    assert summary["classes_seen"] >= 2
    assert summary["picture"] == str(picture)
    text = picture.read_text()
    assert "<!-- input 3 -->" in text
    assert "<!-- witness -->" in text


def test_a_traced_boundary_is_coloured_by_pixels(model, tmp_path, capsys):
    page = tmp_path / "page.html"
    words = ["--index", "3", "7", "11", "--route", "tracing", "--resolution", "20"]
    summary = run([*model("ReLU"), *words, "--out", str(page)], capsys)
    assert summary["route"] == "tracing"
    assert "Areas by pixels" in page.read_text()


def test_a_smooth_model_is_sampled_unless_asked_otherwise(model, tmp_path, capsys):
    words = [*model("Tanh"), "--index", "3", "7", "11", "--out", str(tmp_path / "page.html")]
    assert main(["section", *words, "--resolution", "20", "--json"]) == 0
    answer = capsys.readouterr()
    assert json.loads(answer.out)["route"] == "sampling"
    assert "(Tanh), which is smooth" in re.sub(r"\s+", " ", answer.err)
    assert main(["section", *words, "--route", "tracing"]) == 1
    assert "which is smooth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--index", "3", "4"], "--index must be one input, for the plane through it"),
        (["--index", "3", "3", "3"], "three different ones, got 3 3 3"),
        (["--index", "500"], "--index must lie in 0 to 499"),
        (["--index", "3", "--out", "x.gif"], "must end in .html for a page, or in .svg"),
        (["--index", "3", "--extent", "-1"], "--extent must be a positive number"),
    ],
)
def test_wrong_words(model, tmp_path, capsys, words, message):
    out = [] if "--out" in words else ["--out", str(tmp_path / "page.html")]
    try:
        code = main(["section", *model("ReLU"), *words, *out])
    except SystemExit as stopped:
        code = stopped.code
    assert code in (1, 2)
    assert message in capsys.readouterr().err
