"""What is no solid is refused, with the edges or faces that make it none."""

import pytest
import torch
from solids import blocks, icosphere, l_block

from levelset.errors import DataError, ShapeError
from levelset.reconstruction import Mesh, Polylines
from levelset.shapes import polytope_network

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def joined(a: Mesh, b: Mesh) -> Mesh:
    faces = torch.cat([a.faces, b.faces + len(a.vertices)])
    return Mesh(torch.cat([a.vertices, b.vertices]), faces)


def moved(mesh: Mesh, *by: float, scale: float = 1.0) -> Mesh:
    return Mesh(scale * mesh.vertices + torch.tensor(by, dtype=torch.float64), mesh.faces)


def test_open_edges_are_named():
    mesh = blocks([(0, 0, 0)])
    edges = {"-".join(str(int(v)) for v in mesh.faces[0, [i, i - 1]]) for i in range(3)}
    with pytest.raises(DataError, match="3 edges are open") as error:
        polytope_network(Mesh(mesh.vertices, mesh.faces[1:]))
    listed = str(error.value).split("vertices: ")[1].split(")")[0].split(", ")
    assert {frozenset(edge.split("-")) for edge in listed} == {
        frozenset(edge.split("-")) for edge in edges
    }
    with pytest.raises(DataError, match=r"2 corners are open \(first, by vertices: 0, 3\)"):
        polytope_network((SQUARE, torch.tensor([[0, 1], [1, 2], [2, 3]])))
    with pytest.raises(DataError, match=r"1 of its 2 lines are open \(first: 1\)"):
        polytope_network(Polylines((SQUARE, SQUARE + 3), (True, False)))


def test_corners_in_one_place_are_one_corner():
    """As STL files have them: three rows a face."""
    mesh = l_block()
    apart = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), torch.arange(84).reshape(28, 3))
    assert polytope_network(apart).nodes == polytope_network(mesh).nodes


def test_faces_without_area_count_for_nothing():
    """A sliver between two faces, as repairs leave them, closes the mesh and bounds nothing."""
    cube = blocks([(0, 0, 0)])
    face = cube.faces[0].tolist()
    middle = (cube.vertices[face[0]] + cube.vertices[face[1]]) / 2
    vertices = torch.cat([cube.vertices, middle.unsqueeze(0)])
    parts = [[face[0], 8, face[2]], [8, face[1], face[2]], [face[0], face[1], 8]]
    mesh = Mesh(vertices, torch.cat([cube.faces[1:], torch.tensor(parts)]))
    network = polytope_network(mesh)
    assert (network.faces, network.nodes) == (13, 6)


def test_faces_turned_round_are_refused():
    mesh = l_block()
    with pytest.raises(DataError, match="look inwards: the volume that they enclose is -3"):
        polytope_network(Mesh(mesh.vertices, mesh.faces.flip(1)))
    faces = mesh.faces.clone()
    faces[3] = faces[3].flip(0)
    with pytest.raises(DataError, match="run around it in one sense, but those on both sides of 3"):
        polytope_network(Mesh(mesh.vertices, faces))


@pytest.mark.parametrize("by", [(0.5, 0.5, 0.5), (0.3, 0.41, 0.17), (0.9, 0.2, 0.0)])
def test_solids_that_cut_each_other_are_named(by):
    cube = blocks([(0, 0, 0)])
    with pytest.raises(DataError, match=r"cut each other, but these do: \d+ and 1[2-9]"):
        polytope_network(joined(cube, moved(cube, *by)))


def test_a_corner_pulled_through_the_far_side_is_named():
    mesh = icosphere()
    vertices = mesh.vertices.clone()
    vertices[0] *= -1.2
    with pytest.raises(DataError, match="no faces of `solid` may cut each other"):
        polytope_network(Mesh(vertices, mesh.faces))
    bow = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    with pytest.raises(DataError, match="these do: 0 and 2 "):
        polytope_network(Polylines((bow,), (True,)))


def test_faces_with_one_kind_of_space_on_both_sides_are_named():
    cube = blocks([(0, 0, 0)])
    with pytest.raises(DataError, match="outside before it, but 12 do not"):
        polytope_network(joined(cube, moved(cube, 0.25, 0.25, 0.25, scale=0.5)))
    with pytest.raises(DataError, match=r"but \d+ do not \(first: .*Make the union"):
        polytope_network(joined(cube, moved(cube, 1.0, 0.0, 0.0)))


@pytest.mark.messages
def test_what_is_no_mesh_is_refused():
    mesh = l_block()
    with pytest.raises(ShapeError, match=r"closed polylines .* or a tuple \(normals, offsets\)"):
        polytope_network(3)
    with pytest.raises(ShapeError, match=r"triangles \(f, 3\), got \(16, 3\) and \(28, 2\)"):
        polytope_network((mesh.vertices, mesh.faces[:, :2]))
    with pytest.raises(ShapeError, match="must name rows 0 to 15 of its vertices, got 10 to 25"):
        polytope_network((mesh.vertices, mesh.faces + 10))
    with pytest.raises(ShapeError, match="faces of `solid` must be integers"):
        polytope_network((mesh.vertices, mesh.faces + 0.5))
    with pytest.raises(ShapeError, match=r"must have the shape \(m, 2\), got \(m, 3\)"):
        polytope_network(Polylines((mesh.vertices,), (True,)))
    with pytest.raises(ShapeError, match="must be made of tensors or arrays"):
        polytope_network(("mesh", "faces"))
    with pytest.raises(DataError, match="must have faces, got none"):
        polytope_network((mesh.vertices, mesh.faces[:0]))
    with pytest.raises(DataError, match="bounded, got NaN or infinity in 1 vertices"):
        polytope_network((mesh.vertices.index_fill(0, torch.tensor(2), torch.inf), mesh.faces))
