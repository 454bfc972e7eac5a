"""The page in a browser: printing, address, keyboard, narrow screens, themes, hostile names."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser, needs_browser

from levelset import report
from levelset.auditing._result import Audit
from levelset.report._surface import _views

pytestmark = [needs_browser, pytest.mark.slow]

Make = Callable[..., Audit]
EVIL = (
    "</script><img src=x onerror=\"window.hit='a'\">",
    "<svg onload=window.hit='b'>",
    "';window.hit='c';//",
    "<a href=\"javascript:window.hit='d'\">x</a>",
    "=cmd|' /C calc'!A0",
)
VISIBLE = "[...document.querySelectorAll('[data-figure]')].filter((f) => f.clientWidth)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(make_audit: Make, tmp_path: Path) -> Path:
    audits = [
        make_audit(
            n=60, k=4, missed=0, name=name, seed=seed, classes=("cat", "dog", "two words", "x")
        )
        for seed, name in enumerate(("first", "second"))
    ]
    report.write(tmp_path / "page.html", report.audit(audits), title="Two models")
    return tmp_path / "page.html"


def state(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = browser.value("""({
      hash: location.hash,
      state: document.querySelector("[data-state]").textContent,
      notice: document.querySelector("[data-notice]").textContent,
      norm: document.querySelector("[data-choice=norm]:checked").value,
      model: document.querySelector("[data-choice=audit]:checked").value,
      pinned: document.querySelector("[data-inspector].pinned h3")?.textContent ?? null,
      sort: document.querySelector("th:is([aria-sort=ascending], [aria-sort=descending])")
        .dataset.name,
    })""")
    return found


def test_printing_draws_every_figure_in_light_colours_at_the_width_of_paper(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    browser.open(page, dark=True)
    assert browser.value(f"{VISIBLE}.some((f) => !f.querySelector('svg'))")  # drawn lazily
    browser.value(f"""addEventListener("beforeprint", () => {{ window.printed = {{
      figures: {VISIBLE}.map((f) => [f.querySelectorAll("svg .xy, svg .heatmaplayer").length > 0,
        f.querySelector("svg").clientWidth,
        getComputedStyle(f.querySelector("svg .xtick text")).fill]),
      painted: [...document.querySelectorAll(".view:not([hidden]) canvas[data-kind=input]")].map(
        (c) => c.getContext("2d").getImageData(0, 0, 1, 1).data[3]),
      shown: ["nav", ".tools", ".pages", ".anchor"].filter(
        (s) => document.querySelector(s).checkVisibility()),
    }}; }}); null""")
    pdf = browser.paper()
    printed = browser.value("window.printed")
    assert pdf.startswith(b"%PDF")
    assert len(printed["figures"]) == 6
    for drawn, width, ink in printed["figures"]:
        assert drawn
        assert 0 < width <= 680
        assert ink == "rgb(27, 31, 36)"
    assert printed["painted"]
    assert set(printed["painted"]) == {255}
    assert printed["shown"] == []
    browser.until("!document.documentElement.classList.contains('paper')")
    assert browser.errors == []
    if shutil.which("pdftotext"):
        (tmp_path / "page.pdf").write_bytes(pdf)
        command = ["pdftotext", str(tmp_path / "page.pdf"), "-"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for words in ("Size of the perturbation, L∞", "Class of the nearest witness", "Margin"):
            assert words in text


def test_search_says_what_it_understood_and_what_not(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("/")
    assert browser.value("document.activeElement.matches('[data-search]')")
    assert browser.value("document.activeElement.value") == ""
    browser.write('label:"two words" or label:cat')
    assert state(browser)["state"] == "30 of 60 inputs: label = “two words” or label = “cat”"
    browser.write(" or (")
    assert state(browser)["state"].startswith(
        "Not understood: The search ends too early. Shown: 30 of"
    )
    assert browser.value("document.querySelectorAll('tbody [data-row]').length") == 25


def test_address_carries_the_choice_and_back_undoes_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    click = "document.querySelector('{}').click()"
    browser.value(click.format("[data-choice=norm][value=inf]"))
    browser.value(click.format('[data-choice=audit][value="1"]'))
    browser.value(click.format("th[data-name=margin] button"))
    browser.value(click.format('nav a[href="#borders"]'))
    there = state(browser)
    assert there["hash"] == "#borders?model=second&norm=inf&sort=margin"
    browser.value("history.back()")
    browser.value("history.back()")
    browser.until("location.hash === '#?model=second&norm=inf'")
    browser.until("document.querySelector('th[data-name=index]').ariaSort === 'ascending'")
    assert state(browser)["norm"] == "inf"
    browser.value("history.forward()")
    browser.until("document.querySelector('th[data-name=margin]').ariaSort === 'ascending'")
    browser.open(page, "#all-inputs?model=second&norm=inf&input=70&search=label%3Acat&sort=-margin")
    read = state(browser)
    assert read["norm"] == "inf"
    assert read["model"] == "1"
    assert read["pinned"] == "Input 70"
    assert read["state"] == "15 of 60 inputs: label = “cat”"
    assert read["sort"] == "margin"
    assert read["notice"] == ""
    assert (
        abs(browser.value("document.querySelector('#all-inputs').getBoundingClientRect().top"))
        < 200
    )
    assert browser.errors == []


def test_bad_values_in_the_address_are_ignored_with_a_word(browser: Browser, page: Path) -> None:
    browser.open(page, "#nowhere?norm=7&model=%3Cimg%3E&input=-1&sort=evil&x=y")
    read = state(browser)
    for words in (
        "“x”",
        "the section “nowhere”",
        "the norm “7”",
        "the model “<img>”",
        "the input “-1”",
    ):
        assert words in read["notice"]
    assert (read["norm"], read["model"], read["pinned"]) == ("2", "0", None)
    browser.value("document.querySelector('[data-choice=norm][value=inf]').click()")
    assert state(browser)["notice"] == ""
    assert state(browser)["hash"] == "#?norm=inf"


def test_sections_have_names_that_links_copy(browser: Browser, page: Path) -> None:
    browser.open(page, "#closest-inputs")
    browser.until(
        "Math.abs(document.querySelector('#closest-inputs').getBoundingClientRect().top) < 200"
    )
    browser.value("document.querySelector('#distances .anchor').click()")
    assert state(browser)["hash"] == "#distances"
    browser.until("document.querySelector('#distances .anchor').dataset.said")


def test_figures_are_read_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, "#margin-and-distance")
    scatter = "document.querySelector('#margin-and-distance .view:not([hidden]) [data-figure]')"
    browser.until(f"{scatter}.querySelector('svg')")
    browser.value(f"{scatter}.focus()")
    rows = []
    for _ in range(3):
        browser.press("ArrowRight")
        rows.append(browser.value("document.querySelector('[data-inspector] h3').textContent"))
    assert len(set(rows)) == 3  # by rising margin: the wrong ones first
    assert rows[0] == "Input 10"
    assert browser.value("document.querySelector('[aria-live].unseen').textContent").startswith(
        rows[2]
    )
    browser.press("Enter")
    assert state(browser)["pinned"] == rows[2]
    browser.press("ArrowRight", "Escape")
    assert state(browser)["pinned"] is None
    borders = scatter.replace("margin-and-distance", "borders")
    browser.value(f"{borders}.scrollIntoView()")
    browser.until(f"{borders}.querySelector('svg')")
    browser.value(f"{borders}.focus()")
    browser.press("ArrowRight", "ArrowRight", "Enter")
    assert "prediction = “cat” and nearest_class_2 = “dog”" in state(browser)["state"]
    line = "document.querySelector('#robustness [data-figure]')"
    browser.value(f"{line}.scrollIntoView()")
    browser.until(f"{line}.querySelector('svg')")
    browser.value(f"{line}.focus()")
    browser.press("End")
    spoken = browser.value("document.querySelector('[aria-live].unseen').textContent")
    assert spoken.startswith(("first: Size of the perturbation, L₂ ", "second: "))
    assert browser.value(f"{line}.querySelectorAll('.cursor').length") == 1
    assert browser.errors == []


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_shows_whole_axes_and_scrolls_tables(
    browser: Browser, page: Path, width: int
) -> None:
    browser.open(page, width=width, height=800)
    for place in range(browser.value(f"{VISIBLE}.length")):
        browser.value(f"{VISIBLE}[{place}].scrollIntoView({{ behavior: 'instant' }})")
        browser.until(f"{VISIBLE}[{place}].querySelector('svg text')")
    assert browser.value(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    clipped = browser.value(f"""{VISIBLE}.flatMap((f) => {{
      const box = f.getBoundingClientRect();
      return [...f.querySelectorAll("svg .infolayer text, svg .xtick text, svg .ytick text")]
        .filter((t) => {{ const r = t.getBoundingClientRect(); return r.width
          && (r.left < box.left - 1 || r.right > box.right + 1 || r.bottom > box.bottom + 1
            || r.top < box.top - 1); }})
        .map((t) => t.textContent);
    }})""")
    assert clipped == []
    assert browser.value("document.querySelector('[data-inspector] canvas') !== null")
    assert browser.value("""[...document.querySelectorAll(".scroll")].every(
      (s) => getComputedStyle(s).overflowX === "auto"
        && s.getBoundingClientRect().right <= innerWidth)""")
    assert browser.value("""[...document.querySelectorAll("button, input, label, a.anchor")].every(
      (e) => !e.checkVisibility() || e.closest(".scroll")
        || e.getBoundingClientRect().right <= innerWidth)""")


CONTRASTS = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] !== 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility()) continue;
    if (e.closest(".unseen, script, style, noscript, button:disabled")) continue;
    const svg = e.closest("svg"), style = getComputedStyle(e);
    const front = parse(svg ? style.fill : style.color), back = ground(svg ?? e);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push([e.textContent, style.color, back]);
  }
  return low;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_in_both_themes(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, "#?input=70", dark=dark)
    for place in range(browser.value(f"{VISIBLE}.length")):
        browser.value(f"{VISIBLE}[{place}].scrollIntoView({{ behavior: 'instant' }})")
        browser.until(f"{VISIBLE}[{place}].querySelector('svg text')")
    # The cells of the map lie in an image: their numbers have a test of the ramp of colours.
    assert browser.value(CONTRASTS) == []


def test_hostile_names_stay_inert_everywhere(
    browser: Browser, make_audit: Make, tmp_path: Path
) -> None:
    audits = [
        make_audit(n=30, k=5, classes=EVIL, name=name, seed=seed)
        for seed, name in enumerate(EVIL[:2])
    ]
    path = tmp_path / "page.html"
    shares = torch.full((3, 5), 0.2)
    sections = [
        *report.audit(audits),
        report.class_frequencies(shares, torch.arange(3.0), classes=EVIL, name=EVIL[0]),
        report.Section(EVIL[1], EVIL[0], {EVIL[0]: [EVIL[1]]}),
    ]
    report.write(path, sections, title=EVIL[0], subtitle=EVIL[1])
    browser.open(path, "#?search=%22%3Cimg%20src=x%20onerror=window.hit='e'%3E")
    for place in range(browser.value(f"{VISIBLE}.length")):
        browser.value(f"{VISIBLE}[{place}].scrollIntoView({{ behavior: 'instant' }})")
        browser.until(f"{VISIBLE}[{place}].querySelector('svg text')")
    browser.value("document.querySelector('#borders [data-figure]').focus()")
    browser.press("ArrowRight", "ArrowDown", "Enter")
    browser.value("document.querySelector('tbody tr').focus()")
    browser.value("for (const b of document.querySelectorAll('th button')) b.click()")
    browser.value("new Promise((done) => setTimeout(done, 200))")
    assert browser.value("window.hit ?? null") is None
    assert (
        browser.value("document.querySelectorAll('main img, main [onload], main [onerror]').length")
        == 0
    )
    assert browser.value("document.querySelectorAll('a[href^=javascript]').length") == 0
    assert browser.errors == []


class _Ball:
    """As much of a surface as its views need: in doubt, and so drawn a third time."""

    colours, doubtful = None, 1.0

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        draws = torch.randn(300, 3, generator=generator).double()
        self.points = torch.nn.functional.normalize(draws, dim=1)
        self.sketch = self
        self.vertices = self.points[:4]
        self.faces = torch.tensor([[0, 1, 2], [0, 1, 3]])
        self.scalars = {"doubt": torch.tensor([0.0, 0.5, 1.0, 1.0]).double()}


def test_scan_and_mesh_turn_together(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    report.write(path, [("Scan and mesh", "", _views(_Ball()))], title="Ball")
    browser.open(path)
    browser.until(f"{VISIBLE}.every((f) => f._fullLayout?.scene?._scene?.glplot)")
    camera = "f._fullLayout.scene._scene.getCamera().eye"
    eye = f"{VISIBLE}.map((f) => ['x', 'y', 'z'].map((axis) => {camera}[axis]))"
    before = browser.value(eye)
    assert len(before) == 3
    assert before[0] == pytest.approx(before[1])
    box = browser.value(
        "((box) => [box.left + box.width / 2, box.top + box.height / 2])"
        f"({VISIBLE}[0].getBoundingClientRect())"
    )
    browser.drag((box[0], box[1]), (box[0] + 80, box[1] + 20))
    browser.until(f"Math.hypot(...{eye}[1].map((v, i) => v - {before[1]}[i])) > 0.05")
    browser.value("new Promise((done) => setTimeout(done, 300))")
    dragged = browser.value(eye)
    assert dragged[0] == pytest.approx(dragged[1], abs=1e-3)
    browser.value(f"{VISIBLE}[1].focus()")
    browser.press("ArrowRight", "-")
    browser.until(f"Math.hypot(...{eye}[0].map((v, i) => v - {dragged[0]}[i])) > 0.05")
    browser.value("new Promise((done) => setTimeout(done, 300))")
    turned = browser.value(eye)
    assert turned[0] == pytest.approx(turned[1], abs=1e-3)
    assert browser.errors == []


def test_ten_thousand_inputs_load_in_seconds(
    browser: Browser, make_audit: Make, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    report.write(path, report.audit(make_audit(n=10_000, shape=(1, 28, 28), k=10)), title="Large")
    assert path.stat().st_size < 16e6
    browser.open(path)
    seconds = browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
    assert 0 < seconds < 30  # on a machine that others share
    assert state_of_large(browser) == "10,000 of 10,000 inputs"


def state_of_large(browser: Browser) -> str:
    found: str = browser.value("document.querySelector('[data-state]').textContent")
    return found
