"""Several scans side by side: the same from any worker, also when one of them fails."""

from pathlib import Path

import numpy as np
import pytest
import torch

from levelset._tools.engines import Place
from levelset.datasets import PointCloud
from levelset.errors import DataError
from levelset.reconstruction import Curve, Fast, Surface, _scans
from levelset.reconstruction._scans import Fitting, Scan, fit_scans, part_of, read_scan


def ring(number: int) -> Scan:
    turn = torch.linspace(0.0, 6.2, 80 + number, dtype=torch.float64)
    points = torch.stack([turn.cos(), turn.sin()], 1)
    return Scan(PointCloud(points, None, str(number)), Path(f"{number}.ply"))


def read(number: int) -> Scan:
    if number == 1:
        message = "the file is damaged"
        raise DataError(message)
    return ring(number) if number != 2 else ring(-79)


def test_each_scan_comes_back_with_its_number_or_the_reason_why_it_failed() -> None:
    fitting = Fitting(Fast(), 16, 0, is_curve=True)
    lengths = []
    for workers in (1, 2):
        fits = fit_scans(fitting, read, range(4), Place(workers=workers), lambda k, step: None)
        results = {number: (scan, shape) for number, scan, shape in fits}
        assert sorted(results) == list(range(4))
        assert results[1][0] is None
        assert str(results[1][1]) == "the file is damaged"
        assert isinstance(results[2][1], DataError | ValueError)  # one point
        for number in (0, 3):
            scan, shape = results[number]
            assert isinstance(shape, Curve)
            assert len(scan.cloud) == 80 + number
            assert len(shape.residuals) == 80 + number
        lengths.append([results[number][1].residuals for number in (0, 3)])
    assert all(torch.equal(one, two) for one, two in zip(*lengths, strict=True))


def test_a_large_file_is_averaged_as_it_is_read_and_gives_the_same_surface(tmp_path, monkeypatch):
    ball = torch.randn(15_000, 3, generator=torch.Generator().manual_seed(0))
    ball = 5 * torch.nn.functional.normalize(ball, dim=1)
    ball += 0.05 * torch.randn(ball.shape, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "ball.npy", ball.numpy())
    assert read_scan(tmp_path / "ball.npy").counts is None
    monkeypatch.setattr(_scans, "LARGE", 100_000)
    monkeypatch.setattr(_scans, "MOST_MEANS", 3000)
    cloud = read_scan(tmp_path / "ball.npy")
    assert len(cloud) <= 3000
    assert cloud.counts is not None
    assert cloud.counts.sum() == 15_000
    scan = Scan(cloud, tmp_path / "mesh.ply")
    shape = Fitting(Fast(grid=32), 32, 0).fitted(scan, lambda step: None)
    assert isinstance(shape, Surface)
    assert shape.noise == pytest.approx(0.05, rel=0.1)
    assert shape.mesh.watertight
    assert abs(float(shape.mesh.vertices.norm(dim=1).mean()) - 5) < 0.01


def test_checkpoints_lie_beside_the_file() -> None:
    assert part_of(Path("a/b.ply")) == Path("a/b.ply.part")
