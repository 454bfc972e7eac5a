"""The binary files of surveys and scanners."""

import sys

import numpy as np
import pytest

from levelset.datasets import read_points
from levelset.errors import DataError, MissingExtraError


@pytest.fixture
def points(noise):
    # of a survey: millions of metres, to the millimetre
    return np.round(noise.uniform(0, 50, (60, 3)), 3) + np.array([512_000.0, 5_403_000.0, 120.0])


def las(path, points, colours=None, kind=3):
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=kind, version="1.4" if kind > 5 else "1.2")
    header.offsets, header.scales = np.floor(points.min(0)), np.full(3, 1e-3)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    cloud.intensity = np.arange(len(points))
    if colours is not None:
        cloud.red, cloud.green, cloud.blue = colours.T
    cloud.write(path)
    return path


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("kind", [2, 7])
def test_las_and_laz_to_the_millimetre_with_colours(tmp_path, points, suffix, kind):
    if suffix == ".laz":
        pytest.importorskip("lazrs", exc_type=ImportError)
    colours = np.arange(180, dtype=np.uint16).reshape(60, 3) * 256
    found = read_points(las(tmp_path / f"a{suffix}", points, colours, kind))
    assert np.abs(found.points.numpy() - points).max() < 1e-9 * 5e6
    assert np.allclose(found.colours, colours / 65535.0)
    assert found.scalars["intensity"].tolist() == list(range(60))
    assert read_points(las(tmp_path / f"b{suffix}", points, None, kind)).colours is None


def test_las_files_that_are_none(tmp_path, points):
    (tmp_path / "a.las").write_bytes(b"LAS")
    with pytest.raises(DataError, match="does not begin with LASF"):
        read_points(tmp_path / "a.las")
    head = bytearray(b"LASF" + bytes(300))
    head[104] = 42
    (tmp_path / "b.las").write_bytes(head)
    with pytest.raises(DataError, match="has the point format 42; known are 0 to 10"):
        read_points(tmp_path / "b.las")
    whole = las(tmp_path / "c.las", points).read_bytes()
    (tmp_path / "c.las").write_bytes(whole[:120])
    with pytest.raises(DataError, match=r"c\.las"):
        read_points(tmp_path / "c.las")


def test_e57_of_several_stations_each_in_its_place(tmp_path, points):
    pye57 = pytest.importorskip("pye57")
    path = tmp_path / "a.e57"
    local = points - points.min(0)
    with pye57.E57(str(path), mode="w") as file:
        for shift in ([0.0, 0.0, 0.0], [100.0, 0.0, 5.0]):
            data = {f"cartesian{axis}": local[:, k] for k, axis in enumerate("XYZ")}
            data |= {f"color{name}": np.full(60, 51, np.uint8) for name in ("Red", "Green", "Blue")}
            data["intensity"] = np.linspace(0.0, 1.0, 60) + shift[0]
            file.write_scan_raw(data, translation=np.array(shift))
    found = read_points(path)
    assert np.allclose(found.points, np.concatenate([local, local + np.array([100, 0, 5])]))
    assert np.allclose(found.colours, 51 / 255)
    assert found.sensors[[0, 59, 60, 119]].tolist() == [[0, 0, 0]] * 2 + [[100, 0, 5]] * 2
    echo = np.linspace(0.0, 1.0, 60)
    assert np.allclose(found.scalars["intensity"], np.concatenate([echo, echo + 100.0]))
    assert found.notes == (
        "2 stations were joined, each at its place. Sensors: 0, 0, 0; 100, 0, 5.",
    )


def test_what_is_no_e57(tmp_path):
    (tmp_path / "a.e57").write_bytes(b"something else")
    with pytest.raises(DataError, match="does not begin with ASTM-E57"):
        read_points(tmp_path / "a.e57")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.las", "laspy", "las"), ("a.laz", "lazrs", "las"), ("a.e57", "pye57", "e57")],
)
def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, name, module, extra):
    head = bytearray(b"LASF" + bytes(300))
    head[104] = 0x83 if name == "a.laz" else 3
    (tmp_path / name).write_bytes(b"ASTM-E57" + bytes(50) if extra == "e57" else head)
    if module == "lazrs":
        monkeypatch.setitem(sys.modules, "laspy", object())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{module} is not installed.*levelset\[{extra}\]"):
        read_points(tmp_path / name)
