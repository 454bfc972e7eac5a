"""Solids to make networks of, and which points lie inside them, worked out independently."""

import itertools
import math

import torch
from torch import Tensor

from levelset.reconstruction import Mesh


def blocks(cells: list[tuple[int, int, int]]) -> Mesh:
    """Return the surface of unit cubes at integer places, two triangles a square."""
    solid, rows, faces = set(cells), {}, []
    for cell, axis, end in itertools.product(sorted(solid), range(3), (0, 1)):
        beyond = list(cell)
        beyond[axis] += 2 * end - 1
        if tuple(beyond) in solid:
            continue
        around = [(0, 0), (1, 0), (1, 1), (0, 1)][:: 2 * end - 1]
        square = []
        for step in around:
            corner = list(cell)
            corner[axis] += end
            corner[(axis + 1) % 3] += step[0]
            corner[(axis + 2) % 3] += step[1]
            square.append(rows.setdefault(tuple(corner), len(rows)))
        faces += [square[:3], [square[0], *square[2:]]]
    return Mesh(torch.tensor(list(rows), dtype=torch.float64), torch.tensor(faces))


def l_block() -> Mesh:
    return blocks([(0, 0, 0), (1, 0, 0), (0, 1, 0)])


def torus_of_blocks() -> Mesh:
    return blocks([(i, j, 0) for i in range(3) for j in range(3) if (i, j) != (1, 1)])


def rock_of_twelve_faces() -> Mesh:
    """Return a cube with its corners moved at random, one of them far inside."""
    cube = blocks([(0, 0, 0)])
    noise = torch.rand(8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    vertices = cube.vertices + 0.3 * (noise - 0.5)
    vertices[0] = vertices.mean(0) * 0.9
    return Mesh(vertices, cube.faces)


def icosphere(rough: float = 0.0) -> Mesh:
    """Return an icosahedron with faces cut in four twice over, 320; rough by moving corners."""
    golden = (1 + math.sqrt(5)) / 2
    flat = [(a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    ends = (
        [(0, a, b) for a, b in flat] + [(a, b, 0) for a, b in flat] + [(b, 0, a) for a, b in flat]
    )
    vertices = torch.tensor(ends, dtype=torch.float64)
    triples = torch.combinations(torch.arange(12), 3)
    sides = (vertices[triples] - vertices[triples.roll(1, 1)]).norm(dim=2)
    faces = triples[(sides - 2).abs().amax(1) < 1e-9]
    for _ in range(2):
        corners = vertices[faces]
        middles = (corners + corners.roll(-1, 1)) / 2
        a, b, c = corners.unbind(1)
        ab, bc, ca = middles.unbind(1)
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        flat_corners = torch.cat([torch.stack(part, 1) for part in parts]).reshape(-1, 3)
        vertices, index = (flat_corners * 2**20).round().unique(dim=0, return_inverse=True)
        vertices, faces = vertices / 2**20, index.reshape(-1, 3)
    vertices = torch.nn.functional.normalize(vertices, dim=1)
    corners = vertices[faces]
    turned = (torch.linalg.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum(1) < 0
    faces = torch.where(turned.unsqueeze(1), faces.flip(1), faces)
    noise = torch.rand(len(vertices), generator=torch.Generator().manual_seed(5))
    return Mesh(vertices * (1 + rough * (noise.double() - 0.5)).unsqueeze(1), faces)


SOLIDS = {
    "L-block": l_block,
    "torus of blocks": torus_of_blocks,
    "rock of 12 faces": rock_of_twelve_faces,
    "icosphere": icosphere,
    "rough rock": lambda: icosphere(rough=0.6),
}


def inside(mesh: Mesh, points: Tensor) -> Tensor:
    """Return which points a mesh encloses: a ray crosses it an odd number of times."""
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    )
    corners = (mesh.vertices @ turn)[mesh.faces]
    sides = corners.roll(-1, 1) - corners
    normals = torch.linalg.cross(sides[:, 0], sides[:, 1])
    answers = []
    for part in (points @ turn).split(max(1, 2**16 // len(mesh.faces))):
        x, y, z = part.t().unsqueeze(2)
        left = [
            sides[:, i, 0] * (y - corners[:, i, 1]) > sides[:, i, 1] * (x - corners[:, i, 0])
            for i in range(3)
        ]
        within = (left[0] == left[1]) & (left[1] == left[2])
        # heights of the planes of the faces above or below the points
        slope = normals[:, :2] / normals[:, 2:]
        height = (corners[:, 0, :2] * slope).sum(1) + corners[:, 0, 2]
        above = height - x * slope[:, 0] - y * slope[:, 1] > z
        answers.append((within & above).sum(1) % 2 == 1)
    return torch.cat(answers)


def cloud(mesh: Mesh, n: int, seed: int = 0) -> Tensor:
    """Return points in the box of a mesh, a tenth wider."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    draws = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low - 0.1 * (high - low) + 1.2 * (high - low) * draws


def on_faces(mesh: Mesh, n: int) -> Tensor:
    """Return n points of every face."""
    shares = -torch.rand(
        len(mesh.faces), n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).log()
    shares = shares / shares.sum(2, keepdim=True)
    return (shares @ mesh.vertices[mesh.faces]).reshape(-1, 3)
