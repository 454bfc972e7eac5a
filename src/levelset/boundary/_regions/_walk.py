"""Random walks that stay on a level set."""

import math

import torch
from torch import Tensor

from levelset._projection import Projection, check_tolerance, project
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_level,
    check_points,
    check_positive,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.precision import at_least_single
from levelset._typing import Field, FieldLabels, Progress
from levelset.errors import NotConvergedError, ShapeError

__all__ = ["walk"]

# Newton steps along fixed normals that bring a step back onto the level set.
_STEPS = 12


@checked
def walk(
    field: Field,
    point: Tensor,
    *,
    steps: int,
    step: float,
    level: float = 0.0,
    labels: FieldLabels = None,
    chains: int = 1,
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Projection:
    r"""Walk at random over the level set of a field, from a point of it.

    A step is a normal vector of the tangent space of standard length `step`, and a move along the
    normals at the start of it, back onto the level set. It is taken with the probability at which
    the way back would be drawn as often, so that in the long run the walk is uniform over the
    surface (Metropolis): a step that finds no way back is not taken, and the walk stays a round
    where it is.

    Cost: about 6 gradients a step; chains go together.

    Args:
        field: The field; maps `(n, *d)` to `(n,)`, or to `(n, l)` for `l` equations.
        point: Where the walk begins, `(*d)`; projected first where it is not on the level set.
        steps: Steps of each chain.
        step: Root mean square length of a step, in the units of the points.
        level: The level c, in units of the field.
        labels: Passed to the field: what goes with the point, `(1, ...)`.
        chains: Walks side by side.
        tol: Largest |F - c| on the level set, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws the steps; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in steps.

    Returns:
        Where the walks were after each step, `(chains * steps, *d)`, chain by chain; `iterations`
        is 1 where the step was taken, 0 where the walk stayed.

    Raises:
        NotConvergedError: If the point projects to nowhere on the level set.
        ShapeError: If `labels` has not one row.

    Example:
        >>> import torch
        >>> from levelset.boundary import walk
        >>> from levelset.shapes import Sphere
        >>> path = walk(Sphere(), torch.tensor([0.0, 0.0, 1.0]), steps=100, step=0.3)
        >>> path.points.shape, bool(path.converged.all())
        (torch.Size([100, 3]), True)

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 31.
        - E. Zappa, M. Holmes-Cerfon, J. Goodman, "Monte Carlo on manifolds: sampling densities and
          integrating functions", Comm. Pure Appl. Math. 71 (2018), 2609-2647: the step.
    """
    points = point.unsqueeze(0) if isinstance(point, Tensor) else point
    check_points("walk", points, "point")
    check_finite("walk", points, "point")
    check_at_least_one("walk", "steps", steps)
    check_at_least_one("walk", "chains", chains)
    check_positive("walk", "step", step)
    check_level("walk", level)
    check_tolerance("walk", tol, points)
    labels = _one_row(labels, points)
    with frozen(field):
        first = project(field, points, level=level, labels=labels, tol=tol, batch_size=batch_size)
        if not bool(first.converged.all()):
            message = (
                f"walk: `point` must lead to the level {level:g}, but its projection misses it by "
                f"{float(first.residual):.3g}. Start nearer to the level set."
            )
            raise NotConvergedError(message)
        more = None if labels is None else labels.expand(chains, *labels.shape[1:])
        surface = _Surface(field, points.shape[1:], level, more, tol, batch_size)
        state = _State(surface, first.points.flatten(1).expand(chains, -1))
        device = points.device if generator is None else generator.device
        places, taken, residual = [], [], []
        for done in range(1, steps + 1):
            shape = state.points.shape
            drawn = torch.randn(shape, generator=generator, device=device, dtype=points.dtype)
            chance = torch.rand(chains, generator=generator, device=device, dtype=points.dtype)
            accepted = state.advance(drawn.to(points.device), chance.to(points.device), step)
            places.append(state.points)
            taken.append(accepted)
            residual.append(state.residual)
            if progress is not None:
                progress(done, steps)
    size = torch.stack(residual, 1).flatten()
    return Projection(
        points=torch.stack(places, 1).reshape(-1, *points.shape[1:]),
        residual=size,
        converged=size <= tol,
        iterations=torch.stack(taken, 1).flatten().long(),
        labels=None if more is None else more.repeat_interleave(steps, 0),
    )


class _Surface:
    """Values and normals of a level set, on flat points."""

    def __init__(
        self,
        field: Field,
        shape: torch.Size,
        level: float,
        labels: Tensor | None,
        tol: float,
        batch_size: int | None,
    ) -> None:
        self.evaluator = Evaluator("walk", field, batch_size)
        self.shape, self.level, self.labels, self.tol = shape, level, labels, tol

    def look(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return F - c, `(m, l)`, and its derivatives, `(m, l, e)`."""
        shaped = flat.view(-1, *self.shape)
        values, jacobian = self.evaluator.value_and_jacobian(shaped, self.labels)
        return values - self.level, jacobian

    def along(self, start: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Move along fixed normals `(m, e, l)` onto the level set.

        Returns where that ends, which arrived, the residual and the derivatives there.
        """
        here = start
        for _ in range(_STEPS):
            values, jacobian = self.look(here)
            if bool((values.abs().amax(1) <= self.tol).all()):
                break
            square = at_least_single(jacobian @ normals)
            sound = torch.linalg.det(square).abs() > torch.finfo(square.dtype).tiny
            square = torch.where(
                sound.view(-1, 1, 1), square, torch.eye(square.shape[1]).to(square)
            )
            right = values.to(square.dtype).unsqueeze(2)
            move = torch.linalg.solve(square, right).squeeze(2).to(values.dtype)
            open_ = (values.abs().amax(1) > self.tol) & sound
            step = (normals @ move.unsqueeze(2)).squeeze(2).nan_to_num(0.0, 0.0, 0.0)
            here = torch.where(open_.unsqueeze(1), here - step, here)
        values, jacobian = self.look(here)
        size = values.abs().amax(1)
        return here, size <= self.tol, size, jacobian


class _State:
    """Where the chains are, and their normals there."""

    def __init__(self, surface: _Surface, points: Tensor) -> None:
        self.surface, self.points = surface, points.contiguous()
        values, jacobian = surface.look(self.points)
        self.residual = values.abs().amax(1)
        self.normals = _orthonormal(jacobian)

    def advance(self, drawn: Tensor, chance: Tensor, step: float) -> Tensor:
        """Take a step in every chain where it is accepted, and return where."""
        free = max(drawn.shape[1] - self.normals.shape[2], 1)
        sigma = step / math.sqrt(free)
        tangent = _off(sigma * drawn, self.normals)
        end, arrived, size, jacobian = self.surface.along(self.points + tangent, self.normals)
        normals = _orthonormal(jacobian)
        back = _off(self.points - end, normals)
        # The same search from the other side must lead back here, or the way is one-way.
        origin, returned, _, _ = self.surface.along(end + back, normals)
        gap = torch.linalg.vector_norm(origin - self.points, dim=1)
        returned &= gap <= 1e-2 * torch.linalg.vector_norm(tangent, dim=1)
        ratio = (tangent.square().sum(1) - back.square().sum(1)) / (2.0 * sigma**2)
        accepted = arrived & returned & (chance < ratio.clamp(max=0.0).exp())
        self.points = torch.where(accepted.unsqueeze(1), end, self.points)
        self.normals = torch.where(accepted.view(-1, 1, 1), normals, self.normals)
        self.residual = torch.where(accepted, size, self.residual)
        return accepted


def _orthonormal(jacobian: Tensor) -> Tensor:
    """Return an orthonormal basis of the normals, `(m, e, l)`."""
    return torch.linalg.qr(at_least_single(jacobian).transpose(1, 2))[0].to(jacobian.dtype)


def _off(vectors: Tensor, normals: Tensor) -> Tensor:
    """Return vectors less their parts along the normals."""
    inside = vectors.unsqueeze(1) @ normals
    return vectors - (inside @ normals.transpose(1, 2)).squeeze(1)


def _one_row(labels: Tensor | None, points: Tensor) -> Tensor | None:
    if labels is None:
        return None
    tensor = labels.unsqueeze(0) if labels.dim() == 0 else labels
    if len(tensor) != 1:
        message = f"walk: `labels` must have one row, got {tuple(labels.shape)}."
        raise ShapeError(message)
    return tensor.to(points.device)
