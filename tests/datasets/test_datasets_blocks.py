"""Files read block by block hold what they hold when read whole."""

import gzip

import numpy as np
import pytest

from levelset.datasets import _points, read_points
from levelset.datasets._blocks import blocks
from levelset.errors import DataError, ParameterError

ROWS = 70


@pytest.fixture
def table(noise):
    points = np.round(noise.normal(size=(500, 3)), 4)
    return np.hstack([points, noise.integers(0, 256, (500, 3))])


def ply(table, kind, extra=""):
    names = "property float x\nproperty float y\nproperty float z\n"
    names += "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    head = f"ply\nformat {kind} 1.0\n{extra}element vertex {len(table)}\n{names}end_header\n"
    if kind == "ascii":
        return head.encode() + b"".join(b"%.4f %.4f %.4f %d %d %d\n" % tuple(row) for row in table)
    dtype = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in "rgb"]
    return head.encode() + np.array([tuple(row) for row in table], dtype).tobytes()


def pcd(table):
    head = (
        "VERSION 0.7\nFIELDS x y z echo\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        f"WIDTH {len(table)}\nHEIGHT 1\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS {len(table)}\nDATA binary\n"
    )
    return head.encode() + table[:, :4].astype("<f4").tobytes()


def lines(table, separator, head=""):
    return head.encode() + b"".join(
        separator.join(f"{x:g}" for x in row).encode() + b"\n" for row in table
    )


FILES = {
    "a.ply": lambda t: ply(t, "binary_little_endian"),
    "b.ply": lambda t: ply(t, "ascii"),
    "c.xyz": lambda t: lines(t[:, :3], " "),
    "d.csv": lambda t: lines(t, ",", "# of a survey\nx,y,z,r,g,b\n"),
    "e.txt": lambda t: lines(t, ";").replace(b".", b","),
    "f.asc": lambda t: lines(t, "\t", "500\n"),
    "g.csv": lambda t: b"\xff\xfe" + lines(t, ";", "x;y;z;echo;a;b\n").decode().encode("utf-16-le"),
    "h.pts": lambda t: lines(t[:, [0, 1, 2, 0, 3, 4, 5]], " ", "500\n"),
    "i.pcd": pcd,
    "j.xyz": lambda t: lines(t[:, :2], " "),
    "k.ply": lambda t: ply(
        t, "binary_little_endian", "element camera 2\nproperty int id\n"
    ).replace(b"end_header\n", b"end_header\n" + bytes(8)),
}


def equal(a, b):
    assert np.allclose(a.points, b.points, rtol=0, atol=1e-12)
    assert a.notes == b.notes
    for name in ("colours", "normals", "sensors"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        assert one is None or np.allclose(one, other, rtol=0, atol=1e-9), name
    assert a.scalars.keys() == b.scalars.keys()
    assert all(np.allclose(a.scalars[k], b.scalars[k], rtol=0, atol=1e-9) for k in a.scalars)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_read_in_blocks_is_the_same_as_read_whole(
    tmp_path, monkeypatch, table, name, packed
):
    monkeypatch.setattr(_points, "ROWS", ROWS)
    path = tmp_path / (f"{name}.gz" if packed else name)
    data = FILES[name](table)
    path.write_bytes(gzip.compress(data) if packed else data)
    with blocks(path, ROWS) as parts:
        assert len(list(parts)) == 8
    equal(read_points(path, most=1000), read_points(path))


def test_arrays_in_blocks(tmp_path, monkeypatch, table):
    monkeypatch.setattr(_points, "ROWS", ROWS)
    for k, array in enumerate([table, table[:, :3].astype(np.float32), np.asfortranarray(table)]):
        np.save(tmp_path / f"{k}.npy", array)
        equal(read_points(tmp_path / f"{k}.npy", most=1000), read_points(tmp_path / f"{k}.npy"))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds pickled objects"):
        read_points(tmp_path / "o.npy", most=1000)


def test_means_have_the_mass_of_the_file_and_say_so(tmp_path, monkeypatch, table):
    monkeypatch.setattr(_points, "ROWS", ROWS)
    (tmp_path / "a.ply").write_bytes(ply(table, "binary_little_endian"))
    whole = read_points(tmp_path / "a.ply")
    cloud = read_points(tmp_path / "a.ply", most=100)
    assert len(cloud) <= 100
    assert cloud.counts.sum() == 500
    for name in ("points", "colours"):
        mean = (getattr(cloud, name) * cloud.counts[:, None]).sum(0) / 500
        assert np.allclose(mean, getattr(whole, name).mean(0), rtol=0, atol=1e-9)
    assert len(cloud.sample) == 500
    assert any("500 points were averaged in" in note for note in cloud.notes)


@pytest.mark.parametrize("name", ["a.ply", "b.ply", "h.pts", "i.pcd"])
def test_files_cut_short_are_named_in_blocks_too(tmp_path, monkeypatch, table, name):
    monkeypatch.setattr(_points, "ROWS", ROWS)
    data = FILES[name](table)
    (tmp_path / name).write_bytes(data[: data.rindex(b"\n", 0, -40) + 1 if name < "i" else -40])
    with pytest.raises(DataError, match=r"is cut short: 500 \w+ announced, 4\d\d there"):
        read_points(tmp_path / name, most=100)


def test_rows_of_another_length_in_a_later_block(tmp_path, monkeypatch, table):
    monkeypatch.setattr(_points, "ROWS", ROWS)
    (tmp_path / "a.xyz").write_bytes(lines(table[:210, :3], " ") + lines(table[210:, :4], " "))
    with pytest.raises(DataError, match=r"all of one length"):
        read_points(tmp_path / "a.xyz", most=100)


def test_the_number_of_points_must_be_positive(tmp_path):
    with pytest.raises(ParameterError, match="`most` must be positive, got 0"):
        read_points("sample", most=0)


def test_las_and_e57_in_blocks(tmp_path, monkeypatch, table):
    laspy, pye57 = pytest.importorskip("laspy"), pytest.importorskip("pye57")
    monkeypatch.setattr(_points, "ROWS", ROWS)
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales = np.full(3, 1e-4)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = table[:, :3].T
    cloud.red, cloud.green, cloud.blue = (table[:, 3:] * 256).astype(np.uint16).T
    cloud.write(tmp_path / "a.las")
    with pye57.E57(str(tmp_path / "a.e57"), mode="w") as file:
        for shift in ([0.0, 0.0, 0.0], [100.0, 0.0, 5.0]):
            data = {f"cartesian{axis}": table[:, k] for k, axis in enumerate("XYZ")}
            data |= {f"color{n}": table[:, 3].astype(np.uint8) for n in ("Red", "Green", "Blue")}
            data["intensity"] = table[:, 1]
            file.write_scan_raw(data, translation=np.array(shift))
    for name, count in (("a.las", 500), ("a.e57", 1000)):
        whole = read_points(tmp_path / name)
        assert len(whole) == count
        equal(read_points(tmp_path / name, most=1000), whole)
