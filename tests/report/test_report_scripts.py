"""The page's search, CSV and address, run by node: what they read, write and refuse."""

import csv
import io
import json
from typing import Any

import pytest
from browser import needs_node, scripts

pytestmark = needs_node

# Rows 0 to 3: a cat, a boot, a shirt, and a boot taken for a shirt.
TABLE = """(() => {
  const table = {
    norm: "2",
    classes: ["cat", "Ankle boot", "T-shirt/top"],
    columns: [
      { name: "index", kind: "integer", values: [0, 10, 20, 30] },
      { name: "label", kind: "class", values: [0, 1, 2, 1] },
      { name: "prediction", kind: "class", values: [0, 1, 2, 2] },
      { name: "correct", kind: "bool", values: [1, 1, 1, 0] },
      { name: "margin", kind: "number", values: [1, 2, 3.25, -1] },
      { name: "distance_2", norm: "2", kind: "number", single: true,
        values: Float32Array.of(0.1, 0.5, Infinity, 0) },
      { name: "nearest_class_2", norm: "2", kind: "class", values: [1, 2, -1, 2] },
      { name: "curvature_mean", kind: "number", values: [NaN, 0.5, 1, 2] },
    ],
    shown: ({ kind, values }, row) => (
      kind === "class" ? table.classes[values[row]] ?? "none" : String(values[row])
    ),
  };
  return table;
})()"""

FOUND = {
    "": [0, 1, 2, 3],
    "   ": [0, 1, 2, 3],
    "distance_2 < 0.5": [0, 3],
    "distance_2<0.5": [0, 3],
    "DISTANCE_2 <= 0.5": [0, 1, 3],
    "distance < 0.5": [0, 3],
    "distance_2 <= 0.1": [0, 3],  # as stored in single precision
    "distance_2 = 0.1": [0],
    "distance_2 != 0.1": [1, 2, 3],
    "distance_2 == 0.5": [1],
    "distance_2 = inf": [2],
    "distance_2 = ∞": [2],
    "distance_2 ≥ 0.5": [1, 2],
    "0.5 > distance_2": [0, 3],
    "0 < distance_2 <= 0.5": [0, 1],
    "distance_2:0.1..0.5": [0, 1],
    "distance_2:..0.1": [0, 3],
    "distance_2:0.2..": [1, 2],
    "-distance_2:0.1..0.5": [2, 3],
    "margin < -0.5": [3],
    "margin < \u22120.5": [3],  # as the table shows it
    "margin>1e0": [1, 2],
    "curvature_mean = none": [0],
    "curvature_mean != none": [1, 2, 3],
    "curvature_mean < 1": [1],
    "label=1": [1, 3],
    "label:1": [1, 3],
    "label = 1": [1, 3],
    "label != 1": [0, 2],
    "-label:1": [0, 2],
    "not label:1": [0, 2],
    "!label:1": [0, 2],
    'label:"Ankle boot"': [1, 3],
    "label:“ankle boot”": [1, 3],
    "label:'ankle boot'": [1, 3],
    "label:T-shirt/top": [2],
    "nearest_class_2:none": [2],
    "nearest_class:none": [2],
    "label > 0": [1, 2, 3],
    "label != prediction": [3],
    "label = prediction": [0, 1, 2],
    "correct:no": [3],
    "correct = true": [0, 1, 2],
    "correct != yes": [3],
    "correct": [0, 1, 2],
    "-correct": [3],
    "cat": [0],
    "boot": [0, 1, 3],
    "shirt boot": [1, 3],
    '"ankle boot"': [0, 1, 3],
    "30": [3],
    "3": [],
    "cat or label:2": [0, 2],
    "cat OR label:2": [0, 2],
    "cat or label:2 correct:yes": [0, 2],
    "(cat or shirt) correct:no": [3],
    "-(cat or label:2)": [1, 3],
    "label:1 and not correct": [3],
    "not (label:1 or label:2)": [0],
}

REFUSED = {
    "distanse_2 < 1": r"There is no column “distanse_2”. Did you mean “distance_2”?",
    "margn<1": "There is no column “margn”. Did you mean “margin”?",
    "xyzzy<1": "There is no column “xyzzy”.",
    "label:ankle": "There is no class “ankle”. Did you mean “Ankle boot”?",
    "label:7": "There is no class “7”.",
    "qwertz": "No class name contains “qwertz”, and it is no condition.",
    "margin:0,5": "“0,5” is no number to compare “margin” with. Write 0.5.",
    "margin<cat": "“cat” is no number to compare “margin” with.",
    "margin<label": "“margin” and “label” cannot be compared.",
    "correct:maybe": "“correct” is yes or no, not “maybe”.",
    "<<<": "A column is missing before “<”.",
    "=3": "A column is missing before “=”.",
    "label:": "A value is missing after “:”.",
    "(cat": "A bracket is not closed.",
    ")(": "“)” is not expected here.",
    "cat)": "“)” is not expected here.",
    "or": "“or” is not expected here.",
    "cat or": "The search ends too early.",
    "not": "The search ends too early.",
    '""': "The quotation marks hold nothing.",
}


def answers(queries: list[str]) -> list[dict[str, Any]]:
    each = """(text) => {
      try {
        const { test, words } = readQuery(text, table);
        return { rows: [0, 1, 2, 3].filter((row) => test(row)), words };
      } catch (error) { return { error: error.message }; }
    }"""
    found: list[dict[str, Any]] = scripts(
        ["query"], f"((table) => {json.dumps(queries)}.map({each}))({TABLE})"
    )
    return found


def test_searches_give_their_rows() -> None:
    found = dict(zip(FOUND, answers(list(FOUND)), strict=True))
    assert {query: answer.get("rows", answer) for query, answer in found.items()} == FOUND


def test_what_is_not_understood_is_said_with_the_nearest_name() -> None:
    found = dict(zip(REFUSED, answers(list(REFUSED)), strict=True))
    assert {query: answer.get("error", answer) for query, answer in found.items()} == REFUSED


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("label:1 distance<0.5", "label = “Ankle boot” and distance_2 < 0.5"),
        ("cat or (-correct margin>0)",
         "“cat” in a class name or (not correct = yes and margin > 0)"),
        ("-(label:1 or label:2)", "not (label = “Ankle boot” or label = “T-shirt/top”)"),
        ("0.1 < distance <= 0.5", "distance_2 > 0.1 and distance_2 <= 0.5"),
    ],
)  # fmt: skip
def test_what_was_understood_is_said(query: str, words: str) -> None:
    assert answers([query])[0]["words"] == words


def test_any_text_is_read_or_refused_in_words() -> None:
    alphabet = ['"', "(", ")", "-", "<", "..", "label", "3", "or", "'", "“", "\\"]
    texts = [" ".join((a, b, c)) for a in alphabet for b in alphabet for c in alphabet]
    texts += [text.replace(" ", "") for text in texts]
    for text, answer in zip(texts, answers(texts), strict=True):
        message = answer.get("error", "")
        assert "rows" in answer or message.endswith((".", "?")), (text, answer)
        assert "undefined" not in message, (text, answer)
        assert "is not a function" not in message, (text, answer)


HOSTILE = [
    "plain",
    'say "no", she said',
    "two\nlines",
    "=cmd|' /C calc'!A0",
    "+1",
    "-x",
    "@y",
    "\t=1",
]


def table_as_csv(classes: list[str]) -> str:
    columns = """[
      { name: "index", kind: "integer", values: names.map((_, i) => i) },
      { name: "label", kind: "class", values: names.map((_, i) => i) },
      { name: "correct", kind: "bool", values: names.map((_, i) => i % 2) },
      { name: "nearest_class_2", norm: "2", kind: "class", values: names.map(() => -1) },
      { name: "distance_2", norm: "2", kind: "number", single: true,
        values: Float32Array.from(names.map((_, i) => [0.1, Infinity, NaN, -2][i % 4])) },
    ]"""
    text: str = scripts(
        ["csv"],
        f"((names) => csvOf({{ columns: {columns} }}, names, names.map((_, i) => i)))"
        f"({json.dumps(classes)})",
    )
    return text


def test_csv_holds_the_names_of_classes_and_no_formula() -> None:
    text = table_as_csv(HOSTILE)
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert list(rows[0]) == [
        "index", "label", "label_name", "correct", "nearest_class_2", "nearest_class_2_name",
        "distance_2",
    ]  # fmt: skip
    assert len(rows) == len(HOSTILE)
    assert [row["label"] for row in rows] == [str(i) for i in range(len(HOSTILE))]
    names = [row["label_name"] for row in rows]
    assert names[:3] == HOSTILE[:3]
    assert names[3:] == [f"'{name}" for name in HOSTILE[3:]]
    assert [row["distance_2"] for row in rows[:4]] == ["0.1", "inf", "nan", "-2"]
    assert [row["correct"] for row in rows[:2]] == ["false", "true"]
    assert {row["nearest_class_2_name"] for row in rows} == {""}


def test_csv_quotes_as_the_standard_has_it() -> None:
    line = table_as_csv(['a "b", c']).split("\r\n")[1]
    assert line == '0,0,"a ""b"", c",false,-1,,0.1'


PAGE = """{ inspects: true, audits: [
  { name: "one model", norms: ["2", "inf"], byName: new Map([
    ["index", { values: [5, 7] }], ["distance_2", {}], ["label", {}]]) },
  { name: "other & <two>", norms: ["2"], byName: new Map([["index", { values: [5, 7] }]]) },
] }"""


@pytest.mark.parametrize(
    "choice",
    [
        {"audit": 0, "norm": "2", "input": None, "search": "", "sort": "index"},
        {"audit": 1, "norm": "2", "input": 1, "search": 'label:"a&b" #1?', "sort": "index"},
        {"audit": 0, "norm": "inf", "input": 0, "search": "", "sort": "-distance_2"},
    ],
)
def test_an_address_leads_back_to_the_same_choice(choice: dict[str, Any]) -> None:
    program = f"""(() => {{
      const page = {PAGE}, state = stateOf({json.dumps(choice)}, page);
      const address = writeAddress("all-inputs", state);
      return [address, readAddress(address), choiceOf(readAddress(address).state, page)];
    }})()"""
    address, read, found = scripts(["address"], program)
    assert found == {"choice": choice, "ignored": []}
    assert read["section"] == "all-inputs"
    assert (address == "#all-inputs") == (choice["norm"] == "2" and not choice["audit"])


def test_what_an_address_cannot_mean_is_ignored_and_named() -> None:
    hash_ = "#x%?norm=7&model=nobody&input=99&sort=nothing&evil=1&search=%E0%A4%A"
    program = f"""(() => {{
      const read = readAddress({json.dumps(hash_)});
      return [read, choiceOf(read.state, {PAGE})];
    }})()"""
    read, found = scripts(["address"], program)
    assert read["section"] == "x%"
    assert read["unknown"] == ["evil"]
    assert found["ignored"] == [
        "the model “nobody”", "the norm “7”", "the input “99”", "the column “nothing”",
    ]  # fmt: skip
    assert found["choice"]["norm"] == "2"
    assert found["choice"]["input"] is None
