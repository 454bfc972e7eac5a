"""Numbers and norms as a page writes them."""

from levelset._tools.norms import norm_name

__all__ = ["inputs", "norm_words", "rounded", "share", "signed"]


def share(value: float) -> str:
    """Return a share in percent, such as `98.2 %`, without a line break."""
    return f"{100.0 * value:.1f}\u00a0%"


def norm_words(norm: float) -> str:
    """Return the name of a norm as readers know it."""
    return {"2": "L₂", "inf": "L∞", "1": "L₁", "0": "L₀"}.get(norm_name(norm), f"L{norm:g}")


def rounded(value: float) -> str:
    """Return a number with three digits and a real minus sign."""
    return f"{value:.3g}".replace("-", "\u2212")


def inputs(count: int) -> str:
    """Return a number of inputs, in the singular where it is one."""
    return f"{count:,} input" if count == 1 else f"{count:,} inputs"


def signed(value: float) -> str:
    """Return a difference with its sign and one place."""
    return f"{value:+.1f}".replace("-", "\u2212")
