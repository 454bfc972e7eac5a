import json

import pytest

from levelset.errors import MissingExtraError
from levelset.report._render import Html, as_json, grid_html, optional, render


def test_json_survives_hostile_text() -> None:
    hostile = {"name": "</script><!-- & \u2028 é"}
    text = as_json(hostile).markup
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == hostile


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json([value])


def test_templates_escape_text_and_keep_fragments() -> None:
    assert "<p>a</p>" in grid_html([Html("<p>a</p>")]).markup
    text = render("figure.html.jinja", content=Html("{}"), height=1, label='"><x').markup
    assert "<x" not in text


def test_a_missing_module_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"absent is not installed.*levelset\[report\]"):
        optional("absent.part")
