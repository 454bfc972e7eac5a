"""The network of ReLUs whose zero level set is a given polyhedron."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, shown
from levelset._typing import PerPoint, Points
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.shapes._polytopes._faces import TITLE, Faces, numbers, read_faces
from levelset.shapes._polytopes._formula import GATE, LEAST, MOST, Formula
from levelset.shapes._polytopes._half_spaces import read_half_spaces
from levelset.shapes._polytopes._linear import linear_layers, relu_widths
from levelset.shapes._polytopes._partition import partition

__all__ = ["PolytopeNetwork", "polytope_network"]

# Values of one layer that are worked out at once: 8 MiB in float64, which a cache holds.
_ELEMENTS = 2**20
# How near its faces the sign of a network is checked, in tolerances, and how many faces.
_NEAR, _CHECKED = 5_000, 20_000


def _gate(side: Tensor, near: Tensor, far: Tensor) -> Tensor:
    gated = torch.maximum(torch.minimum(side, near), torch.minimum(-side, far))
    return torch.maximum(gated, torch.minimum(near, far))


_APPLY: dict[str, Callable[..., Tensor]] = {
    LEAST: torch.minimum, MOST: torch.maximum, GATE: _gate,
}  # fmt: skip


class _Level(nn.Module):
    """One layer of minima, maxima and gates.

    Nodes of one kind, with operands from the layer before and from the layer's own planes in the
    same places, are one group, and take their operands from neighbouring rows: values are put in
    order once, planes are made in it.
    """

    planes: Tensor
    order: Tensor

    def __init__(self, formula: Formula, made: list[int], places: dict[int, int]) -> None:
        """Sort the nodes `made` here; `places` are the rows of those made in the layer before."""
        super().__init__()
        members: dict[tuple[Any, ...], list[tuple[int, ...]]] = {}
        for number in made:
            kind, operands = formula.nodes[number]
            operands = operands if kind == GATE else tuple(sorted(operands, reverse=True))
            key = (kind, *(operand < 0 for operand in operands))
            members.setdefault(key, []).append((number, *operands))
        self.groups: list[tuple[str, list[tuple[bool, slice]]]] = []
        self.places: dict[int, int] = {}
        taken: dict[bool, list[int]] = {False: [], True: []}
        for (kind, *own), rows in members.items():
            numbers, *columns = zip(*rows, strict=True)
            self.places.update((number, len(self.places)) for number in numbers)
            slices = []
            for planes, column in zip(own, columns, strict=True):
                start = len(taken[planes])
                taken[planes] += [-1 - n if planes else places[n] for n in column]
                slices.append((planes, slice(start, start + len(column))))
            self.groups.append((kind, slices))
        for name, values in (("order", taken[False]), ("planes", taken[True])):
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def forward(self, before: Tensor, points: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
        """Return the values `(m, n)`, of those of the layer before and of the layer's planes."""
        own = self.planes
        heights = torch.addmm(offsets[own].unsqueeze(1), weights[own], points.T)
        rows = {False: before[self.order], True: heights}
        return torch.cat([
            _APPLY[kind](*(rows[planes][part] for planes, part in operands))
            for kind, operands in self.groups
        ])  # fmt: skip


class PolytopeNetwork(nn.Module):
    r"""A polyhedron as the zero level set of a network, positive inside, negative outside.

    Made by `polytope_network`. Evaluated in the precision it is in (float64 unless converted),
    as minima, maxima and gates; `sequential()` is the same function of Linear and ReLU alone.

    Attributes:
        weights: The rows w of the affine functions $w \cdot x + c$, of length 1, `(nodes, d)`.
        offsets: The numbers c, `(nodes,)`.
        faces: How many faces, or planes that touch the solid, it was made of.
        nodes: How often the planes enter: once each if the solid is convex; more where a plane
            cuts others' faces.
        depth: How many layers of minima, maxima and gates lie above one another.
        layers: How many layers of ReLUs `sequential()` has.
        units: How many ReLUs it has.
    """

    weights: Tensor
    offsets: Tensor

    def __init__(self, formula: Formula, faces: int) -> None:
        super().__init__()
        self._formula = formula
        self.faces = faces
        widths = relu_widths(formula)
        levels: list[_Level] = []
        for made in formula.layers(gate=1):
            levels.append(_Level(formula, made, levels[-1].places if levels else {}))
        self.nodes, self.depth = formula.uses, len(levels)
        self.layers, self.units = len(widths), sum(widths)
        self.register_buffer("weights", torch.from_numpy(np.stack(formula.weights)))
        self.register_buffer("offsets", torch.tensor(formula.offsets, dtype=torch.float64))
        self._levels = nn.ModuleList(levels)
        self._widest = max(len(level.places) + len(level.planes) for level in levels)

    @checked
    def forward(self, points: Points) -> PerPoint:
        """Return the values of `(n, d)`, in the units of the points and in their precision.

        Memory does not grow with `n` unless a gradient is asked for.
        """
        check_columns("PolytopeNetwork", points, self.weights.shape[1])
        inner = points.to(self.weights.dtype)
        size = max(1, _ELEMENTS // self._widest)
        parts = [self._evaluate(part) for part in torch.split(inner, size)]
        return torch.cat(parts).to(points.dtype)

    @checked
    def sequential(self, *, max_weights: int = 100_000_000) -> nn.Sequential:
        r"""Return the same function as Linear and ReLU layers alone, `(n, d)` to `(n, 1)`.

        Minima and maxima are taken through ReLUs, $\min(a, b) = a - \sigma(a - b)$ with
        $a = \sigma(a) - \sigma(-a)$; the proof's $\max\{a, b\} = \sigma(a - b)/2 + \sigma(b - a)/2
        + (a + b)/2$ takes a unit more. A gate takes two layers. The layers are dense, so that
        their size grows with the square of a layer's width: a mesh of some thousand faces is
        better left as it is.

        Args:
            max_weights: More weights than this are refused.

        Raises:
            ParameterError: If it would have more weights.
        """
        widths = [self.weights.shape[1], *relu_widths(self._formula), 1]
        count = sum(a * b + b for a, b in pairwise(widths))
        if count > max_weights:
            message = (
                f"PolytopeNetwork.sequential: `max_weights` must be at least {count} for this "
                f"network, got {max_weights}. The network itself is the same function."
            )
            raise ParameterError(message)
        return linear_layers(self._formula, self.weights.dtype)

    def extra_repr(self) -> str:
        """Return the size for `print`."""
        return (
            f"d={self.weights.shape[1]}, faces={self.faces}, nodes={self.nodes}, "
            f"depth={self.depth}, layers={self.layers}, units={self.units}"
        )

    def __repr__(self) -> str:
        """Return the size on one line."""
        return f"PolytopeNetwork({self.extra_repr()})"

    def _evaluate(self, points: Tensor) -> Tensor:
        values = points.new_zeros(0, len(points))
        for level in self._levels:
            values = level(values, points, self.weights, self.offsets)
        return values[0]


@checked
def polytope_network(solid: Any) -> PolytopeNetwork:
    r"""Return the ReLU network whose zero level set is exactly a given polyhedron.

    The network F is positive inside, zero on the faces, negative outside. It is built by binary
    space partition: a plane cuts space in two, with d the height above it, and

    $$F = \max\bigl(\min(-d, F_-), \min(d, F_+), \min(F_-, F_+)\bigr),$$

    where $F_-$ and $F_+$ are right behind and before it. The last term keeps F off zero where
    a cutting plane runs through the inside; without it the planes would be level set too. What is
    convex becomes one flat minimum of heights below its planes. F is *not* the
    distance from the faces, but at most that in size, as its slope is 1 everywhere.

    The theorem takes a maximum of minima over all $3^k$ cells of k planes; this takes each plane
    about once for convex and mechanical parts, 1.6 to 1.8 times for a scan of a figure.

    Cost: 2 s for a mesh of 6,000 faces, 7 s for 20,000; a point costs some operations a node.

    Args:
        solid: A closed mesh whose faces look outwards: anything with `vertices`, `(v, 3)`, and
            `faces`, `(f, 3)`, as `levelset.reconstruction.Mesh` and trimesh's, or a tuple of both;
            in the plane `(v, 2)` and segments `(f, 2)` with the solid on their left, or closed
            `Polylines`, whose insides are even-odd. Or a tuple `(normals, offsets)`, `(k, d)` and
            `(k,)`, for the convex solid $\{x : N x \le h\}$ in any number of dimensions.

    Returns:
        The network; `sequential()` gives it as `nn.Sequential` of Linear and ReLU.

    Raises:
        ShapeError: If `solid` is none of these, or its rows do not fit together.
        DataError: If the mesh is open (its open edges are named), cuts itself (the faces are
            named), looks inwards or covers itself; if the half-spaces are unbounded or empty.

    Example:
        >>> import torch
        >>> from levelset.shapes import polytope_network
        >>> cube = (torch.cat([torch.eye(3), -torch.eye(3)]), torch.ones(6))
        >>> network = polytope_network(cube)
        >>> network(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0], [3.0, 0.0, 0.0]]))
        tensor([ 1.,  0., -2.])

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: theorem 1 and its proof.
    """
    pair = isinstance(solid, tuple | list) and len(solid) == 2
    if pair and numbers(solid[1]).ndim == 1:
        return _convex(*read_half_spaces(*solid))
    meshes = hasattr(solid, "vertices") and hasattr(solid, "faces")
    if not (pair or meshes or (hasattr(solid, "lines") and hasattr(solid, "closed"))):
        message = (
            f"{TITLE}: `solid` must be a mesh, closed polylines in the plane, or a tuple "
            f"(normals, offsets), got {shown(solid)}."
        )
        raise ShapeError(message)
    faces = read_faces(solid)
    network = PolytopeNetwork(partition(faces), len(faces.rows))
    _check_sides(network, faces)
    return network


def _convex(normals: Any, offsets: Any) -> PolytopeNetwork:
    formula = Formula()
    rows = [formula.affine(-n, float(h)) for n, h in zip(normals, offsets, strict=True)]
    formula.root = formula.fold(LEAST, rows)
    return PolytopeNetwork(formula, len(rows))


def _check_sides(network: PolytopeNetwork, faces: Faces) -> None:
    """Refuse faces that have the inside, or the outside, on both their sides."""
    rows = np.arange(len(faces.rows))
    if len(rows) > _CHECKED:
        rows = np.random.default_rng(0).choice(rows, _CHECKED, replace=False)
    middle = faces.corners[rows].mean(axis=1)
    step = _NEAR * faces.tolerance * faces.normals[rows]
    with torch.no_grad():
        inner, outer = (network(torch.from_numpy(middle + s * step)).numpy() for s in (-1, 1))
    wrong = rows[~((inner > 0) & (outer < 0))]
    if len(wrong):
        named = ", ".join(map(str, faces.rows[wrong[:3]])) + (", ..." if len(wrong) > 3 else "")
        message = (
            f"{TITLE}: each face of `solid` must have its inside behind it and its outside before "
            f"it, but {len(wrong)} do not (first: {named}): they lie on or within others. Make the "
            f"union of its parts first."
        )
        raise DataError(message)
