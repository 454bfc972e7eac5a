"""Meshes: what holds of them."""

import math

import pytest
import torch
from small_meshes import CORNERS, TETRAHEDRON, tetrahedron, torus

from levelset.errors import DataError, ShapeError
from levelset.reconstruction import Mesh


def together(*meshes):
    starts = torch.tensor([0, *[len(m.vertices) for m in meshes]]).cumsum(0)
    return Mesh(
        torch.cat([m.vertices for m in meshes]),
        torch.cat([m.faces + start for m, start in zip(meshes, starts, strict=False)]),
    )


def test_scalars_of_points_are_averaged_and_what_is_unknown_does_not_count():
    mesh = torus()
    known = mesh.vertices[:, 2].clone()
    known[::2] = torch.nan
    points = torch.cat([mesh.vertices, torch.full((1, 3), torch.nan).double()])
    more = mesh.with_scalars(
        points,
        {
            "height": torch.cat([mesh.vertices[:, 2], known[:1]]),
            "some": torch.cat([known, known[:1]]),
        },
    )
    assert (more.scalars["height"] - mesh.vertices[:, 2]).abs().max() < 0.1
    assert (more.scalars["some"] - mesh.vertices[:, 2]).abs().max() < 0.25
    again = more.with_scalars(mesh.vertices, {"height": torch.zeros(len(mesh.vertices))})
    assert torch.equal(again.scalars["height"], more.scalars["height"])
    with pytest.raises(ShapeError, match=r"`scalars\['a'\]` must have one number for each"):
        mesh.with_scalars(points, {"a": known})
    with pytest.raises(DataError, match="must hold a finite point"):
        mesh.with_scalars(points[-1:], {})


def test_a_tetrahedron_has_its_numbers():
    mesh = tetrahedron()
    assert mesh.watertight
    assert (mesh.genus, mesh.components, len(mesh.edges), mesh.boundary_edges) == (0, 1, 6, 0)
    assert mesh.volume == pytest.approx(1 / 6, rel=1e-14)
    assert mesh.area == pytest.approx(1.5 + math.sqrt(3) / 2, rel=1e-14)
    outward = torch.tensor([[0, 0, -1.0], [0, -1, 0], [-1, 0, 0], [3**-0.5] * 3])
    assert torch.allclose(mesh.face_normals, outward.double(), atol=1e-7)
    assert mesh.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert mesh.summary() == {
        "vertices": 4, "faces": 4, "components": 1, "genus": 0, "watertight": True,
        "area": mesh.area,
    }  # fmt: skip
    assert repr(mesh).startswith(
        "Mesh(vertices=(4, 3), faces=(4, 3), genus=0, watertight=True, area="
    )


def test_inside_out_has_the_negative_volume_and_far_away_the_same():
    assert tetrahedron(flipped=True).volume == pytest.approx(-1 / 6, rel=1e-14)
    assert tetrahedron(shift=1e6).volume == pytest.approx(1 / 6, rel=1e-9)


def test_a_torus_has_one_handle_and_two_pieces_have_no_genus():
    assert (torus().genus, torus().components, torus().watertight) == (1, 1, True)
    both = together(torus(), tetrahedron(5.0))
    assert (both.genus, both.components, both.watertight) == (None, 2, True)
    assert len(both.labels.unique()) == 2


def test_corners_without_a_face_count_for_nothing():
    mesh = tetrahedron()
    more = Mesh(torch.cat([torch.full((3, 3), 9.0), mesh.vertices]), mesh.faces + 3)
    assert (more.genus, more.components, more.watertight) == (0, 1, True)


def test_holes_flips_and_third_wings_are_not_watertight():
    whole = tetrahedron()
    hole = Mesh(whole.vertices, whole.faces[1:])
    assert (hole.watertight, hole.boundary_edges, hole.genus) == (False, 3, None)
    flipped = torch.cat([whole.faces[:1].flip(1), whole.faces[1:]])
    assert not Mesh(whole.vertices, flipped).watertight
    wing = Mesh(
        torch.cat([whole.vertices, torch.ones(1, 3)]),
        torch.cat([whole.faces, torch.tensor([[0, 1, 4]])]),
    )
    assert not wing.watertight


def test_nothing_is_a_mesh_too():
    mesh = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert (mesh.watertight, mesh.genus, mesh.components, mesh.area, mesh.volume) == (
        False, None, 0, 0.0, 0.0,
    )  # fmt: skip


def test_arrays_become_float64_and_int64():
    mesh = Mesh(
        torch.tensor(CORNERS), torch.tensor(TETRAHEDRON, dtype=torch.int32), torch.ones(4, 3)
    )
    assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.normals.dtype) == (
        torch.float64, torch.int64, torch.float64,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((torch.zeros(4, 2), torch.zeros(1, 3).long()), r"`vertices` must have the shape \(n, 3\)"),
        ((torch.zeros(4, 3), torch.zeros(1, 4).long()), r"`faces` must have the shape \(n, 3\)"),
        ((torch.zeros(4, 3), torch.zeros(1, 3)), "`faces` must be integers, got torch.float32"),
        ((torch.zeros(4, 3), torch.tensor([[0, 1, 4]])), "rows 0 to 3 of `vertices`, got 0 to 4"),
        (
            (torch.zeros(4, 3), torch.zeros(1, 3).long(), torch.zeros(3, 3)),
            r"`normals` must have one row per vertex \(4\)",
        ),
        (
            (torch.zeros(4, 3), torch.zeros(1, 3).long(), None, None, {"a": torch.zeros(3)}),
            r"`scalars\['a'\]` must have one number per vertex \(4\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, words):
    with pytest.raises(ShapeError, match=words):
        Mesh(*arrays)
