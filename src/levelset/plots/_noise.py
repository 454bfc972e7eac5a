"""Noise: histograms of persistence, persistence along a segment, classes as noise grows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from levelset._display.figures import class_names, edges_from_zero
from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset.boundary import PathPersistence, Persistence
from levelset.errors import ParameterError
from levelset.plots._axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["class_frequencies", "persistence", "persistence_along"]


@checked
def persistence(
    results: Persistence | Mapping[str, Persistence], ax: "Axes | None" = None, *, bins: int = 40
) -> "Axes":
    """Draw histograms of persistence over the same bins, as of natural and adversarial inputs.

    Points without a finite persistence are left out.

    Args:
        results: One result, or several by what they are called.
        ax: Where to draw; `None` for new axes.
        bins: Number of bins from 0 to the largest persistence.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If there is no result, or `bins` is below 1.
    """
    by_name = {"": results} if isinstance(results, Persistence) else dict(results)
    if not by_name or bins < 1:
        message = (
            "plots.persistence: `results` must hold at least one result and `bins` be at least 1, "
            f"got {len(by_name)} and {bins}."
        )
        raise ParameterError(message)
    axes = axes_or_new(ax)
    columns = [r.sigma[r.sigma.isfinite()].double().cpu() for r in by_name.values()]
    edges = edges_from_zero(columns, bins)
    for name, sigma, colour in zip(by_name, columns, model_colours(len(by_name)), strict=True):
        counts, _ = np.histogram(sigma.numpy(), edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(counts, edges, color=colour, label=name)
    gammas = sorted({result.gamma for result in by_name.values()})
    words = ", ".join(f"{gamma:g}" for gamma in gammas)
    axes.set(xlabel=f"persistence, gamma = {words}", ylabel="inputs")
    axes.set_xlim(left=0.0)
    if len(by_name) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def class_frequencies(
    frequencies: Tensor,
    sigmas: Tensor,
    ax: "Axes | None" = None,
    *,
    classes: Sequence[str] | None = None,
) -> "Axes":
    """Draw the share of each class as the noise grows; the class without noise is drawn thick.

    Args:
        frequencies: Shares `(s, k)`, from
            [`class_frequencies`][levelset.boundary.class_frequencies].
        sigmas: The noise of each row, `(s,)`.
        ax: Where to draw; `None` for new axes.
        classes: Names of the classes; `None` for their numbers.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ShapeError: If rows and noises, or columns and names, do not match.
    """
    names = class_names("plots.class_frequencies", frequencies, sigmas, classes)
    axes = axes_or_new(ax)
    shares, x = (part.detach().double().cpu().numpy() for part in (frequencies, sigmas))
    shown, mark = np.flatnonzero(shares.any(axis=0)), "o" if len(sigmas) == 1 else None
    for i, colour in zip(shown, model_colours(len(shown)), strict=True):
        width = 3.0 if i == shares[0].argmax() else 1.2
        axes.plot(x, shares[:, i], label=names[i], lw=width, color=colour, marker=mark)
    axes.set(xlabel="noise, standard deviation", ylabel="share of the copies", ylim=(0.0, 1.02))
    axes.legend(frameon=False)
    return axes


@checked
def persistence_along(result: PathPersistence, ax: "Axes | None" = None) -> "Axes":
    """Draw persistence along a segment, a line a gamma with its interval; dashes where classes end.

    Args:
        result: From [`persistence_along`][levelset.boundary.persistence_along].
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    x = result.fraction.double().cpu().numpy()
    colours = model_colours(len(result.gammas))
    for place, (gamma, colour) in enumerate(zip(result.gammas, colours, strict=True)):
        low, middle, high = (
            np.where(np.isfinite(ends), ends, np.nan)
            for ends in (
                part[:, place].double().cpu().numpy()
                for part in (result.low, result.sigma, result.high)
            )
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(x, middle, color=colour, label=f"gamma = {gamma:g}")
    classes = result.classes.cpu().numpy()
    for step in np.flatnonzero(classes[1:] != classes[:-1]):
        axes.axvline(0.5 * (x[step] + x[step + 1]), color="0.5", ls="--", lw=0.8)
    axes.set(xlabel="way from start to end", ylabel="persistence")
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False)
    return axes
