"""Networks of polyhedra: the right sign everywhere, zero on the faces, against rays."""

import math

import pytest
import torch
from solids import SOLIDS, blocks, cloud, icosphere, inside, l_block, on_faces

from levelset import project
from levelset.reconstruction import Mesh, Polylines
from levelset.shapes import polytope_network


@pytest.mark.parametrize("name", SOLIDS)
def test_signs_are_those_of_a_ray(name):
    mesh = SOLIDS[name]()
    network, points = polytope_network(mesh), cloud(mesh, 1_000)
    assert torch.equal(network(points) > 0, inside(mesh, points))
    assert network(on_faces(mesh, 10)).abs().max() <= 1e-14


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLIDS)
def test_no_sign_of_a_hundred_thousand_is_wrong(name):
    mesh = SOLIDS[name]()
    network, points = polytope_network(mesh), cloud(mesh, 100_000, seed=1)
    assert int(((network(points) > 0) != (inside(mesh, points))).sum()) == 0


@pytest.mark.parametrize("name", ["L-block", "rough rock"])
def test_planes_that_cut_the_inside_are_no_level_set(name):
    """Points inside moved onto the planes of faces, where gates without a third term vanish."""
    mesh = SOLIDS[name]()
    normals, anchors = mesh.face_normals, mesh.vertices[mesh.faces[:, 0]]
    points = cloud(mesh, 10).repeat_interleave(len(normals), 0)
    normals, anchors = normals.repeat(10, 1), anchors.repeat(10, 1)
    points = points - ((points - anchors) * normals).sum(1, keepdim=True) * normals
    # not those that lie on a face there: these have the outside on one of their sides
    above, below = (inside(mesh, points + side * 1e-4 * normals) for side in (1, -1))
    within, without = above & below, ~above & ~below
    assert int(within.sum()) > 10
    values = polytope_network(mesh)(points)
    assert (values[within] > 1e-6).all()
    assert (values[without] < -1e-6).all()


def test_it_is_never_more_than_the_distance_and_its_slope_is_one():
    mesh = icosphere(rough=0.6)
    network, points = polytope_network(mesh), cloud(mesh, 100).requires_grad_()
    values = network(points)
    (slope,) = torch.autograd.grad(values.sum(), points)
    assert torch.allclose(slope.norm(dim=1), torch.ones(100, dtype=torch.float64))
    nearest = torch.cdist(points.detach(), on_faces(mesh, 100)).amin(1)
    assert (values.detach().abs() <= nearest).all()


def test_a_convex_solid_takes_each_plane_once():
    network = polytope_network(icosphere())
    assert (network.faces, network.nodes, network.depth, network.layers) == (320, 320, 9, 9)
    assert "faces=320, nodes=320" in repr(network)
    assert polytope_network(blocks([(0, 0, 0)])).nodes == 6  # two triangles in a plane
    assert polytope_network(l_block()).nodes == 8


def test_a_cavity_and_parts_that_touch_in_an_edge():
    cube = blocks([(0, 0, 0)])
    vertices = torch.cat([cube.vertices, 0.25 + 0.5 * cube.vertices])
    hollow = Mesh(vertices, torch.cat([cube.faces, cube.faces.flip(1) + 8]))
    points = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.5, 0.5], [-0.1, 0.5, 0.5]])
    assert (polytope_network(hollow)(points) > 0).tolist() == [False, True, False]
    touching = blocks([(0, 0, 0), (1, 1, 0)])
    cells = torch.cartesian_prod(*[torch.tensor([0.5, 1.5])] * 2, torch.tensor([0.5]))
    assert (polytope_network(touching)(cells) > 0).tolist() == [True, False, False, True]


def star(inner: float, turn: float = 0.0) -> torch.Tensor:
    angles = torch.arange(14, dtype=torch.float64) * math.pi / 7 + turn
    radius = 1 - (1 - inner) * (torch.arange(14) % 2)
    return radius.unsqueeze(1) * torch.stack([angles.cos(), angles.sin()], 1)


def test_polylines_in_the_plane_are_even_odd_whatever_their_sense():
    hole = 0.3 * star(0.5).flip(0)
    lines = Polylines((star(0.5, 0.1), hole, 0.2 * hole), (True, True, True))
    network = polytope_network(lines)
    angle = torch.linspace(0, 7, 50, dtype=torch.float64).unsqueeze(1)
    ring = torch.cat([angle.cos(), angle.sin()], 1)
    for radius, within in ((0.02, True), (0.12, False), (0.42, True), (1.1, False)):
        assert ((network(radius * ring) > 0) == within).all()
    for line in lines.lines:
        share = torch.linspace(0, 1, 7, dtype=torch.float64).reshape(-1, 1, 1)
        sides = (1 - share) * line + share * line.roll(-1, 0)
        assert network(sides.reshape(-1, 2)).abs().max() <= 1e-15


def test_segments_in_the_plane_have_the_solid_on_their_left():
    corners = star(0.4)
    rows = torch.arange(14)
    network = polytope_network((corners, torch.stack([rows, rows.roll(-1)], 1)))
    assert network(torch.zeros(1, 2)) > 0
    assert network.nodes <= 20


@pytest.mark.parametrize("d", [1, 2, 4, 7])
def test_half_spaces_are_one_flat_minimum(d):
    generator = torch.Generator().manual_seed(0)
    normals = torch.cat([torch.eye(d), -torch.eye(d), torch.randn(5, d, generator=generator)])
    normals = normals.double() * torch.linspace(0.5, 2, len(normals)).unsqueeze(1)
    offsets = normals.norm(dim=1) * torch.linspace(1, 1.2, len(normals), dtype=torch.float64)
    points = 2 * torch.randn(500, d, generator=generator, dtype=torch.float64)
    expected = ((offsets - points @ normals.T) / normals.norm(dim=1)).amin(1)
    values = polytope_network((normals, offsets))(points)
    assert torch.equal(values > 0, expected > 0)
    assert torch.allclose(values[expected > 0], expected[expected > 0])


def test_it_is_a_field_that_points_are_projected_onto():
    mesh = l_block()
    network = polytope_network(mesh)
    moved = project(network, cloud(mesh, 50), tol=1e-12)
    assert moved.converged.float().mean() > 0.9
    single = network(cloud(mesh, 5).float())
    assert single.dtype == torch.float32
    assert torch.allclose(network.float()(cloud(mesh, 5).float()), single, atol=1e-6)
    assert network(torch.zeros(0, 3)).shape == (0,)


@pytest.mark.slow
@pytest.mark.data
def test_a_mesh_of_a_figure_takes_few_nodes_and_no_sign_is_wrong(levelset_data):
    mesh = Mesh.read(levelset_data / "meshes" / "spot.ply")
    network, points = polytope_network(mesh), cloud(mesh, 2_000)
    assert network.nodes <= 1.8 * len(mesh.faces)
    assert network.depth <= 45
    assert torch.equal(network(points) > 0, inside(mesh, points))
    assert network(on_faces(mesh, 1)).abs().max() <= 1e-14
