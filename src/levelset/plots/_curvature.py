"""Curvature and detection: ordered profiles, means, cross-sections, ROC curves, ranks."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from levelset._display.figures import bin_edges
from levelset._display.palette import model_colours
from levelset._display.profiles import UNIT, Shown, broken, mean_profile
from levelset._display.profiles import places as places_of
from levelset._tools.arguments import checked
from levelset._typing import Labels
from levelset.boundary import CrossSection, Curvature
from levelset.boundary.detect import Roc
from levelset.errors import ParameterError
from levelset.plots._axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cross_section", "curvature", "mean_curvatures", "ranks", "roc"]


@checked
def curvature(
    results: Curvature | Mapping[str, Curvature], ax: "Axes | None" = None, *, ends: Shown = "all"
) -> "Axes":
    """Draw the mean of the ordered principal curvatures over the points.

    Args:
        results: One result, or several by what they are called.
        ax: Where to draw; `None` for new axes.
        ends: Which principal curvatures they hold, as they were measured: `all`, the `top`, the
            `bottom`, or `both` ends, which a gap parts.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no point, or a result holds other curvatures than `ends` says.
    """
    by_name = _by_name("curvature", results)
    at = [places_of("plots.curvature", result, ends) for result in by_name.values()]
    axes = axes_or_new(ax)
    axes.set(xlabel="place of the principal curvature", ylabel=f"mean over the points, {UNIT}")
    if not any(bool(result.principal.isfinite().all(1).any()) for result in by_name.values()):
        return _without_data(axes, "no point has principal curvatures")
    ticks = broken(at)
    for name, colour, place in zip(by_name, model_colours(len(by_name)), at, strict=True):
        x = range(len(place)) if ticks else [math.nan if p is None else p for p in place]
        values = mean_profile(by_name[name].principal, place)
        axes.plot(x, values, color=colour, label=name, marker="." if len(place) <= 40 else None)
    if ticks:
        axes.set_xticks(*ticks)
    axes.axhline(0.0, color="grey", lw=0.6)
    if len(by_name) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def mean_curvatures(
    results: Curvature | Mapping[str, Curvature], ax: "Axes | None" = None, *, bins: int = 40
) -> "Axes":
    """Draw histograms of the mean curvatures.

    Args:
        results: One result, or several by what they are called.
        ax: Where to draw; `None` for new axes.
        bins: Number of bins, the same ones for all results.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no point.
    """
    by_name = _by_name("mean_curvatures", results)
    axes = axes_or_new(ax)
    axes.set(xlabel=f"mean curvature, {UNIT}", ylabel="boundaries")
    means = [result.mean[result.mean.isfinite()].double().cpu() for result in by_name.values()]
    if not any(len(mean) for mean in means):
        return _without_data(axes, "no point has a mean curvature")
    edges = bin_edges(means, bins).tolist()
    for name, mean, colour in zip(by_name, means, model_colours(len(by_name)), strict=True):
        axes.hist(mean.numpy(), bins=edges, color=colour, alpha=0.5, label=name)
    axes.axvline(0.0, color="grey", lw=0.6)
    axes.locator_params(axis="y", integer=True)
    if len(by_name) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def cross_section(result: CrossSection, ax: "Axes | None" = None) -> "Axes":
    """Draw a field on the plane of normal and tangent, its zero line, x, y and z.

    Args:
        result: From [`cross_section`][levelset.boundary.cross_section].
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    ticks, values = result.ticks.double().cpu().numpy(), result.values.double().cpu().numpy()
    size = float(abs(values).max()) or 1.0
    axes.pcolormesh(ticks, ticks, values, cmap="RdBu", vmin=-size, vmax=size, shading="gouraud")
    axes.contour(ticks, ticks, values, levels=[0.0], colors="black")
    for name, place in (("x", result.start), ("y", result.perturbed), ("z", torch.zeros(2))):
        right, up = float(place[0]), float(place[1])
        axes.plot(right, up, "o", color="black", ms=4)
        axes.annotate(name, (right, up), textcoords="offset points", xytext=(4, 4))
    axes.set(xlabel="along the tangent", ylabel="along the normal")
    axes.set_aspect("equal")
    return axes


@checked
def roc(result: Roc, ax: "Axes | None" = None) -> "Axes":
    """Draw a receiver operating characteristic.

    Args:
        result: From `Detector.evaluate`.
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    axes.plot(result.false_alarms.cpu().numpy(), result.hits.cpu().numpy())
    axes.plot((0.0, 1.0), (0.0, 1.0), color="grey", lw=0.6)
    axes.set(xlabel="natural inputs flagged", ylabel="perturbed inputs flagged")
    axes.set_title(f"area {result.area:.3f} ({result.low:.3f} to {result.high:.3f})")
    return axes


@checked
def ranks(places: Labels, ax: "Axes | None" = None) -> "Axes":
    """Draw the share of inputs whose original class comes first, second, and so on.

    Args:
        places: From `Detection.rank`, `(n,)`, 0 for the first.
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no input.
    """
    if bool((places < 0).any()):
        message = f"plots.ranks: `places` must be 0 or more, got {int(places.min())}."
        raise ParameterError(message)
    if not len(places):
        message = "plots.ranks: `places` must hold at least one input, got none."
        raise ParameterError(message)
    axes = axes_or_new(ax)
    shares = torch.bincount(places.long().cpu()).double() / len(places)
    axes.bar(range(1, len(shares) + 1), shares.tolist())
    axes.set(xlabel="rank of the original class", ylabel="share of perturbed inputs")
    return axes


def _without_data(axes: "Axes", words: str) -> "Axes":
    """Say in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
    return axes


def _by_name(function: str, results: Curvature | Mapping[str, Curvature]) -> dict[str, Curvature]:
    by_name = {"": results} if isinstance(results, Curvature) else dict(results)
    if not by_name or not any(len(result) for result in by_name.values()):
        message = f"plots.{function}: `results` must hold at least one point, got none."
        raise ParameterError(message)
    return by_name
