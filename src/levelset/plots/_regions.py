"""The shape of class regions: spectra, simplices, angles, paths, mixtures, crossings."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from levelset._display.palette import CLASS_COLOURS, model_colours
from levelset._tools.arguments import checked
from levelset._typing import Floats
from levelset.boundary import (
    Convexity,
    DecisionLevel,
    Link,
    Planarity,
    Skewness,
    Spectrum,
    normality,
)
from levelset.errors import ParameterError
from levelset.plots._axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "convexity",
    "crossings",
    "links",
    "planarity",
    "simplex",
    "skewness",
    "spectrum",
]

T = TypeVar("T")


@checked
def spectrum(results: Spectrum | Mapping[str, Spectrum], ax: "Axes | None" = None) -> "Axes":
    """Draw singular values in their order, and the band that those of noise lie in.

    Args:
        results: One result, or several by what they are called.
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result.
    """
    by_name = _by_name("spectrum", results)
    axes = axes_or_new(ax)
    for (name, result), colour in zip(by_name.items(), model_colours(len(by_name)), strict=True):
        values = result.values.double().cpu().numpy()
        place = np.arange(1, len(values) + 1)
        words = f"{result.dominant} above, {result.degenerate} below"
        label = f"{name}: {words}" if name else words
        if len(values) <= 100:
            axes.plot(place, values, ".", color=colour, label=label, ms=6)
        else:
            axes.plot(place, values, color=colour, label=label)
        outside = (values > result.high) | (values < result.low)
        axes.plot(place[outside], values[outside], "o", color=colour, ms=4)
        axes.axhspan(result.low, result.high, color=colour, alpha=0.10, lw=0)
    axes.set(xlabel="place", ylabel="singular value", ylim=(0.0, None))
    axes.legend(frameon=False)
    return axes


@checked
def simplex(
    result: DecisionLevel, ax: "Axes | None" = None, *, classes: Sequence[int] | None = None
) -> "Axes":
    """Draw points in the simplex of the probabilities of two or three classes.

    Of three classes the triangle, with the ties of each two, which meet in the centre; of two the
    line of probabilities that sum to 1, and the one point of it where they tie.

    Args:
        result: From [`decision_level`][levelset.boundary.decision_level].
        ax: Where to draw; `None` for new axes.
        classes: Which two or three classes; `None` for those most often first or second. Their
            probabilities are divided by their sum.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there are not two or three different classes of the model.
    """
    shares = result.probabilities.double().cpu().numpy()
    chosen = _corners(result, shares.shape[1], classes)
    axes = axes_or_new(ax)
    part = shares[:, chosen]
    part = part / part.sum(axis=1, keepdims=True)
    owner = part.argmax(axis=1)
    if len(chosen) == 2:
        corners = np.array([[1.0, 0.0], [0.0, 1.0]])
        axes.plot((1.0, 0.0), (0.0, 1.0), color="#E69F00", lw=1.2)
        axes.plot((0.0, 1.0), (0.0, 1.0), color="0.3", lw=1.2)
        axes.set(xlabel=f"probability of {chosen[0]}", ylabel=f"probability of {chosen[1]}")
    else:
        turn = math.pi / 2 - 2.0 * math.pi * np.arange(3) / 3
        corners = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        axes.fill(*corners.T, fill=False, color="#E69F00", lw=1.2)
        for place, corner in enumerate(corners):
            middle = np.delete(corners, place, axis=0).mean(axis=0)
            axes.plot((0.0, middle[0]), (0.0, middle[1]), color="0.3", lw=1.2)
            at = 1.12 * corner
            axes.text(at[0], at[1], str(chosen[place]), ha="center", va="center")
        axes.set_axis_off()
        axes.set(xlim=(-1.2, 1.2), ylim=(-0.8, 1.25))
    for place in range(len(chosen)):
        at = part[owner == place] @ corners
        axes.plot(at[:, 0], at[:, 1], ".", ms=4, alpha=0.6, color=CLASS_COLOURS[place])
    axes.set_aspect("equal")
    return axes


@checked
def planarity(result: Planarity, ax: "Axes | None" = None) -> "Axes":
    """Draw the angle of the normals against the radius, a line a point, and the limit.

    Args:
        result: From [`planarity`][levelset.boundary.planarity].
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    radii = result.radii.double().cpu().numpy()
    angle = np.degrees(result.angle.double().cpu().numpy())
    for row in angle:
        axes.plot(radii, row, color="#2A86C8", lw=0.8, alpha=0.35)
    if len(angle):
        axes.plot(radii, np.median(angle, axis=0), color="#2A86C8", lw=2.0, label="median")
    axes.axhline(math.degrees(result.limit), color="0.5", ls="--", lw=0.8, label="limit")
    axes.set(xlabel="radius", ylabel="mean angle of the normals, degrees", xscale="log")
    axes.set_ylim(bottom=0.0)
    if len(radii) <= 10:
        axes.set_xticks(radii, [f"{radius:.2g}" for radius in radii])
        axes.minorticks_off()
    axes.legend(frameon=False)
    return axes


@checked
def skewness(
    results: Skewness | Mapping[str, Skewness], ax: "Axes | None" = None, *, bins: int = 36
) -> "Axes":
    """Draw histograms of the largest angle of two facets' normals; a dash marks the right angle.

    Args:
        results: One result, or several by what they are called.
        ax: Where to draw; `None` for new axes.
        bins: Number of bins from 0 to 180 degrees.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result, or `bins` is below 1.
    """
    by_name = _by_name("skewness", results)
    edges = np.linspace(0.0, 180.0, _bins("skewness", bins) + 1)
    axes = axes_or_new(ax)
    for (name, result), colour in zip(by_name.items(), model_colours(len(by_name)), strict=True):
        angle = np.degrees(result.largest.double().cpu().numpy())
        counts, _ = np.histogram(angle, edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(counts, edges, color=colour, label=name)
    axes.axvline(90.0, color="0.5", ls="--", lw=0.8)
    axes.set(xlabel="largest angle of two facets, degrees", ylabel="points", xlim=(0.0, 180.0))
    if len(by_name) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def links(results: Link | Mapping[str, Link], ax: "Axes | None" = None) -> "Axes":
    """Draw how many pairs are joined by one piece, by two, and so on, and how many are not.

    Args:
        results: One result, or several by what they are called.
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result.
    """
    by_name = _by_name("links", results)
    axes = axes_or_new(ax)
    most = max(int(r.pieces.max()) if len(r) else 0 for r in by_name.values())
    width = 0.8 / len(by_name)
    for place, (name, colour) in enumerate(zip(by_name, model_colours(len(by_name)), strict=True)):
        pieces = by_name[name].pieces.cpu().numpy()
        counts = np.bincount(pieces, minlength=most + 1)
        at = np.arange(most + 1) + width * (place - 0.5 * (len(by_name) - 1))
        bars = axes.bar(at, counts, width, color=colour, label=name)
        axes.bar_label(bars, [str(count) if count else "" for count in counts], fontsize=8)
    axes.set(xlabel="pieces of the path", ylabel="pairs")
    axes.set_xticks(
        range(most + 1), ["none", "straight", *map(str, range(2, most + 1))][: most + 1]
    )
    if len(by_name) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def convexity(
    results: Convexity | Sequence[Convexity] | Mapping[str, Sequence[Convexity]],
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the share of mixtures inside against the inputs in a mixture, with intervals.

    Args:
        results: Results for several k, or several such lists by what they are called.
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result.
    """
    by_name = dict(results) if isinstance(results, Mapping) else {"": results}
    lists = {n: [r] if isinstance(r, Convexity) else list(r) for n, r in by_name.items()}
    if not lists or not all(lists.values()):
        message = "plots.convexity: `results` must hold at least one result, got none."
        raise ParameterError(message)
    axes = axes_or_new(ax)
    for (name, rows), colour in zip(lists.items(), model_colours(len(lists)), strict=True):
        ordered = sorted(rows, key=lambda row: row.k)
        k, share = [row.k for row in ordered], [row.share for row in ordered]
        below = [row.share - row.low for row in ordered]
        above = [row.high - row.share for row in ordered]
        axes.errorbar(
            k, share, (below, above), color=colour, marker="o", ms=4, capsize=3, label=name
        )
    axes.set(xlabel="inputs in a mixture", ylabel="share that keeps the class")
    axes.set_ylim(top=1.0 + 0.05 * (1.0 - axes.get_ylim()[0]))
    if len(lists) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def crossings(values: Tensor, ax: "Axes | None" = None, *, bins: int = 40) -> "Axes":
    """Draw where dropout samples change class, and the Gaussian of that mean and deviation.

    Args:
        values: From [`dropout_crossings`][levelset.boundary.dropout_crossings].
        ax: Where to draw; `None` for new axes.
        bins: Number of bins from 0 to 1.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If `bins` is below 1.
    """
    edges = np.linspace(0.0, 1.0, _bins("crossings", bins) + 1)
    axes = axes_or_new(ax)
    places: Floats = values.detach().double().cpu().numpy().ravel()
    places = places[np.isfinite(places)]
    axes.hist(places, edges.tolist(), color="#2A86C8", alpha=0.5)
    axes.set(xlabel="way from start to end", ylabel="changes of class", xlim=(0.0, 1.0))
    if len(places) > 2 and places.std() > 0:
        fit = normality(values, draws=1, generator=torch.Generator())
        x = np.linspace(0.0, 1.0, 400)
        density = np.exp(-0.5 * ((x - fit.mean) / fit.deviation) ** 2)
        scale = len(places) * (edges[1] - edges[0]) / (fit.deviation * math.sqrt(2.0 * math.pi))
        axes.plot(x, scale * density, color="#D55E00", label=f"Gaussian, {fit.distance:.3f} away")
        axes.legend(frameon=False)
    return axes


def _corners(result: DecisionLevel, count: int, classes: Sequence[int] | None) -> list[int]:
    """Return the classes at the corners of the simplex."""
    if classes is None:
        often = np.bincount(result.classes.cpu().numpy().ravel(), minlength=count)
        chosen = sorted(np.argsort(-often, kind="stable")[: min(3, count)].tolist())
    else:
        chosen = [int(one) for one in classes]
    inside = all(0 <= one < count for one in chosen)
    if len(chosen) not in (2, 3) or len(set(chosen)) < len(chosen) or not inside:
        message = (
            "plots.simplex: `classes` must be two or three different classes from 0 to "
            f"{count - 1}, got {chosen}."
        )
        raise ParameterError(message)
    return chosen


def _bins(function: str, bins: int) -> int:
    if bins < 1:
        message = f"plots.{function}: `bins` must be at least 1, got {bins}."
        raise ParameterError(message)
    return bins


def _by_name(function: str, results: T | Mapping[str, T]) -> dict[str, T]:
    by_name = dict(results) if isinstance(results, Mapping) else {"": results}
    if not by_name:
        message = f"plots.{function}: `results` must hold at least one result, got none."
        raise ParameterError(message)
    return by_name
