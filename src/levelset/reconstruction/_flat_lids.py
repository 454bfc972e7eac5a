"""Lids of a closed surface, drawn flat across the holes that they close."""

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import splu
from torch import Tensor

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._meshes._mesh import Mesh

__all__ = ["flat_lids"]


def flat_lids(mesh: Mesh, beyond: Floats) -> Mesh:
    r"""Return a closed mesh with its lids drawn taut, as a soap film across their rims.

    Corners of lids that have a neighbour on the rest move to where the edge between them meets the
    edge of the points, all others to the mean of their neighbours, at once, by one sparse solve
    (the embedding of Tutte): a rim in a plane gets a lid in that plane, any other a smooth one.
    Corners that points bear out stay where they are.

    Args:
        mesh: The mesh, closed, with normals.
        beyond: How far each corner is past the edge of the points, `(v,)`; lids are where it
            is positive.
    """
    bare = _lids(mesh, beyond > 0.0)
    if not bare.any():
        return mesh
    places = mesh.vertices.numpy().copy()
    edges = mesh.edges.numpy()
    rim = _to_rim(places, edges, bare, beyond)
    free = bare & ~rim
    one, other = edges.T
    ones = np.ones(2 * len(one))
    links = coo_array((ones, (np.r_[one, other], np.r_[other, one])), (len(free),) * 2).tocsr()
    rows = links[free]
    if free.any():
        laplacian = diags_array(rows.sum(1)) - rows[:, free]
        places[free] = splu(laplacian.tocsc()).solve(rows[:, ~free] @ places[~free])
    return _with_normals(replace(mesh, vertices=torch.from_numpy(places)), torch.from_numpy(bare))


def _to_rim(places: Floats, edges: Integers, bare: Booleans, beyond: Floats) -> Booleans:
    """Move corners of lids next to the rest to the rim, in place; return which these are."""
    crossing = edges[bare[edges[:, 0]] != bare[edges[:, 1]]]
    inside, outside = np.where(bare[crossing[:, :1]], crossing[:, ::-1], crossing).T
    share = beyond[inside] / (beyond[inside] - beyond[outside])
    meets = places[inside] + share[:, None] * (places[outside] - places[inside])
    count = np.bincount(outside, minlength=len(places))
    rim = count > 0
    total = np.stack([np.bincount(outside, axis, len(places)) for axis in meets.T], 1)
    places[rim] = total[rim] / count[rim, None]
    return np.asarray(rim)


def _lids(mesh: Mesh, bare: Booleans) -> Booleans:
    """Return the bare corners of pieces that have others too: a piece without a rim has no lid."""
    labels = mesh.labels.numpy()
    borne = np.bincount(labels, ~bare, minlength=int(labels.max(initial=0)) + 1) > 0
    return np.asarray(bare & borne[labels])


def _with_normals(mesh: Mesh, chosen: Tensor) -> Mesh:
    """Return the mesh with new normals at some corners: means of those of their faces, by area."""
    assert mesh.normals is not None, "extracted meshes have normals"
    corners = mesh.vertices[mesh.faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(mesh.vertices)
    for corner in mesh.faces.T:
        total.index_add_(0, corner, areas)
    fresh = torch.nn.functional.normalize(total, dim=1)
    return replace(mesh, normals=torch.where(chosen[:, None], fresh, mesh.normals))
