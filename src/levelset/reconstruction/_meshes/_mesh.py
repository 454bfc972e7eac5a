"""Triangle meshes: corners, faces, normals, and what holds of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.results import Result
from levelset.errors import ShapeError
from levelset.reconstruction._meshes._mesh_files import read_mesh, write_mesh

__all__ = ["Mesh"]


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
    """

    _headline: ClassVar = ("vertices", "faces", "genus", "watertight", "area")

    vertices: Tensor
    faces: Tensor
    normals: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes, and that the faces name corners that are there."""
        for name in ("vertices", "faces", "normals"):
            value = getattr(self, name)
            if value is not None and (value.dim() != 2 or value.shape[1] != 3):
                message = f"Mesh: `{name}` must have the shape (n, 3), got {tuple(value.shape)}."
                raise ShapeError(message)
        if self.normals is not None and len(self.normals) != len(self.vertices):
            message = (
                f"Mesh: `normals` must have one row per vertex ({len(self.vertices)}), "
                f"got {tuple(self.normals.shape)}."
            )
            raise ShapeError(message)
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
        if self.normals is not None:
            object.__setattr__(self, "normals", self.normals.detach().to("cpu", torch.float64))

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
    def save(self, path: str | Path) -> Path:
        """Write the mesh, by the suffix `.ply`, `.obj`, `.stl` or `.glb`; return the path.

        The file is written whole and then renamed into place. PLY is binary with every digit;
        OBJ is text with as many; STL and GLB keep float32 by their definition, STL no normals
        of vertices. All but PLY need the extra `mesh`.

        Raises:
            ParameterError: If the suffix is another.
            RunError: If the file cannot be written.
            MissingExtraError: If trimesh is needed and not installed.
        """
        normals = None if self.normals is None else self.normals.numpy()
        return write_mesh(Path(path), self.vertices.numpy(), self.faces.numpy(), normals)

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
