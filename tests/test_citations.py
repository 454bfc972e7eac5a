"""`cite`: entries that BibTeX can read, each once."""

import re

import pytest

import levelset
from levelset import cite
from levelset._citations import _ENTRIES, _USED
from levelset.errors import ParameterError


def test_the_library_comes_first_and_works_come_once():
    text = cite("project", "attach", "project")
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert keys == ["levelset", "atzmon2019", "benisrael1966"]
    assert re.findall(r"^@\w+\{(\w+),$", cite(), re.MULTILINE) == ["levelset"]


@pytest.mark.parametrize("name", sorted(_USED))
def test_every_name_gives_whole_entries(name):
    text = cite(name)
    assert text.endswith("}\n")
    for entry in text.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}")
        assert re.match(r"@(software|article|inproceedings|phdthesis|techreport)\{\w+,\n", entry)
        for attribute in ("title", "author", "year"):
            assert re.search(rf"^  {attribute} = \{{", entry, re.MULTILINE), attribute


def test_every_entry_is_used_and_every_use_has_an_entry():
    used = {key for keys in _USED.values() for key in keys}
    assert used | {"levelset"} == set(_ENTRIES)


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
        ParameterError, match=r"cite: `names` must be among attach, .*, got 'prject'"
    ):
        cite("project", "prject")
