import dataclasses
from pathlib import Path

import pytest

from levelset.cli import _reconstruct
from levelset.errors import ParameterError
from levelset.reconstruction import Fast, Paper, _settings, _surface


def test_the_paper_is_as_published():
    paper = Paper()
    assert (paper.learning_rate, paper.sigma, paper.iterations, paper.power) == (1e-3, 0.1, 10, 1.0)
    assert [paper.weight_at(e) for e in (0, 500, 1000, 4000)] == [1.0, 3.0, 5.0, 5.0]
    rates = [paper.rate_at(e) for e in (0, 499, 500, 1500, 3500, 9999)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4, 1.25e-4])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Fast(grid=4), "grid"),
        (lambda: Fast(seconds=0.0), "seconds"),
        (lambda: Paper(epochs=0), "epochs"),
        (lambda: Paper(lifetime=0), "lifetime"),
        (lambda: Paper(iterations=0), "iterations"),
        (lambda: Paper(weight_epochs=0), "weight_epochs"),
        (lambda: Paper(batch_size=0), "batch_size"),
        (lambda: Paper(learning_rate=-1.0), "learning_rate"),
        (lambda: Paper(sigma=0.0), "sigma"),
        (lambda: Paper(weight=(1.0, -1.0)), "weight"),
        (lambda: Paper(power=0.5), "power"),
        (lambda: Paper(seconds=-1.0), "seconds"),
    ],
)
def test_options_out_of_range_are_refused(make, name):
    with pytest.raises(ParameterError, match=f"`{name}` must be"):
        make()


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Fast().grid = 64


def test_every_page_says_the_same_of_the_cost_of_the_published_method():
    """It is 3 CPU-seconds a batch of 10,000: not hours on one page and days on another."""
    root = Path(__file__).parents[2]
    pages = [root / "docs/cli.md", root / "docs/recipes/scan.md"]
    pages += [Path(module.__file__) for module in (_surface, _settings, _reconstruct)]
    for page in pages:
        assert "half a CPU-day" in page.read_text(encoding="utf-8"), page


def test_fast_says_how_it_works():
    for step in ("1. Noise", "2. Sides", "3. Field", "4. Mesh", "References"):
        assert step in Fast.__doc__
