"""Triangle meshes: corners, faces, normals and topology."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.files import write_whole
from levelset._tools.results import Result
from levelset.errors import DataError, ShapeError
from levelset.reconstruction._meshes._files import read_mesh, write_mesh

__all__ = [
    "Mesh",
    "colours_at",
    "keep_faces",
    "keep_near",
    "keep_supported",
    "local_means",
]

SHARE = 1e-3  # of the points, below which a piece is a phantom
SINGLES = (".stl", ".glb")  # formats in single precision
SINGLE = 2.0**-24  # the share of a number that single precision rounds away
ROUNDING = 1e-5  # of the size of a mesh, that may be
AVERAGED = 8  # points whose values a corner has
Array = NDArray[Any]


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Mesh(Result):
    """A surface of triangles.

    Seen from outside, the corners of a face run counter-clockwise. Corners that no face uses
    count for nothing but the length of `vertices`.

    Attributes:
        vertices: The corners, `(v, 3)`, float64.
        faces: Three rows of `vertices` each, `(f, 3)`, int64.
        normals: Unit vectors that point outwards at the corners, `(v, 3)`, float64, or `None`.
        colours: Red, green and blue at the corners, 0 to 1, `(v, 3)`, float64, or `None`.
        scalars: Further numbers at the corners by their names, each `(v,)`, float64.
    """

    _headline: ClassVar = ("vertices", "faces", "genus", "watertight", "area")

    vertices: Tensor
    faces: Tensor
    normals: Tensor | None = None
    colours: Tensor | None = None
    scalars: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shapes, and that the faces name corners that are there."""
        for name in ("vertices", "faces", "normals", "colours"):
            value = getattr(self, name)
            if value is not None and (value.dim() != 2 or value.shape[1] != 3):
                message = f"Mesh: `{name}` must have the shape (n, 3), got {tuple(value.shape)}."
                raise ShapeError(message)
        for name in ("normals", "colours"):
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != len(self.vertices):
                message = (
                    f"Mesh: `{name}` must have one row per vertex ({len(self.vertices)}), "
                    f"got {tuple(value.shape)}."
                )
                raise ShapeError(message)
            object.__setattr__(self, name, value.detach().to("cpu", torch.float64))
        for name, value in self.scalars.items():
            if value.shape != (len(self.vertices),):
                message = (
                    f"Mesh: `scalars[{name!r}]` must have one number per vertex "
                    f"({len(self.vertices)}), got {tuple(value.shape)}."
                )
                raise ShapeError(message)
        scalars = {k: v.detach().to("cpu", torch.float64) for k, v in self.scalars.items()}
        object.__setattr__(self, "scalars", scalars)
        if self.faces.is_floating_point():
            message = f"Mesh: `faces` must be integers, got {self.faces.dtype}."
            raise ShapeError(message)
        faces = self.faces.to("cpu", torch.int64)
        if len(faces) and not (int(faces.min()) >= 0 and int(faces.max()) < len(self.vertices)):
            message = (
                f"Mesh: `faces` must name rows 0 to {len(self.vertices) - 1} of `vertices`, got "
                f"{int(faces.min())} to {int(faces.max())}."
            )
            raise ShapeError(message)
        object.__setattr__(self, "faces", faces)
        object.__setattr__(self, "vertices", self.vertices.detach().to("cpu", torch.float64))

    @cached_property
    def edges(self) -> Tensor:
        """The edges, `(e, 2)`, each once, the smaller row first, in order."""
        return self._edges_and_uses[0]

    @cached_property
    def watertight(self) -> bool:
        """Whether every edge lies between two faces that run along it in opposite directions."""
        if not len(self.faces):
            return False
        _, uses, forward = self._edges_and_uses
        return bool((uses == 2).all() and (forward == 1).all())

    @cached_property
    def components(self) -> int:
        """How many pieces the faces make, two being one where they share a corner."""
        return len(self._labels_used)

    @cached_property
    def genus(self) -> int | None:
        """How many handles it has; `None` unless it is watertight and one piece."""
        if not self.watertight or self.components != 1:
            return None
        used = len(torch.unique(self.faces))
        euler = used - len(self.edges) + len(self.faces)
        return (2 - euler) // 2

    @cached_property
    def boundary_edges(self) -> int:
        """How many edges have one face only: 0 where the surface is closed."""
        return int((self._edges_and_uses[1] == 1).sum())

    @cached_property
    def labels(self) -> Tensor:
        """The piece that each vertex is of, `(v,)`, int64; vertices without a face are alone."""
        v, edges = len(self.vertices), self.edges.numpy()
        graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), (v, v))
        return torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))

    @cached_property
    def face_areas(self) -> Tensor:
        """The areas of the faces, `(f,)`, in squared units of the vertices."""
        return 0.5 * torch.linalg.vector_norm(self._face_vectors, dim=1)

    @cached_property
    def face_normals(self) -> Tensor:
        """Unit normals of the faces, `(f, 3)`, outwards; zero where the area is."""
        return torch.nn.functional.normalize(self._face_vectors, dim=1, eps=1e-300)

    @property
    def area(self) -> float:
        """The area, in squared units of the vertices."""
        return float(self.face_areas.sum())

    @property
    def volume(self) -> float:
        """The volume enclosed, positive where faces look outwards; of open surfaces, no meaning."""
        if not len(self.faces):
            return 0.0
        # about the middle, so that a surface far from the origin loses no digits
        corner = self.vertices[self.faces] - self.vertices.mean(0)
        return float((corner[:, 0] * torch.linalg.cross(corner[:, 1], corner[:, 2])).sum() / 6.0)

    def summary(self) -> dict[str, int | float | bool | None]:
        """Return counts and topology, ready for JSON."""
        return {
            "vertices": len(self.vertices),
            "faces": len(self.faces),
            "components": self.components,
            "genus": self.genus,
            "watertight": self.watertight,
            "area": self.area,
        }

    @checked
    def coloured(self, points: Tensor, colours: Tensor) -> "Mesh":
        """Return the mesh with colours at its corners, from points near them.

        Each corner has the mean of its eight nearest points, near ones counting more: a bell as
        wide as the distance to the third.

        Args:
            points: Where colours are known, `(n, 3)`, in units of the vertices; rows with NaN are
                passed over.
            colours: Red, green and blue of each, 0 to 1, `(n, 3)`.

        Raises:
            ShapeError: If the two are not of one shape, `(n, 3)`.
            DataError: If no point is finite.
        """
        return replace(self, colours=colours_at(self.vertices, points, colours))

    @checked
    def with_scalars(self, points: Tensor, scalars: dict[str, Tensor]) -> "Mesh":
        """Return the mesh with further numbers at its corners, from points near them.

        They are averaged as [`coloured`][levelset.reconstruction.Mesh.coloured] does colours. A
        name that the mesh has already keeps its numbers.

        Args:
            points: Where the numbers are known, `(n, 3)`, in units of the vertices; rows with NaN
                are passed over.
            scalars: Numbers of each point by name, `(n,)`; NaN where one is not known.

        Raises:
            ShapeError: If `points` is not `(n, 3)`, or a scalar not `(n,)`.
            DataError: If no point is finite.
        """
        if points.dim() != 2 or points.shape[1] != 3:
            message = (
                "Mesh.with_scalars: `points` must have the shape (n, 3), got "
                f"{tuple(points.shape)}."
            )
            raise ShapeError(message)
        new = {name: value for name, value in scalars.items() if name not in self.scalars}
        for name, value in new.items():
            if value.shape != points.shape[:1]:
                message = (
                    f"Mesh.with_scalars: `scalars[{name!r}]` must have one number for each of "
                    f"`points` {tuple(points.shape)}, got {tuple(value.shape)}."
                )
                raise ShapeError(message)
        finite = points.isfinite().all(1)
        if not bool(finite.any()):
            message = "Mesh.with_scalars: `points` must hold a finite point, got none."
            raise DataError(message)
        if not new:
            return self
        columns = torch.stack([value.detach().cpu().double() for value in new.values()], dim=1)
        places = points[finite].detach().cpu().double()
        means = local_means(self.vertices, places, columns[finite.cpu()])
        return replace(self, scalars=self.scalars | dict(zip(new, means.unbind(1), strict=True)))

    @property
    def origin(self) -> tuple[float, float, float]:
        """What STL and GLB take off the coordinates, as single precision would round them away.

        Zero unless the mesh is so far from the origin that it would lose more than 1e-5 of
        its size; then the middle of its box, in whole units where these are small against it.
        """
        if not len(self.vertices):
            return (0.0, 0.0, 0.0)
        low, high = self.vertices.amin(0), self.vertices.amax(0)
        size, largest = float((high - low).max()), float(self.vertices.abs().max())
        if largest * SINGLE <= ROUNDING * size:
            return (0.0, 0.0, 0.0)
        middle = (low + high) / 2
        x, y, z = (middle.round() if size > 1.0 else middle).tolist()
        return (x, y, z)

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the mesh, by the suffix `.ply`, `.obj`, `.stl` or `.glb`; return the path.

        The file is written whole and then renamed into place. PLY is binary with every digit;
        OBJ is text with as many; STL and GLB keep float32 by their definition, STL no normals
        and no colours of vertices. A mesh far from the origin, as those of surveys, is therefore
        moved to its own `origin` in STL and GLB, which a file beside, `NAME.origin.txt`, holds.
        PLY and GLB also hold the scalars. All but PLY need the extra `mesh`.

        Raises:
            ParameterError: If the suffix is another.
            RunError: If the file cannot be written.
            MissingExtraError: If trimesh is needed and not installed.
        """
        path, vertices = Path(path), self.vertices
        beside = path.with_name(f"{path.name}.origin.txt")
        moved = path.suffix.lower() in SINGLES and any(self.origin)
        if moved:
            vertices = vertices - torch.tensor(self.origin, dtype=torch.float64)
        write_mesh(
            path, vertices.numpy(), self.faces.numpy(), self._array("normals"),
            self._array("colours"), {name: value.numpy() for name, value in self.scalars.items()},
        )  # fmt: skip
        if moved:
            text = " ".join(f"{x!r}" for x in self.origin) + "\n"
            write_whole(beside, lambda partial: partial.write_text(text))
        return path

    def _array(self, name: str) -> Array | None:
        value: Tensor | None = getattr(self, name)
        return None if value is None else value.numpy()

    @classmethod
    @checked
    def read(cls, path: str | Path) -> "Mesh":
        """Read a mesh from a PLY, OBJ, STL, GLB or OFF file, in its own units.

        Faces of more corners become triangles. STL keeps the corners of every face apart; those
        in exactly the same place are joined. Normals are left behind. Needs the extra `mesh`.

        Raises:
            DataError: If the file is missing, damaged, or holds no faces.
            ParameterError: If the suffix is another.
            MissingExtraError: If trimesh is not installed.
        """
        vertices, faces = read_mesh(Path(path))
        return cls(torch.from_numpy(vertices), torch.from_numpy(faces))

    @cached_property
    def _face_vectors(self) -> Tensor:
        corner = self.vertices[self.faces]
        return torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])

    @cached_property
    def corner_vectors(self) -> Tensor:
        """Outward vectors at the corners, the sum of those of the faces there, `(n, 3)`."""
        vectors = torch.zeros_like(self.vertices)
        for corner in self.faces.T:
            vectors.index_add_(0, corner, self._face_vectors)
        return vectors

    @cached_property
    def _labels_used(self) -> Tensor:
        return torch.unique(self.labels[self.faces[:, 0]])

    @cached_property
    def _edges_and_uses(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the edges, how many faces use each, and how many of these from low to high."""
        faces, v = self.faces, max(len(self.vertices), 1)
        start, end = faces.flatten(), faces.roll(-1, 1).flatten()
        low, high = torch.minimum(start, end), torch.maximum(start, end)
        key, inverse, uses = torch.unique(low * v + high, return_inverse=True, return_counts=True)
        forward = torch.bincount(inverse[start < end], minlength=len(key))
        return torch.stack([key // v, key % v], dim=1), uses, forward


def keep_supported(mesh: Mesh, points: Tensor) -> Mesh:
    """Return the mesh without pieces that are the nearest to fewer than 0.1 % of the points.

    Nearest by the corners. All pieces stay if that would leave none.

    Args:
        mesh: The mesh.
        points: What it was made from, `(n, 3)`, in its units.
    """
    if mesh.components < 2 or not len(points):
        return mesh
    used = torch.unique(mesh.faces)
    tree = cKDTree(mesh.vertices[used].numpy())
    nearest = torch.from_numpy(tree.query(points.detach().cpu().double().numpy())[1])
    votes = torch.bincount(mesh.labels[used[nearest]], minlength=int(mesh.labels.max()) + 1)
    supported = votes >= max(1.0, SHARE * len(points))
    if not bool(supported.any()):
        return mesh
    return keep_faces(mesh, supported[mesh.labels[mesh.faces[:, 0]]])


def keep_near(mesh: Mesh, points: Tensor, distance: float) -> Mesh:
    """Return the mesh without the faces that have a corner farther than this from every point.

    Args:
        mesh: The mesh.
        points: What it was made from, `(n, 3)`, in its units.
        distance: How far, in the same units.
    """
    tree = cKDTree(points.detach().cpu().double().numpy())
    away = tree.query(mesh.vertices.numpy(), distance_upper_bound=distance)[0]
    near = torch.from_numpy(away).isfinite()
    return keep_faces(mesh, near[mesh.faces].all(1))


def keep_faces(mesh: Mesh, chosen: Tensor) -> Mesh:
    """Return the faces of a mask `(f,)`, and the vertices that they use."""
    faces = mesh.faces[chosen]
    used, inverse = torch.unique(faces, return_inverse=True)
    normals = None if mesh.normals is None else mesh.normals[used]
    colours = None if mesh.colours is None else mesh.colours[used]
    scalars = {name: value[used] for name, value in mesh.scalars.items()}
    return Mesh(mesh.vertices[used], inverse.view(-1, 3), normals, colours, scalars)


def colours_at(vertices: Tensor, points: Tensor, colours: Tensor) -> Tensor:
    """Return the colours of points, `(n, 3)`, averaged around other places, `(v, 3)`.

    As [`Mesh.coloured`][levelset.reconstruction.Mesh.coloured] does.
    """
    if points.shape != colours.shape or points.dim() != 2 or points.shape[1] != 3:
        message = (
            "Mesh.coloured: `points` and `colours` must have one shape, (n, 3), got "
            f"{tuple(points.shape)} and {tuple(colours.shape)}."
        )
        raise ShapeError(message)
    finite = points.isfinite().all(1) & colours.isfinite().all(1)
    places, values = (each[finite].detach().cpu().double() for each in (points, colours))
    if not len(places):
        message = "Mesh.coloured: `points` must hold a finite point with a colour, got none."
        raise DataError(message)
    return local_means(vertices, places, values).clamp(0.0, 1.0)


def local_means(vertices: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """Return the means of the values `(n, c)` at the eight nearest points, `(v, c)`.

    Near ones count more: a bell as wide as the distance to the third. Values that are NaN do not
    count; NaN where all are. Points must be finite.
    """
    count = min(AVERAGED, len(points))
    away, near = cKDTree(points.numpy()).query(vertices.numpy(), count)
    away, near = away.reshape(-1, count), near.reshape(-1, count)
    width = np.maximum(away[:, min(2, count - 1), None], 1e-300)
    weights = torch.from_numpy(np.exp(-0.5 * (away / width) ** 2) + 1e-12).unsqueeze(2)
    around = values[torch.from_numpy(near)]
    weights = weights * ~around.isnan()
    return (around.nan_to_num() * weights).sum(1) / weights.sum(1)
