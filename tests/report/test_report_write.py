import json
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from levelset import report
from levelset.errors import MissingExtraError, ParameterError, RunError, ShapeError
from levelset.report import Html
from levelset.report._write import anchors


class Page(HTMLParser):
    """What a browser would see: elements with attributes, scripts and styles apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.inside == "style":
            self.styles.append(data)
        else:
            self.words.append(data)


def page_of(folder: Path, sections: list[report.Section]) -> tuple[str, Page]:
    path = folder / "page.html"
    report.write(path, sections, title="A <b>title</b>")
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[float("nan"), 3.0], name="</script><script>alert(1)"))


SECTIONS = [
    report.Section("First & <last>", "one\n\ntwo <i>"),
    report.Section("Table", "", {"name": ["<td>", "b"], "value": [1.23456789, 2]}),
    report.Section("Figure", "a figure", figure()),
    report.Section("Fragment", "", Html("<p id='mine'>kept</p>")),
]


def test_page_shows_every_section_in_order_with_its_text_escaped(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SECTIONS)
    assert "<h1>A &lt;b&gt;title&lt;/b&gt;</h1>" in text
    names = ["first-last", "table", "figure", "fragment"]
    ids = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert ids == names
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    in_page = [f"#{name}" for name in names]
    assert links == ["#content", *in_page, *in_page]  # the navigation, and beside the headings
    assert page.tags.count("h2") == 4
    assert {"one", "two <i>", "kept", "<td>", "1.235", "2"} <= set(page.words)
    assert "i" not in page.tags


def test_page_reaches_for_no_network(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SECTIONS)
    policy = [value for tag, name, value in page.attributes if value.startswith("default-src")]
    assert policy[0].startswith("default-src 'none'")
    assert "connect-src" not in policy[0]
    assert "http" not in policy[0]
    for tag, name, value in page.attributes:
        if name in {"src", "href", "action", "poster", "data", "srcset"}:
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    # plotly's own strings name servers of maps, which its map traces alone would ask
    own = text.replace(get_plotlyjs(), "")
    assert len(own) < len(text) - 1_000_000
    assert "://" not in own
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "@import", "url(", "eval("):
        assert word not in own


def test_plotly_is_inside_only_where_a_figure_is(tmp_path: Path) -> None:
    text, _ = page_of(tmp_path, SECTIONS[:2])
    assert len(text) < 100_000  # plotly has 4.8 million
    assert "data-figure>" not in text


def test_json_of_a_figure_cannot_end_its_script_and_holds_no_nan(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SECTIONS)
    held = [text for attrs, text in page.scripts if attrs.get("type") == "application/json"]
    assert len(held) == 1
    read = json.loads(held[0], parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    assert read["data"][0]["y"] == [None, 3.0]
    assert read["data"][0]["name"] == "</script><script>alert(1)"
    assert len(page.scripts) == 3


def test_same_sections_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        sections = [*SECTIONS[:2], report.Section("Figure", "a figure", figure())]
        report.write(tmp_path / name, sections, title="t")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_plain_tuples_do_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    report.write(str(path), [("A", "b", None)], title="t")
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_no_sections_give_a_page_with_its_title(tmp_path: Path) -> None:
    report.write(tmp_path / "p.html", [], title="Nothing")
    assert "<h1>Nothing</h1>" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_unknown_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"`sections\[1\]` must hold a plotly figure.*got int"):
        report.write(tmp_path / "p.html", [("a", "", None), ("b", "", 3)], title="t")
    assert not list(tmp_path.iterdir())


def test_ragged_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"must have one length, got \{'a': 1, 'b': 2\}"):
        report.write(tmp_path / "p.html", [("t", "", {"a": [1], "b": [1, 2]})], title="t")


def test_a_folder_in_the_place_of_the_file_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        report.write(tmp_path / "page.html", [], title="t")
    assert os.listdir(tmp_path) == ["page.html"]  # noqa: PTH208


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(MissingExtraError, match=r"plotly is not installed.*levelset\[report\]"):
        report.write(tmp_path / "p.html", SECTIONS, title="t")


def test_sections_are_linked_by_the_words_of_their_titles(tmp_path: Path) -> None:
    titles = [
        "At a glance",
        "Noise",
        "noise!",
        "Content",
        "…",
        "Größe & Höhe",
        "Classes around input 3",
    ]
    names = anchors(titles)
    assert names == [
        "at-a-glance", "noise", "noise-2", "content-2", "section", "größe-höhe",
        "classes-around-input-3",
    ]  # fmt: skip
    _, page = page_of(tmp_path, [report.Section(title) for title in titles])
    ids = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert ids == names
    every = [value for _, name, value in page.attributes if name == "id"]
    assert len(every) == len(set(every))
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert {"#" + quote(name) for name in names} <= set(links)


def test_a_subtitle_stands_below_the_title(tmp_path: Path) -> None:
    report.write(tmp_path / "p.html", [], title="t", subtitle="on <Monday>")
    assert "<h1>t</h1><p>on &lt;Monday&gt;</p>" in (tmp_path / "p.html").read_text(encoding="utf-8")
