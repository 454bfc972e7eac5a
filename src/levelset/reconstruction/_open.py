"""Surfaces that stay open: where the points end, and the mesh cut along that line."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._typing import Floats
from levelset.reconstruction._meshes._mesh import Mesh, keep_faces

__all__ = ["Footprint", "Lid", "cut_along", "lids"]

NEAR = 32  # points looked at for each corner
WIDTH = 1.5  # of the bell, in spacings
EDGE = 0.798  # mean of half a normal distribution, in standard deviations
ALIKE = 0.3  # cosine between normals from which a point speaks for a corner
FLAT = 1.5  # spacings off that plane within which it does
HOLE = 2.0  # spacings to the nearest point, from which there is a hole
AVERAGED = 0.7  # spacings over which what is said of a corner is averaged
MOST_ROUNDS = 200  # of averaging, where the mesh is far finer than the points
SLIVER = 1e-3  # of an edge, within which it is not cut
BATCH = 65_536
MANY = 30_000  # edges that say how long they are


@dataclass(frozen=True, eq=False)
class Footprint:
    r"""The part of a surface that points cover.

    Around a corner the points of its own sheet are weighed by a bell of 1.5 of their spacings, in
    the plane across their mean normal. Inside, their mean is the corner; where they end along a
    straight line it is $\sqrt{2/\pi} = 0.798$ standard deviations off, and more beyond. That line
    is the edge of the surface. Where the nearest point is more than two spacings away there is a
    hole.

    Attributes:
        points: The points, `(n, 3)`.
        normals: Unit normals of the surface at them, `(n, 3)`.
        spacing: The side of the square that each stands for, `(n,)`.
        spread: Their standard deviation about the surface around each, `(n,)`.
    """

    points: Floats
    normals: Floats
    spacing: Floats
    spread: Floats

    def of(self, mesh: Mesh) -> Floats:
        """Return how far the corners of a mesh with normals are past the edge, `(v,)`.

        Averaged over 0.7 spacings along the mesh: near the edge the surface bends away to its lid,
        here more and there less, and the line where the values are zero would wind about the edge,
        a tenth longer than it is.
        """
        assert mesh.normals is not None, "extracted meshes have normals"
        values = self.beyond(mesh.vertices.numpy(), mesh.normals.numpy())
        return _averaged(mesh, np.clip(values, -EDGE, EDGE), AVERAGED * np.median(self.spacing))

    def beyond(self, places: Floats, normals: Floats) -> Floats:
        """Return how far places on the surface are past its edge, `(v,)`: negative inside.

        In standard deviations of the bell near the edge; elsewhere only the sign has a meaning.

        Args:
            places: On the surface, `(v, 3)`.
            normals: Its unit normals there, `(v, 3)`.
        """
        tree = cKDTree(self.points)
        parts = [
            self._beyond(tree, places[start : start + BATCH], normals[start : start + BATCH])
            for start in range(0, len(places), BATCH)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def _beyond(self, tree: cKDTree, places: Floats, normals: Floats) -> Floats:
        near = tree.query(places, min(NEAR, len(self.points)))[1]
        spacing = np.median(self.spacing[near[:, :8]], axis=1)
        width = WIDTH * spacing
        offset = self.points[near] - places[:, None]
        alike = np.einsum("nkj,nj->nk", self.normals[near], normals) > ALIKE
        # flat as the points are: at the edge the surface already bends away
        flat = _direction(self.normals[near], alike * _bell(offset, width), normals)
        height = np.einsum("nkj,nj->nk", offset, flat)
        along = offset - height[..., None] * flat[:, None]
        thick = np.maximum(FLAT * spacing[:, None], 3.0 * self.spread[near])
        own = alike & (np.abs(height) < thick)
        weight = own * _bell(along, width)
        total = weight.sum(1)
        mean = np.einsum("nk,nkj->nj", weight, along) / np.maximum(total, 1e-300)[:, None]
        off = np.linalg.norm(mean, axis=1) / width - EDGE
        gap = np.where(own, (along**2).sum(2), np.inf).min(1)
        return np.where(total > 0.0, np.maximum(off, np.sqrt(gap) / (HOLE * spacing) - 1.0), 1.0)


def _bell(offset: Floats, width: Floats) -> Floats:
    """Return weights of offsets `(n, k, 3)` by a bell of a width each, `(n, k)`."""
    return np.asarray(np.exp(-0.5 * (offset**2).sum(2) / width[:, None] ** 2))


def _direction(normals: Floats, weights: Floats, default: Floats) -> Floats:
    """Return the direction of weighted normals `(n, k, 3)`, a default where all weigh 0."""
    mean = np.einsum("nk,nkj->nj", weights, normals)
    size = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.where(size > 0.0, mean / np.maximum(size, 1e-300), default)


def _averaged(mesh: Mesh, values: Floats, width: float) -> Floats:
    """Return values at corners, averaged by a bell of a width in the mesh: rounds of neighbours."""
    if not len(mesh.faces):
        return values
    faces, count = mesh.faces.numpy(), len(values)
    starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    edges = csr_matrix((np.ones(len(starts)), (starts, ends)), (count, count))
    edges = ((edges + edges.T) > 0).astype(np.float64)
    mean = diags(1.0 / np.maximum(np.diff(edges.indptr), 1)) @ edges
    length = (mesh.vertices[starts[:MANY]] - mesh.vertices[ends[:MANY]]).norm(dim=1).median()
    # a round spreads a value by half an edge, to either side
    for _ in range(min(round((2.0 * width / float(length)) ** 2), MOST_ROUNDS)):
        values = (values + mean @ values) / 2.0
    return values


@dataclass(frozen=True)
class Lid:
    """A part of a closed surface where no points are.

    Attributes:
        middle: Of its corners, in the units of the mesh.
        width: Of its box, along the longest side.
        area: Its area.
    """

    middle: tuple[float, float, float]
    width: float
    area: float


def lids(mesh: Mesh, beyond: Floats) -> list[Lid]:
    """Return the parts of a closed mesh that no points cover, the largest first.

    Args:
        mesh: The mesh.
        beyond: How far each corner is past the edge of the points, `(v,)`.
    """
    bare = cut_along(mesh, -beyond)
    if not len(bare.faces):
        return []
    label = bare.labels[bare.faces[:, 0]]
    areas = torch.bincount(label, bare.face_areas)
    result = []
    for piece in torch.unique(label).tolist():
        places = bare.vertices[bare.labels == piece]
        low, high = places.amin(0), places.amax(0)
        x, y, z = ((low + high) / 2).tolist()
        result.append(Lid((x, y, z), float((high - low).max()), float(areas[piece])))
    return sorted(result, key=lambda lid: -lid.area)


def cut_along(mesh: Mesh, values: Floats) -> Mesh:
    """Return the part of a mesh where values at its corners are negative, cut at their zeros.

    Faces that the line runs through are cut into one or two triangles, with new corners
    where the value, linear along an edge, is zero, but not so near its ends that slivers result.

    Args:
        mesh: The mesh; normals and scalars go along, colours do not.
        values: One a corner, `(v,)`.
    """
    inside = values < 0.0
    faces = mesh.faces.numpy()
    count = inside[faces].sum(1)
    # turned so that the corner of its own side comes first
    single = np.where((count == 1)[:, None], inside[faces], ~inside[faces]).argmax(1)
    turned = np.take_along_axis(faces, (single[:, None] + np.arange(3)) % 3, 1)
    crossing = (count == 1) | (count == 2)
    first, second, third = turned[crossing].T
    starts, ends = np.r_[first, first], np.r_[second, third]
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    keys, row = np.unique(low * len(values) + high, return_inverse=True)
    a, b = keys // len(values), keys % len(values)
    share = np.clip(values[a] / (values[a] - values[b]), SLIVER, 1.0 - SLIVER)[:, None]
    ends = torch.from_numpy(a), torch.from_numpy(b)
    new = _between(mesh.vertices, ends, torch.from_numpy(share))
    one, two = np.split(row + len(values), 2)  # on the edges to the second and third corner
    tips = count[crossing] == 1
    parts = [
        faces[count == 3],
        np.stack([first, one, two], 1)[tips],
        np.stack([one, second, third], 1)[~tips],
        np.stack([one, third, two], 1)[~tips],
    ]
    normals = None
    if mesh.normals is not None:
        between = _between(mesh.normals, ends, torch.from_numpy(share))
        normals = torch.cat([mesh.normals, torch.nn.functional.normalize(between, dim=1)])
    scalars = {
        name: torch.cat([value, _between(value[:, None], ends, torch.from_numpy(share))[:, 0]])
        for name, value in mesh.scalars.items()
    }
    vertices, rows = torch.cat([mesh.vertices, new]), torch.from_numpy(np.concatenate(parts))
    whole = Mesh(vertices, rows, normals, scalars=scalars)
    return keep_faces(whole, torch.ones(len(whole.faces), dtype=torch.bool))


def _between(values: Tensor, ends: tuple[Tensor, Tensor], share: Tensor) -> Tensor:
    """Return values `(m, c)` at a share `(m, 1)` of the way between two rows each."""
    return (1.0 - share) * values[ends[0]] + share * values[ends[1]]
