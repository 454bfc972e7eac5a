import pytest

from levelset._display.palette import CLASS_COLOURS, MODEL_COLOURS, model_colours, translucent


def contrast(a: str, b: str) -> float:
    """The contrast of two colours by WCAG 2, from 1 to 21."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", MODEL_COLOURS[:2])
@pytest.mark.parametrize("ground", ["#ffffff", "#1c2026"])
def test_the_first_models_are_seen_on_light_and_dark(colour: str, ground: str) -> None:
    assert contrast(colour, ground) >= 3.0


def test_colours_go_by_place_and_never_repeat() -> None:
    assert model_colours(3) == list(MODEL_COLOURS[:3])
    many = model_colours(40)
    assert many[:6] == list(MODEL_COLOURS)
    assert model_colours(9) == many[:9]
    assert len(set(many)) == 40
    assert all(translucent(colour, 1.0) for colour in many)
    assert len(set(CLASS_COLOURS)) == 7


def test_translucent_is_css() -> None:
    assert translucent("#FF8000", 0.25) == "rgba(255,128,0,0.25)"
