"""The colours of the page: text stands out from what lies behind it, in both themes."""

import re

import pytest
from browser import TEMPLATES

STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")


def colours(dark: bool) -> dict[str, tuple[int, ...]]:
    first, second = re.findall(r":root[^{]*\{(.*?)\}", STYLE, re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+):\s*(#\w{6});", first))
    if dark:
        found |= dict(re.findall(r"--([\w-]+):\s*(#\w{6});", second))
    return {name: tuple(bytes.fromhex(value[1:])) for name, value in found.items()}


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance after WCAG 2.2."""
    parts = [value / 255 for value in colour]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_legible_on_every_ground(dark: bool) -> None:
    palette = colours(dark)
    for front in ("ink", "faint", "accent", "wrong"):
        for back in ("page", "surface", "marked"):
            if (front, back) not in {
                ("faint", "marked"),
                ("accent", "marked"),
                ("wrong", "marked"),
            }:
                assert contrast(palette[front], palette[back]) >= 4.5, (front, back)
    assert contrast(palette["wrong"], palette["marked"]) >= 4.5  # a row that is pointed at


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_are_legible_in_every_cell_of_the_map(dark: bool) -> None:
    palette = colours(dark)
    low, high, ink = (palette[f"ramp-{name}"] for name in ("low", "high", "ink"))
    for step in range(101):
        cell = tuple(a + (b - a) * step / 100 for a, b in zip(low, high, strict=True))
        assert contrast(ink, cell) >= 4.5
    assert contrast(low, high) >= 2  # the ends of the ramp are told apart
