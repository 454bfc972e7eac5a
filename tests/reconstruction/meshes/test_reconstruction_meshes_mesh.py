"""Meshes: what holds of them, and their files."""

import math
import sys

import pytest
import torch

from levelset.datasets import read_points
from levelset.errors import DataError, MissingExtraError, ParameterError, RunError, ShapeError
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


def together(*meshes):
    starts = torch.tensor([0, *[len(m.vertices) for m in meshes]]).cumsum(0)
    return Mesh(
        torch.cat([m.vertices for m in meshes]),
        torch.cat([m.faces + start for m, start in zip(meshes, starts, strict=False)]),
    )


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
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, words):
    with pytest.raises(ShapeError, match=words):
        Mesh(*arrays)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".ply", 0.0), (".obj", 1e-14), (".stl", 1e-6), (".glb", 1e-6)]
)
@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
def test_what_is_saved_is_read_back(tmp_path, suffix, tolerance, scale):
    shape = torus()
    mesh = Mesh(scale * (shape.vertices + 0.1234567890123456789), shape.faces)
    path = mesh.save(tmp_path / f"größe 測量{suffix}")
    back = Mesh.read(str(path))
    assert (back.genus, back.watertight) == (1, True)
    assert back.volume == pytest.approx(mesh.volume, rel=1e-4)
    if suffix == ".stl":  # the order of corners is lost
        return
    assert torch.equal(back.faces, mesh.faces)
    assert float((back.vertices - mesh.vertices).abs().max()) <= tolerance * scale
    assert back.normals is None


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_normals_are_written(tmp_path, suffix):
    shape = torus()
    normals = torch.nn.functional.normalize(shape.vertices + 0.3, dim=1)
    path = Mesh(shape.vertices, shape.faces, normals).save(tmp_path / f"a{suffix}")
    if suffix == ".glb":
        scene = pytest.importorskip("trimesh").load_scene(path, process=False)
        (found,) = (torch.tensor(g.vertex_normals) for g in scene.geometry.values())
    else:
        found = read_points(path).normals
    assert (
        float((found - normals).abs().max()) < {".ply": 1e-300, ".obj": 1e-14, ".glb": 1e-6}[suffix]
    )


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = torus().save(tmp_path / "a.ply")
    before = path.read_bytes()
    (tmp_path / "b").write_text("no folder")
    with pytest.raises(RunError, match="cannot write"):
        torus().save(tmp_path / "b" / "a.ply")
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(RunError, match="cannot write"):
        tetrahedron().save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ply", "b"]


def test_suffixes_that_are_not_known_are_named(tmp_path):
    with pytest.raises(ParameterError, match=r"one of \.ply, \.obj, \.stl, \.glb, got 'a\.xyz'"):
        tetrahedron().save(tmp_path / "a.xyz")
    with pytest.raises(ParameterError, match=r"one of \.ply, .*\.off, got 'a\.xyz'"):
        Mesh.read(tmp_path / "a.xyz")


def test_files_that_are_no_meshes(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        Mesh.read(tmp_path / "a.ply")
    (tmp_path / "a.glb").write_bytes(b"\xff\xd8\xff a photograph")
    with pytest.raises(DataError, match=r"is damaged, or no mesh.*read_points"):
        Mesh.read(tmp_path / "a.glb")
    path = torus().save(tmp_path / "b.ply")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"is damaged, or no mesh|holds no triangles"):
        Mesh.read(path)


def test_strips_of_triangles_are_not_taken_for_nothing(tmp_path):
    path = tmp_path / "a.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
        "property float z\nelement tristrips 1\nproperty list int int vertex_indices\n"
        "end_header\n0 0 0\n1 0 0\n0 1 0\n4 0 1 2 -1\n"
    )
    with pytest.raises(DataError, match=r"holds no triangles that can be read \(strips"):
        Mesh.read(path)


def test_without_trimesh_ply_is_still_written_and_the_extra_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    path = tetrahedron().save(tmp_path / "a.ply")
    for job in (lambda: tetrahedron().save(tmp_path / "a.obj"), lambda: Mesh.read(path)):
        with pytest.raises(MissingExtraError, match=r"pip install 'levelset\[mesh\]'"):
            job()


TRIANGLE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0.2]], dtype=torch.float64)
ONE_FACE = torch.tensor([[0, 1, 2]])


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_colours_are_written(tmp_path, suffix):
    trimesh = pytest.importorskip("trimesh")
    path = Mesh(TRIANGLE, ONE_FACE, None, COLOURS).save(tmp_path / f"a{suffix}")
    loaded = trimesh.load(path, force="mesh", process=False)
    assert loaded.visual.vertex_colors[:, :3].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 51]]
    if suffix == ".ply":
        found = read_points(path)
        assert torch.allclose(found.colours, COLOURS)
        assert torch.equal(found.points, TRIANGLE)


def test_colours_come_from_the_points_around():
    line = torch.linspace(0, 1, 101, dtype=torch.float64)
    points = torch.stack([line, 0 * line, 0 * line], 1)
    colours = torch.stack([line, 1 - line, 0 * line], 1)
    mesh = Mesh(torch.tensor([[0.25, 0, 0], [0.5, 0.001, 0], [0.75, 0, 0.001]]), ONE_FACE)
    found = mesh.coloured(points, colours).colours
    assert torch.allclose(found[:, 0], torch.tensor([0.25, 0.5, 0.75]).double(), atol=2e-3)
    assert torch.allclose(found.sum(1), torch.ones(3).double())
    points[3] = torch.nan
    assert mesh.coloured(points, colours).colours.isfinite().all()
    assert mesh.coloured(points[50:51], colours[50:51]).colours[0].tolist() == [0.5, 0.5, 0.0]
    with pytest.raises(ShapeError, match=r"`points` and `colours` must have one shape, \(n, 3\)"):
        mesh.coloured(points, colours[:5])
    with pytest.raises(DataError, match="must hold a finite point with a colour, got none"):
        mesh.coloured(points[3:4], colours[3:4])
    with pytest.raises(ShapeError, match="`colours` must have one row per vertex"):
        Mesh(TRIANGLE, ONE_FACE, None, COLOURS[:2])


@pytest.mark.parametrize("suffix", [".stl", ".glb"])
def test_surveys_are_moved_where_single_precision_would_round_them(tmp_path, suffix):
    place = torch.tensor([512_000.0, 5_403_000.0, 120.0], dtype=torch.float64)
    mesh = Mesh(10 * TRIANGLE + place, ONE_FACE)
    path = mesh.save(tmp_path / f"a{suffix}")
    origin = [float(x) for x in (tmp_path / f"a{suffix}.origin.txt").read_text().split()]
    assert tuple(origin) == mesh.origin == (512_005.0, 5_403_005.0, 120.0)
    back = Mesh.read(path).vertices + torch.tensor(origin, dtype=torch.float64)
    order = [mesh.vertices.tolist().index(row) for row in back.round(decimals=5).tolist()]
    assert sorted(order) == [0, 1, 2]
    near = Mesh(TRIANGLE, ONE_FACE)
    near.save(tmp_path / f"b{suffix}")
    assert near.origin == (0.0, 0.0, 0.0)
    assert not (tmp_path / f"b{suffix}.origin.txt").exists()
    assert Mesh(TRIANGLE[:0], ONE_FACE[:0]).origin == (0.0, 0.0, 0.0)
