"""`levelset reconstruct`: files in, files out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from levelset.cli import main
from levelset.reconstruction import Mesh

QUICK = ["--resolution", "24", "--json"]


def ball(count=150, seed=0, centre=0.0, radius=1.0):
    draws = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double()
    return centre + radius * torch.nn.functional.normalize(draws, dim=1)


def save(path: Path, points) -> Path:
    np.save(path, points.numpy())
    return path


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "ball.npy", ball(centre=500.0, radius=25.4))


def test_a_scan_becomes_a_mesh_in_its_own_units(scan, tmp_path, capsys):
    out = tmp_path / "new" / "ball.ply"
    assert main(["reconstruct", str(scan), "-o", str(out), "--report", *QUICK]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert (told["watertight"], told["components"], told["genus"]) == (True, 1, 0)
    assert told["mesh"] == str(out)
    mesh = Mesh.read(out)
    assert ((mesh.vertices - 500.0).norm(dim=1) - 25.4).abs().max() < 0.5
    assert "Scan and mesh" in (tmp_path / "new" / "ball.html").read_text(encoding="utf-8")
    assert [p.name for p in sorted(out.parent.iterdir())] == ["ball.html", "ball.ply"]


def test_colours_come_along_and_a_survey_is_moved_for_glb(tmp_path, capsys):
    points = ball(centre=500_000.0, radius=25.4).numpy()
    grey = np.repeat(120 + np.round(4 * (points[:, :1] - 500_000.0)), 3, axis=1)
    np.save(tmp_path / "ball.npy", np.hstack([points, grey]))
    out = tmp_path / "ball.glb"
    assert main(["reconstruct", str(tmp_path / "ball.npy"), "-o", str(out), *QUICK]) == 0
    told = capsys.readouterr().err
    assert "Columns 4 to 6 were taken as red, green and blue" in told
    assert "ball.glb.origin.txt" in told
    origin = [float(x) for x in (tmp_path / "ball.glb.origin.txt").read_text().split()]
    assert origin == pytest.approx([500_000.0] * 3, abs=1.0)
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.load(out, force="mesh", process=False)
    shift = mesh.vertices[:, 0] + origin[0] - 500_000.0
    assert np.abs(mesh.visual.vertex_colors[:, 0] - (120 + 4 * shift)).mean() < 6


def test_a_flat_lid_and_the_doubt_about_it(tmp_path, capsys):
    points = ball()
    np.save(tmp_path / "dome.npy", points[points[:, 2] > points[:, 2].median()].numpy())
    out = tmp_path / "dome.ply"
    call = ["reconstruct", str(tmp_path / "dome.npy"), "-o", str(out), *QUICK, "--lids", "flat"]
    assert main(call) == 0
    printed = capsys.readouterr()
    assert "Holes were closed flat: " in printed.err
    assert 0.15 < json.loads(printed.out)["doubtful"] < 0.4
    assert b"property double doubt" in out.read_bytes()[:400]
    assert main([*call, "--open"]) == 1
    assert "--lids flat closes a surface" in capsys.readouterr().err


def test_a_folder_of_scans_goes_into_a_folder_and_one_failure_stops_no_other(tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    save(folder / "a.npy", ball(seed=1))
    save(folder / "b.npy", ball(40))
    save(folder / "c.npy", ball(seed=2))
    (folder / "notes.md").write_text("not a scan")
    out = tmp_path / "meshes"
    assert main(["reconstruct", str(folder), "-o", str(out), *QUICK]) == 1
    printed = capsys.readouterr()
    assert sorted(p.name for p in out.iterdir()) == ["a.ply", "c.ply"]
    assert "1 of 3 scans failed: b.npy" in printed.err
    assert "at least 50" in printed.err
    assert json.loads(printed.out)["c: watertight"] is True


def test_resuming_leaves_what_is_done(tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    save(folder / "a.npy", ball(seed=1))
    save(folder / "b.npy", ball(seed=2))
    out = tmp_path / "meshes"
    assert main(["reconstruct", str(folder), "-o", str(out), *QUICK]) == 0
    (out / "b.ply").unlink()
    before = (out / "a.ply").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["reconstruct", str(folder), "-o", str(out), "--resume", *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["a: was"] == "there already"
    assert (out / "a.ply").stat().st_mtime_ns == before
    assert (out / "b.ply").exists()


@pytest.mark.slow
def test_training_cut_short_keeps_its_checkpoint_and_resumes(scan, tmp_path, capsys):
    out = tmp_path / "ball.ply"
    words = ["reconstruct", str(scan), "-o", str(out), "--method", "paper", *QUICK]
    assert main([*words, "--seconds", "2"]) == 0
    checkpoint = tmp_path / "ball.ply.part" / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns
    assert main([*words, "--seconds", "4", "--resume"]) == 0
    assert checkpoint.stat().st_mtime_ns > before


def test_points_of_a_curve_become_lines(tmp_path, capsys):
    turn = torch.linspace(0.0, 6.2, 200)
    ring = save(tmp_path / "ring.npy", torch.stack([turn.cos(), turn.sin(), 0.3 * turn.sin()], 1))
    out = tmp_path / "ring.svg"
    assert main(["reconstruct", str(ring), "-o", str(out), "--curve", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["closed"] == 1
    assert out.read_text().startswith("<")


def test_a_preview_is_replaced_by_the_finished_mesh(scan, tmp_path, capsys):
    out = tmp_path / "ball.stl"
    assert main(["reconstruct", str(scan), "-o", str(out), "--preview", *QUICK]) == 0
    assert len(Mesh.read(out).faces) == json.loads(capsys.readouterr().out)["faces"]


def test_only_scans_with_normals_take_normals(scan, tmp_path, capsys):
    assert main(["reconstruct", str(scan), "-o", str(tmp_path / "m.ply"), "--normals"]) == 1
    assert "the file holds no normals" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ball.npy", "-o", "ball.svg"], "must end in one of .ply, .obj, .stl, .glb"),
        (["ball.npy", "-o", "ball.stl", "--curve"], "must end in one of .ply, .obj, .svg"),
        (["none.npy", "-o", "m.ply"], "does not exist"),
        (["ball.npy", "copy/ball.npy", "-o", "out"], "would both be written"),
        (["empty", "-o", "out"], "holds no file of points"),
        (["flat.npy", "-o", "m.ply"], "levelset reconstruct --curve"),
        (["ball.npy", "-o", "m.ply", "--curve", "--report"], "--curve takes no --report"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    scan, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "copy"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "copy" / "ball.npy", ball())
    save(tmp_path / "flat.npy", ball() * torch.tensor([1.0, 1.0, 0.0]))
    assert main(["reconstruct", *words]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert not (tmp_path / "m.ply").exists()


def test_the_scan_itself_is_not_overwritten(tmp_path, capsys):
    points = ball()
    scan = tmp_path / "ball.ply"
    Mesh(points, torch.zeros(0, 3).long()).save(scan)
    assert main(["reconstruct", str(scan), "-o", str(scan)]) == 1
    assert "is the scan itself" in capsys.readouterr().err


@pytest.mark.slow
def test_scans_side_by_side_give_the_files_of_one_after_the_other(tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(3):
        save(folder / f"{seed}.npy", ball(seed=seed))
    save(folder / "few.npy", ball(40))
    (folder / "text.xyz").write_text("no numbers")
    for workers in ("1", "2"):
        out = tmp_path / workers
        words = ["reconstruct", str(folder), "-o", str(out), "--workers", workers, "--report"]
        assert main([*words, *QUICK]) == 1
        printed = capsys.readouterr()
        assert "2 of 5 scans failed: few.npy, text.xyz" in printed.err
        assert next(iter(json.loads(printed.out))).startswith("0: ")
    names = [f"{seed}{suffix}" for seed in range(3) for suffix in (".html", ".ply")]
    assert [path.name for path in sorted((tmp_path / "2").iterdir())] == names
    for name in names[1::2]:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    # A page that is missing is part of what is not done.
    (tmp_path / "2" / "1.html").unlink()
    assert main([*words, "--resume", *QUICK]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert ("0: was" in shown, "1: was" in shown) == (True, False)
    assert (tmp_path / "2" / "1.html").exists()


def test_a_preview_is_not_written_by_a_cluster(scan, tmp_path, capsys):
    words = ["reconstruct", str(scan), "-o", str(tmp_path / "m.ply"), "--preview"]
    assert main([*words, "--engine", "ray"]) == 1
    assert "--preview needs --engine local" in capsys.readouterr().err
