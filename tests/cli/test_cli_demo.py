"""The simulated scan of the demo."""

import json

import pytest
import torch

from levelset.cli import main
from levelset.cli._demo import scan_of_a_knot
from levelset.datasets import read_points
from levelset.reconstruction import Mesh


def knot(turns=20_000):
    t = torch.linspace(0.0, 2 * torch.pi, turns, dtype=torch.float64)
    return torch.stack(
        [t.sin() + 2 * (2 * t).sin(), t.cos() - 2 * (2 * t).cos(), -(3 * t).sin()], 1
    )


def test_points_lie_on_the_tube_but_for_the_noise():
    points = scan_of_a_knot(500, generator=torch.Generator().manual_seed(0))
    assert points.shape == (500, 3)
    away = torch.cdist(points, knot()).amin(1) - 0.32
    assert away.abs().max() < 5 * 0.004
    assert 0.5 * 0.004 < away.std() < 1.5 * 0.004


def test_the_generator_decides_and_nothing_else_moves():
    before = torch.random.get_rng_state()
    one, two = (scan_of_a_knot(300, generator=torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_sample_scan_is_that_of_seed_0_and_read_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = read_points("sample")
    assert sample.name == "sample"
    assert sample.normals is None
    made = scan_of_a_knot(5000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample.points, made, atol=1e-6, rtol=0.0)


@pytest.mark.slow
def test_the_sample_scan_is_reconstructed_without_more_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["reconstruct", "sample", "--resolution", "48", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["watertight"] is True
    assert Mesh.read(tmp_path / "sample-mesh.ply").genus == 1
    assert main(["reconstruct", "sample", "sample"]) == 1
    assert "--out is needed for several scans" in capsys.readouterr().err
