"""`cite`: entries that BibTeX can read, each once."""

import re
from importlib import import_module

import pytest

import levelset
from levelset import attacks, cite
from levelset._citations import _ENTRIES, _works
from levelset.errors import ParameterError


def test_the_library_comes_first_and_works_come_once():
    text = cite("project", "attach", "project")
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert keys == ["levelset", "benisrael1966", "atzmon2019"]
    assert re.findall(r"^@\w+\{(\w+),$", cite(), re.MULTILINE) == ["levelset"]


ATTACKS = [name for name in attacks.__all__ if name.islower()]


@pytest.mark.parametrize("name", [*ATTACKS, "audit", "detect", "distance", "persistence"])
def test_every_name_gives_whole_entries(name):
    text = cite(name)
    assert text.endswith("}\n")
    assert text.count("@") > 1
    for entry in text.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}")
        kinds = "software|article|inproceedings|phdthesis|techreport|misc"
        assert re.match(rf"@({kinds})\{{\w+,\n", entry)
        for attribute in ("title", "author", "year"):
            assert re.search(rf"^  {attribute} = \{{", entry, re.MULTILINE), attribute


def test_an_attack_is_cited_by_its_docstring_alone():
    assert cite("fmn").endswith(
        "@misc{pintor2021,\n  author = {M. Pintor and others},\n"
        "  title = {Fast minimum-norm adversarial attacks through adaptive norm constraints},\n"
        "  howpublished = {NeurIPS 2021},\n  year = {2021},\n}\n"
    )


def test_every_entry_is_used():
    packages = ("", ".boundary", ".attacks")
    names = [name for p in packages for name in import_module(f"levelset{p}").__all__]
    text = cite(*(name for name in names if any(_works(p, name) for p in packages)))
    assert all(entry in text for entry in _ENTRIES.values())


@pytest.mark.parametrize("name", ["project", "intersect", "attach", "audit"])
def test_the_functions_of_the_papers_are_known(name):
    assert hasattr(levelset, name)
    assert "@inproceedings{atzmon2019" in cite(name)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("curvature", ["alonso", "goldman2005", "fawzi2018"]),
        ("normal_curvature", ["alonso"]),
        ("class_curvatures", ["alonso"]),
        ("loss_curvature", ["alonso", "moosavi2019"]),
    ],
)
def test_the_curvatures_cite_what_their_docstrings_name(name, keys):
    assert hasattr(levelset.boundary, name)
    assert re.findall(r"^@\w+\{(\w+),$", cite(name), re.MULTILINE) == ["levelset", *keys]


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        ParameterError, match=r"cite: `names` must be among .*alma, .*, got 'prject'"
    ):
        cite("project", "prject")
