"""What is not installed is named, with a command that works from a clone too."""

import sys

import pytest

from levelset._tools.extras import check_extras, optional
from levelset.errors import MissingExtraError


def test_a_missing_package_names_its_extra_and_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MissingExtraError,
        match=r"draw: absent is not installed. Run `pip install 'levelset\[plot\]'`, or in a clone "
        r"`pip install '.\[plot\]'`",
    ):
        optional("absent.part", "plot", "draw")
    check_extras("audit", "report", "mesh", "plot")
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"demo: scikit-image is not installed"):
        check_extras("demo", "report", "mesh")


def test_what_is_there_is_returned() -> None:
    assert optional("json.decoder", "plot", "draw").__name__ == "json.decoder"


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("audit --model digits --data digits --out run", "plotly"),
        ("demo --out run", "trimesh"),
        ("attack --model digits --data digits --method pgd --out run.npz", "matplotlib"),
        ("reconstruct scan.ply -o mesh.ply", "skimage"),
        ("reconstruct scan.ply -o mesh.ply --report", "jinja2"),
    ],
)
def test_a_command_says_so_before_it_begins(
    words: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from levelset.cli import main

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("levelset.cli._options.Common.place", lambda self: 1 / 0)  # the work
    assert main(words.split()) == 1
    assert "is not installed. Run `pip install" in capsys.readouterr().err
