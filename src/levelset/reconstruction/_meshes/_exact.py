"""The level set of a piecewise linear field as the polyhedron that it is."""

import numpy as np
import torch
from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._piecewise import AffinePieces, read_piecewise
from levelset._relaxation._program import Program
from levelset._tools.arguments import checked
from levelset._tools.calling import like_parameters
from levelset._tools.checks import check_level, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._typing import Corners, Field
from levelset.errors import FieldError
from levelset.reconstruction._meshes._extract import checked_box
from levelset.reconstruction._meshes._marching import Facets, march
from levelset.reconstruction._meshes._mesh import Mesh

__all__ = ["exact_mesh"]

_REMEDY = "`levelset.reconstruction.extract_mesh` makes a mesh of any field."
_STEPS = 60
# Off the places where fields of round numbers bend, as a share of a cell of the lattice.
_SHIFT = 0.0314159


@checked
def exact_mesh(
    field: Field,
    *,
    bounds: Corners,
    level: float = 0.0,
    seeds: int = 33,
    max_faces: int = 2_000_000,
) -> Mesh:
    r"""Return the level set $\{x : F(x) = c\}$ of a network of ReLUs in a box, as it is.

    The field is affine on each cell, so that its level set there is a polygon: where two cells
    meet, so do their polygons. Analytic marching goes from polygon to polygon across their edges.
    Corners are shared by which units they lie on, not by rounded coordinates, and put onto the
    level set by one last step, so that the mesh is closed and exact to rounding. Polygons are cut
    into triangles, which look towards larger values; there are no normals at corners, as the faces
    are flat.

    Every piece of the level set that crosses an edge of the lattice of seeds is there, however fine
    its features; a separate piece that fits between the seeds is not. Where the level set leaves
    the box the mesh is open.

    Units that coincide, or more than two that meet in a corner, are recognised to 1e-11 of the box.
    Where that is not enough edges are left unpaired, and `watertight` says so.

    Layers: Linear, ReLU, LeakyReLU, Hardtanh, ReLU6, BatchNorm (evaluation mode), Dropout,
    Identity, and branches that are added or joined. Evaluated in float64; the module is left as it
    was found.

    Cost: two affine maps and one polygon a cell: about 0.1 ms a polygon for 3-256-256-256-1.

    Args:
        field: The field F, a module that maps `(n, 3)` to `(n,)` or `(n, 1)`.
        bounds: The lowest and the highest corner of the box, `(2, 3)`, in units of the points.
        level: The level c, in the units of the field.
        seeds: Points of the lattice along each axis, on whose edges the level set is looked for.
        max_faces: More polygons than this are refused.

    Returns:
        The mesh; no vertices where the lattice meets no level set.

    Raises:
        FieldError: If the field has a layer that is smooth, pools or is not known, or code that
            cannot be traced.
        ParameterError: If the box is empty, or an option out of range.

    Example:
        >>> import torch
        >>> from levelset.reconstruction import exact_mesh
        >>> from torch import nn
        >>> field = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
        >>> _ = field[0].weight.data.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        >>> _ = field[0].bias.data.zero_()
        >>> _ = field[2].weight.data.fill_(1.0), field[2].bias.data.fill_(-1.0)
        >>> mesh = exact_mesh(field, bounds=((-2.0, -2.0, -2.1), (2.0, 2.0, 2.1)), seeds=8)
        >>> len(mesh.faces), mesh.watertight  # |x| + |y| + |z| = 1, an octahedron
        (8, True)

    References:
        - J. Lei, K. Jia, "Analytic marching: an analytic meshing solution from deep implicit
          surface networks", ICML 2020.
    """
    box = torch.as_tensor(checked_box(bounds, "exact_mesh"), dtype=torch.float64)
    check_level("exact_mesh", level)
    check_whole("exact_mesh", "seeds", seeds, at_least=2)
    check_whole("exact_mesh", "max_faces", max_faces)
    with frozen(field), torch.no_grad():
        middle = box.mean(0, keepdim=True)
        values = Evaluator("exact_mesh", field).values(middle.to(like_parameters(field)))
        if values.shape[1] != 1:
            message = (
                "exact_mesh: `field` must map (n, 3) to (n,) or (n, 1), got "
                f"{values.shape[1]} values a point."
            )
            raise FieldError(message)
        program = read_piecewise("exact_mesh", field, middle, values, _REMEDY, "field")
        for index, step in enumerate(program.steps):
            if index + 1 in program.needed and isinstance(step.operation, Largest):
                message = f"exact_mesh: `field` must not pool, but has {step.name}. {_REMEDY}"
                raise FieldError(message)
        pieces = AffinePieces(program, middle)
        starts = _seeds(program, pieces, level, box, seeds)
        if not len(starts):
            nothing = torch.zeros(0, 3, dtype=torch.float64)
            return Mesh(nothing, nothing.long())
        facets = march(pieces, level, box, starts, max_faces)
        return _mesh(facets)


def _seeds(program: Program, pieces: AffinePieces, level: float, box: Tensor, count: int) -> Tensor:
    """Return points where edges of a lattice cross the level set, `(s, 3)`."""
    ticks = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    ticks[1:-1] += _SHIFT / count
    axes = [torch.lerp(low, high, ticks) for low, high in box.T]
    lattice = torch.cartesian_prod(*axes)
    parts = [program.values(part)[program.output] for part in torch.split(lattice, 8192)]
    values = torch.cat(parts).reshape(-1) - level
    side = (values > 0).view(count, count, count)
    number = torch.arange(count**3).view(count, count, count)
    ends = []
    for axis in range(3):
        low, high = (number.narrow(axis, k, count - 1) for k in (0, 1))
        change = side.narrow(axis, 0, count - 1) != side.narrow(axis, 1, count - 1)
        ends.append(torch.stack([low[change], high[change]], 1))
    pairs = torch.cat(ends)
    start, end = lattice[pairs[:, 0]], lattice[pairs[:, 1]]
    at_start, at_end = values[pairs[:, 0]], values[pairs[:, 1]]
    share = at_start / (at_start - at_end)
    low, high = torch.zeros_like(share), torch.ones_like(share)
    open_ = torch.arange(len(share))
    for _ in range(_STEPS):
        if not len(open_):
            break
        points = torch.lerp(start[open_], end[open_], share[open_].unsqueeze(1))
        value, slope = _along(pieces, points, end[open_] - start[open_], level)
        before = (value > 0) == (at_start[open_] > 0)
        low[open_] = torch.where(before, share[open_], low[open_])
        high[open_] = torch.where(before, high[open_], share[open_])
        step = value / slope
        trial = share[open_] - step
        sound = (trial >= low[open_]) & (trial <= high[open_])
        share[open_] = torch.where(sound, trial, (low[open_] + high[open_]) / 2)
        open_ = open_[~(sound & (step.abs() <= 1e-15))]
    return torch.lerp(start, end, share.unsqueeze(1))


def _along(
    pieces: AffinePieces, points: Tensor, ways: Tensor, level: float
) -> tuple[Tensor, Tensor]:
    """Return the field less the level at points, and its slope along a way from each."""
    values, slopes = [], []
    for point, way in zip(torch.split(points, 1024), torch.split(ways, 1024), strict=True):
        end = pieces.maps(pieces.above(point))[1][:, :, 0]
        values.append(end[:, 0] + (end[:, 1:] * point).sum(1) - level)
        slopes.append((end[:, 1:] * way).sum(1))
    return torch.cat(values), torch.cat(slopes)


def _mesh(facets: Facets) -> Mesh:
    """Return polygons as triangles with shared corners."""
    _, first, number = np.unique(facets.names, return_index=True, return_inverse=True)
    loop = number.reshape(-1)
    starts = np.cumsum(facets.counts) - facets.counts
    fans = facets.counts - 2
    base = np.repeat(starts, fans)
    step = np.arange(fans.sum()) - np.repeat(np.cumsum(fans) - fans, fans)
    corners = np.stack([loop[base], loop[base + step + 1], loop[base + step + 2]], axis=1)
    return Mesh(torch.from_numpy(facets.places[first]), torch.from_numpy(corners))
