"""Audits: robustness curves, histograms, who borders whom, the closest inputs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from levelset._display.figures import closest, edges_from_zero, robustness_curves
from levelset._display.figures import distances as drawn_distances
from levelset._display.palette import RAMP, model_colours
from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset._tools.norms import norm_name
from levelset._typing import Norm
from levelset.auditing._result import Audit
from levelset.errors import ParameterError, ShapeError
from levelset.plots._axes import axes_or_new, matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["borders", "distances", "robustness", "witnesses"]


@checked
def robustness(
    results: Audit | Sequence[Audit], ax: "Axes | None" = None, *, norm: Norm | None = None
) -> "Axes":
    """Draw accuracy against the size of the perturbation, with exact 95 % bands.

    Args:
        results: One audit or several, a line each.
        ax: Where to draw; `None` for new axes.
        norm: One of the norms of the results; `None` for the first.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result, or `norm` was not measured.
    """
    audits, p = _as_list("robustness", results), _norm(results, norm)
    axes = axes_or_new(ax)
    curves = robustness_curves(audits, p, 201)
    for audit, curve, colour in zip(audits, curves, model_colours(len(audits)), strict=True):
        x = curve.radius.numpy()
        axes.fill_between(x, curve.low.numpy(), curve.high.numpy(), color=colour, alpha=0.2, lw=0)
        axes.plot(x, curve.accuracy.numpy(), color=colour, label=audit.name)
    axes.set(xlabel=f"size of the perturbation, {_words(p)}", ylabel="accuracy", ylim=(0.0, 1.02))
    axes.set_xlim(left=0.0)
    if len(audits) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def distances(
    results: Audit | Sequence[Audit],
    ax: "Axes | None" = None,
    *,
    norm: Norm | None = None,
    bins: int = 40,
) -> "Axes":
    """Draw the histogram of the distances of the inputs that are classified right.

    Inputs classified wrong, and those without a witness, are left out.

    Args:
        results: One audit or several, an outline each over the same bins.
        ax: Where to draw; `None` for new axes.
        norm: One of the norms of the results; `None` for the first.
        bins: Number of bins from 0 to the largest distance.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result, `norm` was not measured, or `bins` is below 1.
    """
    check_at_least_one("plots.distances", "bins", bins)
    audits, p = _as_list("distances", results), _norm(results, norm)
    axes = axes_or_new(ax)
    columns = [drawn_distances(audit, p) for audit in audits]
    edges = edges_from_zero(columns, bins)
    for audit, distance, colour in zip(audits, columns, model_colours(len(audits)), strict=True):
        counts, _ = np.histogram(distance.numpy(), edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(counts, edges, color=colour, label=audit.name)
    axes.set(xlabel=f"distance to the witness, {_words(p)}", ylabel="inputs")
    axes.set_xlim(left=0.0)
    if len(audits) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def borders(result: Audit, ax: "Axes | None" = None, *, norm: Norm | None = None) -> "Axes":
    """Draw how many inputs of each predicted class (row) border each class (column).

    Args:
        result: One audit; inputs classified wrong are left out.
        ax: Where to draw; `None` for new axes.
        norm: One of the norms of the result; `None` for the first.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ParameterError: If `norm` was not measured.
    """
    p = _norm(result, norm)
    axes = axes_or_new(ax)
    counts = result.borders(p).cpu().numpy()
    ramp = matplotlib("matplotlib.colors").LinearSegmentedColormap.from_list("levelset", RAMP)
    axes.imshow(counts, cmap=ramp, vmin=0)
    if len(counts) <= 20:
        for i, j in np.argwhere(counts):
            dark = counts[i, j] > 0.6 * counts.max()
            colour = "white" if dark else "black"
            axes.text(int(j), int(i), str(counts[i, j]), ha="center", va="center", color=colour)
        places = range(len(counts))
        axes.set_xticks(places, result.classes, rotation=45 if _long(result) else 0)
        axes.set_yticks(places, result.classes)
    axes.set(xlabel=f"class of the nearest witness, {_words(p)}", ylabel="predicted class")
    return axes


@checked
def witnesses(
    result: Audit,
    ax: "Axes | None" = None,
    *,
    norm: Norm | None = None,
    count: int = 5,
) -> "Axes":
    """Draw the closest inputs classified right above their witnesses and the differences.

    Each difference has its own scale: white at zero, blue below, red above, full colour at its
    largest absolute value. Of a coloured picture the difference is the mean over the channels.

    Args:
        result: One audit of pictures: `(n, h, w)`, `(n, 1, h, w)` or `(n, 3, h, w)`.
        ax: Where to draw; `None` for new axes.
        norm: One of the norms of the result; `None` for the first.
        count: Most inputs to draw, closest first.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ParameterError: If `norm` was not measured, `count` is below 1, or no input has a witness.
        ShapeError: If the inputs are no pictures.
    """
    p = _norm(result, norm)
    rows = _closest(result, p, count)
    inputs, ends = (_pictures(points[rows]) for points in (result.points, result.witnesses[p]))
    axes = axes_or_new(ax)
    ramp = matplotlib("matplotlib").colormaps["RdBu_r"]
    change = (ends - inputs).mean(axis=-1)
    scale = np.abs(change).max(axis=(1, 2), keepdims=True)
    shares = change / np.where(scale > 0, scale, 1.0)
    colours = ramp(shares / 2.0 + 0.5)[..., :3]
    low, high = result.bounds
    shown = [np.clip((part - low) / (high - low), 0.0, 1.0) for part in (inputs, ends)]
    lines = [_line(np.broadcast_to(part, colours.shape)) for part in (*shown, colours)]
    axes.imshow(np.concatenate(lines), extent=(0.0, len(rows), 3.0, 0.0), interpolation="nearest")
    axes.vlines(range(1, len(rows)), 0.0, 3.0, color="white", lw=3)
    axes.hlines((1.0, 2.0), 0.0, len(rows), color="white", lw=3)
    axes.set_aspect(inputs.shape[1] / inputs.shape[2])
    axes.set_yticks((0.5, 1.5, 2.5), ("input", "witness", "difference"))
    axes.set_xticks(np.arange(len(rows)) + 0.5, [_caption(result, p, row) for row in rows])
    axes.tick_params(length=0)
    return axes


def _line(pictures: Any) -> Any:
    return np.concatenate(list(pictures), axis=1)


def _caption(audit: Audit, norm: float, row: int) -> str:
    label = audit.classes[int(audit.columns["label"][row])]
    nearest = audit.classes[int(audit.nearest_class(norm)[row])]
    return f"{label} → {nearest}\n{float(audit.distance(norm)[row]):.3g}"


def _pictures(points: torch.Tensor) -> Any:
    """Return `(m, h, w, 1 or 3)` for pictures in any of their shapes."""
    images = points[:, None] if points.dim() == 3 else points
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        message = (
            "plots.witnesses: the inputs must be pictures, (n, h, w), (n, 1, h, w) or "
            f"(n, 3, h, w), got {tuple(points.shape)}. Draw `distances` or `robustness` instead."
        )
        raise ShapeError(message)
    return images.detach().cpu().double().permute(0, 2, 3, 1).numpy()


def _closest(audit: Audit, norm: float, count: int) -> list[int]:
    check_at_least_one("plots.witnesses", "count", count)
    rows = closest(audit, norm, count)
    if not rows:
        message = (
            "plots.witnesses: `result` must hold at least one input that is classified right and "
            f"has a witness, got none of {len(audit)}."
        )
        raise ParameterError(message)
    return rows


def _as_list(function: str, results: Audit | Sequence[Audit]) -> list[Audit]:
    audits = [results] if isinstance(results, Audit) else list(results)
    if not audits:
        message = f"plots.{function}: `results` must hold at least one audit, got none."
        raise ParameterError(message)
    return audits


def _norm(results: Audit | Sequence[Audit], norm: float | None) -> float:
    first = results if isinstance(results, Audit) else results[0]
    return first.norms[0] if norm is None else norm


def _words(norm: float) -> str:
    return {"2": "$L_2$", "inf": r"$L_\infty$"}.get(norm_name(norm), f"$L_{{{norm:g}}}$")


def _long(audit: Audit) -> bool:
    return max(len(name) for name in audit.classes) > 3
