"""How much the points leave open about each place of a surface."""

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from levelset._typing import Floats
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._orientation import UNSURE, OrientedPoints
from levelset.reconstruction._topology import Handle

__all__ = ["doubted", "doubted_as", "share_doubtful"]

NEAR = 8  # points whose confidence a corner has
AROUND = 1.5  # radii of a handle that is unclear, within which all is


def doubted(
    mesh: Mesh, beyond: Floats, points: OrientedPoints | None, unclear: tuple[Handle, ...]
) -> Mesh:
    """Return a mesh with the scalar `doubt` at its corners, from 0 to 1.

    1 where no point is near and on handles that may be none; elsewhere what the orientation of the
    nearest points lacks of certainty, in the median.

    Args:
        mesh: The mesh, in the unit frame.
        beyond: How far each corner is past the edge of the points, `(v,)`.
        points: The points with the confidence of their normals; `None` where no normal was
            estimated.
        unclear: The handles.
    """
    places = mesh.vertices.numpy()
    doubt = (beyond > 0.0).astype(np.float64)
    if points is not None:
        near = cKDTree(points.points).query(places, min(NEAR, len(points.points)))[1]
        confidence = np.median(points.confidence[near].reshape(len(places), -1), axis=1)
        doubt = np.maximum(doubt, np.clip(1.0 - confidence, 0.0, 1.0))
    for handle in unclear:
        away = np.linalg.norm(places - handle.loop.middle, axis=1)
        doubt[away <= AROUND * handle.loop.radius] = 1.0
    return replace(mesh, scalars=mesh.scalars | {"doubt": torch.from_numpy(doubt)})


def doubted_as(mesh: Mesh, other: Mesh) -> Mesh:
    """Return a mesh with the doubt that a coarser one has at the nearest corners."""
    nearest = cKDTree(other.vertices.numpy()).query(mesh.vertices.numpy())[1]
    doubt = other.scalars["doubt"][torch.from_numpy(nearest)]
    return replace(mesh, scalars=mesh.scalars | {"doubt": doubt})


def share_doubtful(mesh: Mesh) -> float:
    """Return the share of a mesh's area that is unsure, by the mean of each face's corners."""
    mean, areas = mesh.scalars["doubt"][mesh.faces].mean(1), mesh.face_areas
    return float(areas[mean >= 1.0 - UNSURE].sum() / areas.sum()) if len(areas) else 0.0
