"""What of a mesh the points speak for: pieces far from them, and faces far from them, go."""

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset.reconstruction._meshes._mesh import Mesh

__all__ = ["keep_faces", "keep_near", "keep_supported"]

SHARE = 1e-3  # of the points, below which a piece is a phantom


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
    kept = votes >= max(1.0, SHARE * len(points))
    if not bool(kept.any()):
        return mesh
    return keep_faces(mesh, kept[mesh.labels[mesh.faces[:, 0]]])


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


def keep_faces(mesh: Mesh, kept: Tensor) -> Mesh:
    """Return the faces where `kept`, `(f,)`, holds, and the vertices that they use."""
    faces = mesh.faces[kept]
    used, inverse = torch.unique(faces, return_inverse=True)
    normals = None if mesh.normals is None else mesh.normals[used]
    return Mesh(mesh.vertices[used], inverse.view(-1, 3), normals)
