"""A tetrahedron and a torus."""

import math

import torch

from levelset.reconstruction import Mesh

TETRAHEDRON = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
CORNERS = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def tetrahedron(shift=0.0, flipped=False):
    faces = torch.tensor(TETRAHEDRON)
    return Mesh(
        torch.tensor(CORNERS, dtype=torch.float64) + shift, faces.flip(1) if flipped else faces
    )


def torus(n=12, m=8):
    """A torus of quadrilaterals, each cut in two."""
    u = 2 * math.pi * torch.arange(n, dtype=torch.float64)[:, None] / n
    v = 2 * math.pi * torch.arange(m, dtype=torch.float64)[None] / m
    ring = 1 + 0.3 * v.cos()
    vertices = torch.stack([ring * u.cos(), ring * u.sin(), (0 * u + 0.3 * v.sin())], 2).view(-1, 3)
    i, j = torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij")
    a, b = i * m + j, (i + 1) % n * m + j
    c, d = (i + 1) % n * m + (j + 1) % m, i * m + (j + 1) % m
    faces = torch.stack([torch.stack([a, b, c], 2), torch.stack([a, c, d], 2)]).view(-1, 3)
    return Mesh(vertices, faces)
