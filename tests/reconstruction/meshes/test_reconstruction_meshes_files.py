"""Meshes are read back as they were written, whole or not at all."""

import sys

import pytest
import torch
from small_meshes import tetrahedron, torus

from levelset.datasets import read_points
from levelset.errors import DataError, MissingExtraError, ParameterError, RunError, ShapeError
from levelset.reconstruction import Mesh


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
        (normals_there,) = (torch.tensor(g.vertex_normals) for g in scene.geometry.values())
    else:
        normals_there = read_points(path).normals
    assert (
        float((normals_there - normals).abs().max())
        < {".ply": 1e-300, ".obj": 1e-14, ".glb": 1e-6}[suffix]
    )


def test_colours_and_scalars_are_written(tmp_path):
    shape = torus()
    heights = {"doubt": shape.vertices[:, 2], "a b": shape.vertices[:, 0]}
    mesh = Mesh(shape.vertices, shape.faces, None, 0.5 + 0.3 * shape.vertices, heights)
    trimesh = pytest.importorskip("trimesh")
    ply = trimesh.load(mesh.save(tmp_path / "a.ply"), process=False)
    data = ply.metadata["_ply_raw"]["vertex"]["data"]
    assert torch.equal(torch.from_numpy(data["doubt"].copy()).view(-1), heights["doubt"])
    assert torch.equal(torch.from_numpy(data["a_b"].copy()).view(-1), heights["a b"])
    assert torch.allclose(read_points(tmp_path / "a.ply").colours, mesh.colours, atol=1 / 255)
    assert Mesh.read(tmp_path / "a.ply").genus == 1
    scene = trimesh.load_scene(mesh.save(tmp_path / "a.glb"), process=False)
    (part,) = scene.geometry.values()
    assert torch.allclose(
        torch.tensor(part.vertex_attributes["_doubt"]).double().view(-1), heights["doubt"]
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
        cloud = read_points(path)
        assert torch.allclose(cloud.colours, COLOURS)
        assert torch.equal(cloud.points, TRIANGLE)


def test_colours_come_from_the_points_around():
    line = torch.linspace(0, 1, 101, dtype=torch.float64)
    points = torch.stack([line, 0 * line, 0 * line], 1)
    colours = torch.stack([line, 1 - line, 0 * line], 1)
    mesh = Mesh(torch.tensor([[0.25, 0, 0], [0.5, 0.001, 0], [0.75, 0, 0.001]]), ONE_FACE)
    colours_there = mesh.coloured(points, colours).colours
    assert torch.allclose(colours_there[:, 0], torch.tensor([0.25, 0.5, 0.75]).double(), atol=2e-3)
    assert torch.allclose(colours_there.sum(1), torch.ones(3).double())
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
