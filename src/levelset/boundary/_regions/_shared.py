"""Directions that the boundaries near many inputs share, and noise inside and outside of them."""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._logits import as_logits
from levelset._projection import Newton, project
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_points,
    check_positive,
    check_same_rows,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.precision import at_least_single
from levelset._tools.random import Streams
from levelset._tools.results import Rows
from levelset._typing import Field, FieldLabels, Model, PerPoint, Points, Progress, Summary
from levelset.boundary._regions._spectrum import Spectrum, check_share, spectrum_of
from levelset.errors import NotConvergedError, ParameterError, ShapeError

__all__ = ["SubspacePersistence", "shared_directions", "subspace_persistence"]

Directions: TypeAlias = Float[Tensor, "s ..."]

# Doublings from the largest noise over as many, and halvings, that locate a noise.
_DOUBLINGS, _HALVINGS = 14, 8


@checked
def shared_directions(
    field: Field,
    points: Points,
    *,
    labels: FieldLabels = None,
    confidence: float = 0.9999,
    tol: float = 1e-3,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Spectrum:
    r"""Return the singular values of the boundary's normals near many inputs.

    Each input is projected onto the zero level set of the field, and the unit normal there is a
    row. Normals that had nothing in common would be random unit vectors, whose singular values lie
    within $(\sqrt n \pm \sqrt e) / \sqrt e$; those above are shared, and `dominant` counts them.
    Their directions span the subspace; `share` says how much of a perturbation lies in it.

    Cost: about ten gradients a point, and a singular value decomposition of `(n, e)`.

    Args:
        field: The field, one equation; of a classifier take [`Margin`][levelset.Margin].
        points: Inputs, `(n, *d)`.
        labels: Passed to the field, `(n, ...)`.
        confidence: With which no singular value of random normals lies above the edge.
        tol: Residual of a projection, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` in points.

    Returns:
        The spectrum; `rows` says how many inputs reached the boundary.

    Raises:
        NotConvergedError: If fewer than two inputs reach it.

    References:
        - Alonso & Bonin, section 2.3.3, after S.-M. Moosavi-Dezfooli et al., "Robustness of
          classifiers to universal perturbations: a geometric perspective", ICLR 2018.
    """
    check_points("shared_directions", points)
    check_finite("shared_directions", points)
    check_same_rows("shared_directions", points, labels, "labels")
    check_share("shared_directions", "confidence", confidence)
    with frozen(field):
        ends = project(
            field, points.detach(), labels=labels, method=Newton(max_iter=40), tol=tol,
            batch_size=batch_size, progress=progress,
        )  # fmt: skip
        ends = ends[ends.converged]
        evaluator = Evaluator("shared_directions", field, batch_size)
        _, jacobian = evaluator.value_and_jacobian(ends.points, ends.labels)
    if jacobian.shape[1] != 1 and len(ends):
        message = (
            f"shared_directions: `field` must have one equation, got {jacobian.shape[1]}. Of a "
            "classifier take Margin or LogitDifference."
        )
        raise ShapeError(message)
    gradient = jacobian.flatten(1)
    length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    unit = (gradient / length)[(length > 0).flatten()] if len(ends) else gradient
    if len(unit) < 2:
        message = (
            f"shared_directions: `points` must hold at least 2 inputs that reach the boundary, got "
            f"{len(unit)} of {len(points)}. Give inputs nearer to it, or a larger `tol`."
        )
        raise NotConvergedError(message)
    scale = 1.0 / math.sqrt(unit.shape[1])
    return spectrum_of(unit, len(unit), points.shape[1:], confidence, scale)


@dataclass(frozen=True, eq=False, repr=False)
class SubspacePersistence(Rows):
    r"""Persistence to noise inside a subspace, and outside of it.

    Attributes:
        inside: The noise inside, `(n,)`, as the standard deviation of a coordinate of isotropic
            noise of the same mean square length; infinite if none up to the limit flips enough.
        outside: The same outside.
        gamma: Share of the copies that keep their class.
        directions: How many span the subspace.
    """

    _headline: ClassVar = ("points", "gamma", "inside_median", "outside_median")

    inside: PerPoint
    outside: PerPoint
    gamma: float
    directions: int

    def summary(self) -> Summary:
        """Return both medians."""
        numbers: Summary = {
            "points": len(self), "gamma": self.gamma, "directions": self.directions,
        }  # fmt: skip
        if len(self):
            numbers["inside_median"] = float(self.inside.median())
            numbers["outside_median"] = float(self.outside.median())
        return numbers


@checked
def subspace_persistence(
    model: Model,
    points: Points,
    directions: Directions,
    *,
    gamma: float = 0.7,
    draws: int = 200,
    max_sigma: float = 100.0,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> SubspacePersistence:
    r"""Compare how much noise inside and outside a subspace an input's class survives.

    With P the projection onto the span of the s directions, noise inside is
    $\sigma \sqrt{e / s}\; P z$ and outside $\sigma \sqrt{e / (e - s)}\; (z - P z)$, z standard
    normal: both have the mean square length of isotropic noise of $\sigma$. The least $\sigma$ at
    which fewer than gamma of the copies keep the class is located by doubling and halving, with
    the same draws throughout.

    Cost: about 20 `draws` forward passes a point and side.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`.
        points: Inputs, `(n, *d)`.
        directions: What spans the subspace, `(s, *d)`, as `Spectrum.directions[:s]`; s below e.
        gamma: Share of the copies that keep their class.
        draws: Copies of each point.
        max_sigma: The largest noise that is tried, in the units of the points.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed; `None` for torch's global generator.

    Returns:
        Both noises.

    References:
        - Alonso & Bonin, section 2.3.3: invariant to noise outside, vulnerable to noise inside.
    """
    check_points("subspace_persistence", points)
    check_finite("subspace_persistence", points)
    check_share("subspace_persistence", "gamma", gamma)
    check_at_least_one("subspace_persistence", "draws", draws)
    check_positive("subspace_persistence", "max_sigma", max_sigma)
    points = points.detach()
    basis = _basis(points, directions.detach())
    size, span = basis.shape
    streams = Streams(generator, points)
    with frozen(model):
        logits = as_logits("subspace_persistence", model, points)
        evaluator = Evaluator("subspace_persistence", logits, batch_size)
        own = evaluator.outputs(points).argmax(1) if len(points) else None
        sides = []
        for is_inside in (True, False):
            stretch = math.sqrt(size / (span if is_inside else size - span))
            parts = [points.new_zeros(0)]
            for part in row_batches(len(points), max(2**23 // max(draws * size, 1), 1)):
                assert own is not None, "there are points"
                drawn = streams.normal(torch.arange(part.start, part.stop), (draws, size))
                inside = (drawn @ basis) @ basis.T
                noise = stretch * (inside if is_inside else drawn - inside)
                search = _Search(evaluator, points[part], own[part], noise, gamma)
                parts.append(search.sigma(max_sigma))
            sides.append(torch.cat(parts))
    return SubspacePersistence(sides[0], sides[1], gamma, span)


class _Search:
    """Finds the noise at which too few copies of each point keep their class."""

    def __init__(
        self, evaluator: Evaluator, points: Tensor, own: Tensor, noise: Tensor, gamma: float
    ) -> None:
        self.evaluator, self.points, self.own = evaluator, points, own
        self.noise, self.gamma = noise, gamma

    def sigma(self, most: float) -> Tensor:
        """Return the least noise for each point, infinite where there is none up to `most`."""
        high = self.points.new_full((len(self.points),), most * 2.0**-_DOUBLINGS)
        open_ = torch.ones_like(high, dtype=torch.bool)
        for _ in range(_DOUBLINGS):
            open_[open_.clone()] = self._keeps(high, open_)
            high = torch.where(open_, 2.0 * high, high)
        open_[open_.clone()] = self._keeps(high, open_)
        low, everyone = 0.5 * high, torch.ones_like(open_)
        for _ in range(_HALVINGS):
            middle = (low * high).sqrt()
            keeps = self._keeps(middle, everyone)
            low, high = torch.where(keeps, middle, low), torch.where(keeps, high, middle)
        return torch.where(open_, math.inf, (low * high).sqrt())

    def _keeps(self, sigma: Tensor, rows: Tensor) -> Tensor:
        """Return whether enough copies of the points `rows` keep their class, `(rows.sum(),)`."""
        size = sigma[rows].view(-1, 1, 1)
        flat = self.points[rows].flatten(1).unsqueeze(1) + size * self.noise[rows]
        copies = flat.flatten(0, 1).view(-1, *self.points.shape[1:])
        if not len(copies):
            return torch.zeros(0, dtype=torch.bool, device=sigma.device)
        labels = self.evaluator.outputs(copies).argmax(1).view(flat.shape[:2])
        same = (labels == self.own[rows].unsqueeze(1)).double().mean(1)
        return same >= self.gamma


def _basis(points: Tensor, directions: Tensor) -> Tensor:
    """Return an orthonormal basis of the directions, `(e, s)`."""
    size, span = points[:1].numel() if len(points) else directions[:1].numel(), len(directions)
    if directions.shape[1:] != points.shape[1:] or not 0 < span < size:
        message = (
            f"subspace_persistence: `directions` must have the shape (s, "
            f"{', '.join(map(str, points.shape[1:]))}) with s from 1 to {size - 1}, got "
            f"{tuple(directions.shape)}."
        )
        raise ShapeError(message)
    q, r = torch.linalg.qr(at_least_single(directions.flatten(1)).to(points.device).T)
    if not bool((r.diagonal().abs() > 1e-6 * r.abs().max()).all()):
        message = (
            "subspace_persistence: `directions` must be independent, got some that others span. "
            "Take the leading singular vectors."
        )
        raise ParameterError(message)
    return q.to(points)
