"""Colours that differ for readers with any colour vision, after Okabe and Ito, and one ramp.

Blue is a little lighter and yellow a little darker than theirs, to stand out on white and on black.

References:
    - M. Okabe, K. Ito, "Color Universal Design", 2008.
"""

import colorsys

__all__ = [
    "CLASS_COLOURS",
    "CLASS_SYMBOLS",
    "MODEL_COLOURS",
    "RAMP",
    "model_colours",
    "translucent",
]

MODEL_COLOURS = ("#2A86C8", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CLASS_COLOURS = ("#2A86C8", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800")
CLASS_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
RAMP = ("#FFFFFF", "#2A86C8")


def model_colours(count: int) -> list[str]:
    """Return a colour for each of `count` models, the same in every figure.

    Beyond the six of the palette hues go on by the golden ratio, so that none comes twice.
    """
    further = [_hue(0.15 + 0.618034 * place) for place in range(count - len(MODEL_COLOURS))]
    return [*MODEL_COLOURS[:count], *further]


def _hue(turns: float) -> str:
    parts = colorsys.hls_to_rgb(turns % 1.0, 0.45, 0.6)
    return "#" + "".join(f"{round(255 * part):02X}" for part in parts)


def translucent(colour: str, opacity: float) -> str:
    """Return a colour `#RRGGBB` as CSS with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
