"""What follows from the declaration of a measure, and how a new one is added."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from levelset import audit, report
from levelset.auditing import Audit
from levelset.auditing._measure import Column, Measure, Measured, Part, Radius, Settings
from levelset.auditing._measures import MEASURES, declared
from levelset.cli import _audit as command
from levelset.report import Section
from levelset.report._presentation import Presentation
from levelset.report._sections import SECTIONS

# A new measure: what a file in `auditing/_measures` holds ...


def _of_part(part: Part) -> Measured:
    mean = part.points.flatten(1).mean(1)
    eye = [None if m > 0.9 else "dark" if m < 0.5 else "light" for m in mean.tolist()]
    part.progress()(1, 1)
    return Measured(
        {
            "brightness": mean * part.settings.own["gain"],
            "shade": _SHADE.numbers(eye),
            "ends": torch.stack(
                [part.points.flatten(1).amin(1), part.points.flatten(1).amax(1)], 1
            ),
        }
    )


def _summary(columns: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, int | float]:
    return {"brightness_mean": float(columns["brightness"].mean() / settings["gain"])}


def _options(model: nn.Module, points: Tensor, settings: Settings) -> dict[str, Any]:
    return {"gain": 2}


_SHADE = Column(
    "shade", "what the eye says; null where it hurts", kind="word", words=("light", "dark")
)
BRIGHTNESS = Measure(
    "brightness",
    (
        Column("brightness", "twice the mean of the input", "unit of light"),
        _SHADE,
        Column("ends", "its smallest and its largest value", "unit of the inputs", "numbers"),
    ),
    _of_part,
    lambda settings, size: 1.0,
    _summary,
    options=_options,
)

BRIGHTNESS_NAMES = [column.name for column in BRIGHTNESS.columns]

# ... and one in `report/_sections`; each is then named in its list.


def _card(found: Audit) -> list[dict[str, str]]:
    value = f"{found.summary()['brightness_mean']:.3g}"
    return [{"name": "Mean brightness", "value": value, "note": "of all inputs"}]


SHOWN = Presentation(
    "brightness", _card, lambda audits, pictures: [Section("Brightness", "How light it is.")]
)


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(MEASURES, "brightness", BRIGHTNESS)
    SECTIONS.append(SHOWN)
    yield
    SECTIONS.remove(SHOWN)


@pytest.mark.usefixtures("brightness")
def test_a_measure_named_in_the_two_lists_goes_from_the_audit_to_the_page(tmp_path: Path) -> None:
    points = torch.tensor([[0.0, 0.5], [0.5, 1.0], [1.0, 1.0]])
    labels, run = torch.zeros(3).long(), tmp_path / "run"
    how: dict[str, Any] = {"measures": "brightness", "out": run}
    model = nn.Linear(2, 2)
    found = audit(model, points, labels, **how)
    assert found.measures == ("brightness",)
    assert found.settings == {"gain": 2}
    assert json.loads((run / "manifest.json").read_text())["options"]["gain"] == 2
    table = pq.read_table(run / "measurements")
    assert table["brightness"].to_pylist() == [0.5, 1.5, 2.0]
    assert table["shade"].to_pylist() == ["dark", "light", None]
    assert table["ends"].to_pylist() == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.0]]
    assert table.schema.field("brightness").metadata == {
        b"meaning": b"twice the mean of the input",
        b"unit": b"unit of light",
    }
    again = audit(model, points, labels, **how, resume=True)
    assert all(torch.equal(again.columns[name], found.columns[name]) for name in BRIGHTNESS_NAMES)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["brightness_mean"] == pytest.approx(2 / 3)
    assert "<th>brightness_mean</th><td>0.6667</td>" in found._repr_html_()
    sections = {section.title: section for section in report.audit(found)}
    assert list(sections) == ["At a glance", "Brightness", "All inputs"]
    assert "Mean brightness" in sections["At a glance"].content.markup
    rows = sections["All inputs"].content.markup
    (book,) = [json.loads(text) for text in re.findall(r'id="book">(.*?)</script>', rows)]
    shown = {column["name"]: column for column in book["audits"][0]["columns"]}
    assert shown["brightness"]["about"] == "twice the mean of the input (unit of light)"
    assert not shown.keys() & {"shade", "ends"}
    assert "<dt><code>brightness</code></dt><dd>twice the mean" in rows


def test_the_command_line_offers_every_measure() -> None:
    assert set(get_args(command.Measure)) == set(MEASURES)


def test_an_audit_has_the_columns_that_its_measures_declare(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4, 3, generator=generator)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
    labels = model(points).argmax(1)
    found = audit(
        model, points, labels, measures=list(MEASURES), radius=0.1, effort="quick",
        out=tmp_path / "run",
    )  # fmt: skip
    columns = declared(found.norms, found.radii)
    assert found.measures == tuple(MEASURES)
    assert set(found.columns) == set(columns)
    kinds = {
        "integer": torch.int64, "class": torch.int64, "word": torch.int64, "bool": torch.bool,
        "number": torch.float32, "numbers": torch.float32,
    }  # fmt: skip
    schema = pq.read_table(tmp_path / "run" / "measurements").schema
    for name, values in found.columns.items():
        assert values.dtype == kinds[columns[name].kind], name
        assert values.dim() == (2 if columns[name].kind == "numbers" else 1), name
        assert columns[name].type.split()[0] in str(schema.field(name).type).replace(
            "fixed_size_list", "list"
        ), name
        written = schema.field(name).metadata
        assert written[b"meaning"].decode() == columns[name].meaning
        assert written.get(b"unit", b"").decode() == columns[name].unit
    for norm, end in ((2.0, "_2"), (math.inf, "_inf")):
        assert {c.name for c in columns.values() if c.norm == norm} == {
            name for name in columns if name.endswith(end) or f"{end}_" in name
        }


def test_the_documentation_lists_every_column_as_it_is_declared() -> None:
    pages = Path(__file__).parents[2] / "docs"
    told = (
        (pages / "formats.md").read_text(encoding="utf-8").partition("## The columns of a row")[2]
    )
    rows = [line for line in told.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    columns = declared((2.0,), [Radius(math.inf, 0.3)]).values()
    by_name = {column.name: column for column in columns}
    wanted = []
    for column in by_name.values():
        names = f"`{column.name}`"
        if column.norm == 2.0:
            names += f", `{column.name.removesuffix('_2')}_inf`"
        unit = f" {column.unit} " if column.unit else " "
        wanted.append(f"| {names} | {column.type} |{unit}| {column.meaning} |")
    assert rows == wanted, "\n".join(wanted)


def test_words_are_numbers_in_memory() -> None:
    numbers = _SHADE.numbers(["dark", None, "light"])
    assert numbers.tolist() == [1, -1, 0]
    assert _SHADE.spelt(numbers) == ["dark", None, "light"]
    with pytest.raises(ValueError, match="not in tuple"):
        _SHADE.numbers(["magic"])
