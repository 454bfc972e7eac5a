"""Axes: the caller's if given, else new ones; matplotlib asked for by name where it is missing."""

import sys

import pytest
from matplotlib.figure import Figure

from levelset.errors import MissingExtraError
from levelset.plots._axes import axes_or_new, matplotlib


def test_given_axes_are_used() -> None:
    given = Figure().subplots()
    assert axes_or_new(given) is given


def test_new_axes_belong_to_no_window() -> None:
    assert axes_or_new(None).figure.canvas.manager is None


def test_a_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'levelset\[plot\]'"):
        matplotlib("matplotlib.figure")
