"""Singular values of samples, and which of them no random matrix of that size would have."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.stats import gamma
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, check_points, check_whole
from levelset._tools.precision import at_least_single
from levelset._tools.results import Result
from levelset._typing import PerPoint, Points, Summary
from levelset.errors import DataError, ParameterError, ShapeError

__all__ = ["Spectrum", "check_share", "dimension", "spectrum_of"]

Kind = Literal["points", "differences", "displacements"]
Law = Literal["gaussian", "flat"]

# The Tracy-Widom law of real matrices as a gamma law: shape, scale, shift.
_TRACY_WIDOM = 46.446, 0.186054, 9.84801
# Rounds in which the scale of the bulk and the values outside of it settle.
_ROUNDS = 50
# Places of the Marchenko-Pastur law at which it is summed up for its median.
_PLACES = 4001
# Singular values below this many units of rounding of the largest count as zero.
_ROUNDING = 100.0
# How far a singular value of a flat sample may be from the others, as a share: bends of a boundary
# move the bulk of an MNIST network's by up to 0.09.
_FLAT_SPREAD = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Result):
    r"""Singular values of a matrix with a row a sample, beside those of noise.

    Attributes:
        values: Singular values, descending, `(r,)`, r the smaller of rows and coordinates.
        directions: Right singular vectors, `(r, *d)`, each of length 1.
        low: Singular values below are smaller than those of noise: degenerate directions.
        high: Singular values above are larger than those of noise: dominant directions.
        scale: Standard deviation of an entry of that noise.
        rows: Independent rows of the matrix.
        coordinates: Coordinates of a row, e.
    """

    _headline: ClassVar = ("rows", "coordinates", "degenerate", "dominant")

    values: Tensor
    directions: Tensor
    low: float
    high: float
    scale: float
    rows: int
    coordinates: int

    @property
    def degenerate(self) -> int:
        """Number of directions in which there is less than noise."""
        return int((self.values < self.low).sum())

    @property
    def dominant(self) -> int:
        """Number of directions in which there is more than noise."""
        return int((self.values > self.high).sum())

    @checked
    def share(self, points: Points, *, count: int | None = None) -> PerPoint:
        r"""Return the share of each vector in the leading directions, $|P v|^2 / |v|^2$.

        A random direction has count / e on average.

        Args:
            points: Vectors, `(n, *d)`.
            count: How many of the leading directions span the subspace; `None` for the dominant.
        """
        count = self.dominant if count is None else count
        check_whole("Spectrum.share", "count", count, at_least=0)
        flat = points.flatten(1)
        if points.shape[1:] != self.directions.shape[1:]:
            message = (
                "Spectrum.share: `points` must have the shape "
                f"(n, {', '.join(map(str, self.directions.shape[1:]))}), got "
                f"{tuple(points.shape)}."
            )
            raise ShapeError(message)
        inside = flat @ self.directions[:count].flatten(1).to(flat).T
        return inside.square().sum(1) / flat.square().sum(1)

    def summary(self) -> Summary:
        """Return sizes, edges and the directions outside of them."""
        return {
            "rows": self.rows,
            "coordinates": self.coordinates,
            "degenerate": self.degenerate,
            "dominant": self.dominant,
            "low": self.low,
            "high": self.high,
            "largest": float(self.values[0]) if len(self.values) else 0.0,
            "smallest": float(self.values[-1]) if len(self.values) else 0.0,
        }


@checked
def dimension(
    points: Points,
    *,
    starts: Points | None = None,
    of: Kind = "points",
    law: Law = "gaussian",
    confidence: float = 0.9999,
    generator: torch.Generator | None = None,
) -> Spectrum:
    r"""Return the singular values of samples of a boundary, and how many directions are degenerate.

    `of="points"` takes the samples less their mean. `"differences"` takes differences of random
    pairs, each sample in one pair, over $\sqrt2$. `"displacements"` takes `points` - `starts`,
    which lie along the normals that were met: there the dominant directions count.

    Noise of m rows and e coordinates has singular values within $s (\sqrt m \pm \sqrt e)$
    (Marchenko and Pastur), give or take the fluctuation of its extreme values (Tracy and Widom).
    The scale s is that of the bulk: its median against the law's, over values between the edges
    only. What lies outside is a direction that the samples lack, or have too much of. A sample of
    the `flat` law has all values alike instead: there a value a tenth off their median counts.

    It counts directions, and not what they mean: a bend of the boundary that is larger than the
    sample's own scale adds spread along the normal, and hides it. Take enough samples: with m below
    20 e even a halved spread may pass for noise.

    In a flat sample less its mean one more value is low, at $\sqrt{1 - e/m}$ of the others: that of
    the mean. Near the boundary between two MNIST images the paper sees two degenerate values of a
    flat sample, and takes them for the two images. One is the normal of the boundary, the other
    this one; a Gaussian sample has the first alone.

    Cost: one singular value decomposition of `(m, e)`.

    Args:
        points: Samples, `(m, *d)`, at least three.
        starts: Where each came from, `(m, *d)`; for displacements.
        of: `points`, `differences` or `displacements`.
        law: Of the cloud that the samples were drawn from, as in
            [`sample`][levelset.boundary.sample].
        confidence: With which all singular values of pure noise lie between the edges, on either
            side.
        generator: Pairs the samples for differences; `None` for torch's global generator.

    Returns:
        The spectrum; on samples projected onto the orthant of k planes `degenerate` is k.

    Raises:
        DataError: If there are fewer than three samples, or one is not finite.
        ParameterError: If `starts` is missing where it is needed, or `confidence` is out of range.

    Example:
        >>> import torch
        >>> from levelset.boundary import dimension
        >>> from levelset.shapes import Orthant
        >>> starts = torch.randn(1000, 50, generator=torch.Generator().manual_seed(0))
        >>> dimension(Orthant(k=3, d=50).project(starts)).degenerate
        3

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 31, where the edge is
          seen by eye, and samples keep their mean, which is one dominant value and nothing else.
        - V. A. Marchenko, L. A. Pastur, Math. USSR Sb. 1 (1967), 457-483: the edges.
        - I. M. Johnstone, Ann. Stat. 29 (2001), 295-327, and Z. Ma, Bernoulli 18 (2012), 322-359:
          how far beyond them extreme values lie. M. Chiani, J. Multivariate Anal. 129 (2014),
          69-81: the gamma law in place of Tracy and Widom's.
    """
    _check(points, starts, of, confidence)
    flat = points.detach().flatten(1)
    rows = len(flat)
    if of == "points":
        flat, rows = flat - flat.mean(0), rows - 1
    elif of == "differences":
        device = flat.device if generator is None else generator.device
        order = torch.randperm(rows, generator=generator, device=device).to(flat.device)
        half = rows // 2
        flat, rows = (flat[order[:half]] - flat[order[half : 2 * half]]) / math.sqrt(2.0), half
    else:
        assert starts is not None, "checked above"
        flat = flat - starts.detach().flatten(1)
    spectrum = spectrum_of(flat, rows, points.shape[1:], confidence)
    if law == "gaussian" or of == "displacements":
        return spectrum
    middle = float(spectrum.values.double().median())
    low, high = (1.0 - _FLAT_SPREAD) * middle, (1.0 + _FLAT_SPREAD) * middle
    return replace(spectrum, low=low, high=high, scale=middle / math.sqrt(max(flat.shape)))


def _check(points: Tensor, starts: Tensor | None, of: Kind, confidence: float) -> None:
    check_points("dimension", points)
    if len(points) < 3:
        message = f"dimension: `points` must hold at least 3 samples, got {len(points)}."
        raise DataError(message)
    check_finite("dimension", points)
    check_share("dimension", "confidence", confidence)
    if (of == "displacements") != (starts is not None):
        message = (
            "dimension: `starts` must be given for `of='displacements'` and for no other, got "
            f"{'none' if starts is None else 'some'} for {of!r}."
        )
        raise ParameterError(message)
    if starts is None:
        return
    check_finite("dimension", starts, "starts")
    if starts.shape != points.shape:
        message = (
            f"dimension: `starts` must have the shape of `points` {tuple(points.shape)}, got "
            f"{tuple(starts.shape)}."
        )
        raise ShapeError(message)


def check_share(function: str, name: str, share: float) -> None:
    """Refuse a share that is not between 0 and 1."""
    if not 0.0 < share < 1.0:
        message = f"{function}: `{name}` must lie between 0 and 1, got {share}."
        raise ParameterError(message)


def spectrum_of(
    flat: Tensor,
    rows: int,
    shape: torch.Size,
    confidence: float,
    scale: float | None = None,
) -> Spectrum:
    """Return the spectrum of a matrix `(m, e)` that has so many independent rows.

    `scale` is the standard deviation of an entry of the noise to compare with; `None` for that of
    the bulk of the matrix itself.
    """
    _, values, directions = torch.linalg.svd(at_least_single(flat), full_matrices=False)
    count = min(rows, flat.shape[1])
    values, directions = values[:count].to(flat.dtype), directions[:count].to(flat.dtype)
    sizes = values.double().cpu().numpy()
    floor = _ROUNDING * torch.finfo(flat.dtype).eps * float(sizes[0]) if count else 0.0
    if scale is None:
        low, high, scale = _bulk(sizes, rows, flat.shape[1], confidence, floor)
    else:
        low, high = (scale * edge for edge in _edges(rows, flat.shape[1], confidence))
    return Spectrum(
        values=values,
        directions=directions.reshape(count, *shape),
        low=low,
        high=high,
        scale=scale,
        rows=rows,
        coordinates=flat.shape[1],
    )


def _bulk(
    sizes: np.ndarray, rows: int, columns: int, confidence: float, floor: float
) -> tuple[float, float, float]:
    """Return the edges of the bulk and the scale of its entries; none of the bulk if it is zero."""
    low, high, scale = 0.0, math.inf, 0.0
    for _ in range(_ROUNDS):
        inside = sizes[(sizes >= low) & (sizes <= high)]
        less = len(sizes) - len(inside)
        if not len(inside) or np.median(inside) <= floor:
            return 0.0, floor, 0.0
        most, least = max(rows, columns), max(min(rows, columns) - less, 1)
        scale = float(np.median(inside)) / math.sqrt(most * _median(least / most))
        edges = tuple(scale * edge for edge in _edges(most, least, confidence))
        if edges == (low, high):
            break
        low, high = edges
    return low, high, scale


def _edges(rows: int, columns: int, confidence: float) -> tuple[float, float]:
    """Return between which sizes all singular values of standard noise lie, each end by itself."""
    shape, width, shift = _TRACY_WIDOM
    quantile = float(gamma.ppf(confidence, shape, scale=width)) - shift
    long, short = math.sqrt(max(rows, columns) - 0.5), math.sqrt(min(rows, columns) - 0.5)
    spread = (long + short) * (1.0 / long + 1.0 / short) ** (1.0 / 3.0)
    high = math.sqrt((long + short) ** 2 + quantile * spread)
    if long <= short:
        return 0.0, high
    # The logarithm of the least value is nearer to the law than the value itself.
    ratio = (1.0 / short - 1.0 / long) ** (1.0 / 3.0) / (long - short)
    low = (long - short) * math.exp(0.5 * (ratio**2 / 8.0 - quantile * ratio))
    return low, high


@cache
def _median(ratio: float) -> float:
    """Return the median of the Marchenko-Pastur law of variance 1."""
    angle = np.linspace(0.0, math.pi, _PLACES)
    place = 1.0 + ratio - 2.0 * math.sqrt(ratio) * np.cos(angle)
    # With x = 1 + r - 2 sqrt(r) cos t the density is 2 sin(t)^2 / (pi x) in t.
    density = np.divide(np.sin(angle) ** 2, place, where=place > 0, out=np.zeros_like(place))
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return float(np.interp(0.5 * mass[-1], mass, place))
