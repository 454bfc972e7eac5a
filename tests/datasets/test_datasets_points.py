"""Clouds of points from files."""

import gzip
import time

import numpy as np
import pytest
import torch

from levelset.datasets import PointCloud, read_points
from levelset.datasets._points import POINT_SUFFIXES
from levelset.errors import DataError

ORDERS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


@pytest.fixture
def cloud(noise):
    points = noise.standard_normal((40, 3))
    return points, points / np.linalg.norm(points, axis=1, keepdims=True)


def ply(path, columns, order="binary_little_endian", *, before=b"", after=(), tail=b""):
    """Write a PLY by hand: `columns` maps names to (type, values)."""
    numpy_types = {"float": "f4", "double": "f8", "uchar": "u1", "int": "i4", "short": "i2"}
    count = len(next(iter(columns.values()))[1])
    header = ["ply", f"format {order} 1.0", "comment made by hand", f"element vertex {count}"]
    header += [f"property {kind} {name}" for name, (kind, _) in columns.items()]
    header += [*after, "end_header", ""]
    if ORDERS[order] is None:
        rows = zip(*(values for _, values in columns.values()), strict=True)
        body = "".join(" ".join(f"{float(v):.17g}" for v in row) + "\n" for row in rows).encode()
    else:
        dtype = [(name, ORDERS[order] + numpy_types[kind]) for name, (kind, _) in columns.items()]
        table = np.zeros(count, dtype)
        for name, (_, values) in columns.items():
            table[name] = values
        body = table.tobytes()
    path.write_bytes("\n".join(header).encode() + before + body + tail)
    return path


def xyz(points, kind="double", names="xyz"):
    return {name: (kind, points[:, k]) for k, name in enumerate(names)}


@pytest.mark.parametrize("order", ORDERS)
def test_ply_of_every_order_gives_the_bits_that_were_written(tmp_path, cloud, order):
    points, normals = cloud
    columns = {
        "quality": ("uchar", np.arange(40) % 7),
        **xyz(points),
        **{f"n{axis}": ("double", normals[:, k]) for k, axis in enumerate("xyz")},
        "label": ("short", -np.arange(40)),
    }
    found = read_points(ply(tmp_path / "a.ply", columns, order))
    assert torch.equal(found.points, torch.from_numpy(points))
    assert torch.equal(found.normals, torch.from_numpy(normals))
    assert found.points.dtype == torch.float64
    assert (found.name, found.notes, len(found)) == ("a", (), 40)
    assert repr(found) == "PointCloud(name='a', points=(40, 3), normals=(40, 3))"


@pytest.mark.parametrize("order", ORDERS)
def test_single_precision_and_integers_are_taken_exactly(tmp_path, cloud, order):
    points = (100 * cloud[0]).astype(np.int32)
    found = read_points(ply(tmp_path / "a.ply", xyz(points, "int"), order))
    assert torch.equal(found.points, torch.from_numpy(points).double())
    points = cloud[0].astype(np.float32)
    found = read_points(ply(tmp_path / "b.ply", xyz(points, "float"), order))
    assert torch.equal(found.points, torch.from_numpy(points).double())
    assert found.normals is None


@pytest.mark.parametrize("name", ["face", "tristrips"])
def test_of_a_mesh_the_vertices_are_used_with_a_word(tmp_path, cloud, name):
    after = [f"element {name} 2", "property list uchar int vertex_indices"]
    tail = np.array([3, 0, 1, 2], dtype="<i4").tobytes()
    found = read_points(ply(tmp_path / "a.ply", xyz(cloud[0]), after=after, tail=tail))
    assert torch.equal(found.points, torch.from_numpy(cloud[0]))
    assert found.notes == (
        f"The file is a mesh of 2 {name} elements; only its 40 vertices were used.",
    )


def test_no_faces_no_word(tmp_path, cloud):
    after = ["element face 0", "property list uchar int vertex_indices"]
    assert read_points(ply(tmp_path / "a.ply", xyz(cloud[0]), after=after)).notes == ()


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_elements_before_the_vertices_are_passed_over(tmp_path, cloud, order):
    path = ply(tmp_path / "a.ply", xyz(cloud[0]), order)
    text = b"7 1.5\n" if order == "ascii" else np.array([(7, 1.5)], dtype="<i4,<f8").tobytes()
    whole = path.read_bytes().replace(
        b"element vertex",
        b"element camera 1\nproperty int id\nproperty double view\nelement vertex",
    )
    path.write_bytes(whole.replace(b"end_header\n", b"end_header\n" + text))
    assert torch.equal(read_points(path).points, torch.from_numpy(cloud[0]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cut", [40, 200])
def test_a_ply_cut_short_is_refused_with_counts(tmp_path, cloud, order, cut):
    path = ply(tmp_path / "a.ply", xyz(cloud[0]), order)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"cut short: 40 vertices announced, 3\d there|not 3 num"):
        read_points(path)


def test_a_ply_cut_in_its_header_is_refused(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement ver")
    with pytest.raises(DataError, match="cut short: its header does not end"):
        read_points(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("format ascii 1.0\nelement vertex 1\nproperty quad x", "'property quad x'"),
        ("format ascii 1.0\nelement vertex many", "'element vertex many'"),
        ("format martian 1.0", "'format martian 1.0'"),
        ("format ascii 1.0\nproperty float x", "'property float x'"),
        ("element vertex 0", "no line `format`"),
    ],
)
def test_headers_that_make_no_sense_are_quoted(tmp_path, header, words):
    (tmp_path / "a.ply").write_text(f"ply\n{header}\nend_header\n")
    with pytest.raises(DataError, match=f"a header that is no PLY's: {words}"):
        read_points(tmp_path / "a.ply")


def test_what_is_no_ply_is_said_to_be_none(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    with pytest.raises(DataError, match="is no PLY file: it does not begin"):
        read_points(tmp_path / "a.ply")


def test_plys_without_points_are_refused(tmp_path, cloud):
    with pytest.raises(DataError, match="must have the vertex properties x, y and z, got u, v"):
        read_points(ply(tmp_path / "a.ply", xyz(cloud[0][:, :2], names="uv")))
    (tmp_path / "b.ply").write_text("ply\nformat ascii 1.0\nelement edge 0\nend_header\n")
    with pytest.raises(DataError, match="has no element `vertex`"):
        read_points(tmp_path / "b.ply")
    with pytest.raises(DataError, match="is empty: it holds no point"):
        read_points(ply(tmp_path / "c.ply", xyz(cloud[0][:0])))
    with pytest.raises(DataError, match="is empty: it holds no point"):
        read_points(ply(tmp_path / "d.ply", xyz(cloud[0][:0]), "ascii"))


FACES = {
    "alike": [[0, 1, 2], [2, 3, 4]],
    "different": [[0, 1, 2, 3], [2, 3, 4]],
    "none": [],
}


@pytest.mark.parametrize("faces", FACES.values(), ids=FACES)
@pytest.mark.parametrize("order", ORDERS)
def test_faces_before_the_vertices_are_passed_over(tmp_path, cloud, order, faces):
    path = ply(tmp_path / "a.ply", xyz(cloud[0]), order)
    head = f"element face {len(faces)}\nproperty list uchar int vertex_indices\nelement vertex"
    mark = ORDERS[order]
    if mark is None:
        rows = "".join(f"{len(face)} {' '.join(map(str, face))}\n" for face in faces).encode()
    else:
        rows = b"".join(
            bytes([len(face)]) + np.array(face, mark + "i4").tobytes() for face in faces
        )
    whole = path.read_bytes().replace(b"element vertex", head.encode())
    path.write_bytes(whole.replace(b"end_header\n", b"end_header\n" + rows))
    assert torch.equal(read_points(path).points, torch.from_numpy(cloud[0]))
    if mark is not None and faces:
        path.write_bytes(path.read_bytes()[: -40 * 24 - 3])
        with pytest.raises(DataError, match="is cut short"):
            read_points(path)


@pytest.mark.parametrize("lengths", [(2, 2, 2), (1, 0, 3)])
@pytest.mark.parametrize("order", ORDERS)
def test_lists_among_the_numbers_of_a_vertex_are_passed_over(tmp_path, order, lengths):
    head = (
        f"ply\nformat {order} 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
        "property list uchar short views\nproperty float z\nend_header\n"
    ).encode()
    mark, body = ORDERS[order], b""
    for row, count in enumerate(lengths):
        x, y, z, views = row, row + 0.5, -row, list(range(count))
        if mark is None:
            body += f"{x} {y} {count} {' '.join(map(str, views))} {z}\n".encode()
        else:
            body += np.array([x, y], mark + "f4").tobytes() + bytes([count])
            body += np.array(views, mark + "i2").tobytes() + np.array([z], mark + "f4").tobytes()
    (tmp_path / "a.ply").write_bytes(head + body)
    found = read_points(tmp_path / "a.ply")
    assert found.points.tolist() == [[0, 0.5, 0], [1, 1.5, -1], [2, 2.5, -2]]


@pytest.mark.parametrize("names", ["normal_{}", "normal{}", "n{}"])
def test_normals_and_colours_of_a_ply_by_any_of_their_names(tmp_path, cloud, names):
    points, normals = cloud
    columns = {
        **xyz(points),
        **{names.format(axis): ("double", normals[:, k]) for k, axis in enumerate("xyz")},
        **{
            name: ("uchar", np.arange(40) * k) for k, name in enumerate(["red", "green", "blue"], 1)
        },
    }
    found = read_points(ply(tmp_path / "a.ply", columns))
    assert torch.equal(found.normals, torch.from_numpy(normals))
    steps = torch.arange(40, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(found.colours, steps / 255)


def test_text_that_is_no_number_in_a_ply_is_refused(tmp_path, cloud):
    path = ply(tmp_path / "a.ply", xyz(cloud[0][:3]), "ascii")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], "1 two 3"]))
    with pytest.raises(DataError, match=r"a vertex that is not 3 numbers.*two"):
        read_points(path)
    path.write_text("\n".join([*lines[:-3], *["1 2"] * 3]))
    with pytest.raises(DataError, match="must have 3 numbers a vertex on 3 lines, got 2 on 3"):
        read_points(path)


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", ", ", "   "])
@pytest.mark.parametrize("suffix", [".xyz", ".txt", ".csv"])
def test_tables_of_every_separator(tmp_path, cloud, separator, suffix):
    rows = [separator.join(f"{v:.17g}" for v in row) for row in cloud[0]]
    path = tmp_path / f"a{suffix}"
    path.write_text("# a comment\n" + "\n".join(rows) + "\n\n")
    assert torch.equal(read_points(path).points, torch.from_numpy(cloud[0]))


def test_names_tell_the_columns(tmp_path, cloud):
    points, normals = cloud
    table = np.hstack([np.arange(40)[:, None], points[:, ::-1], normals])
    rows = [",".join(f"{v:.17g}" for v in row) for row in table]
    path = tmp_path / "a.csv"
    path.write_text('"Time","Z","Y","X",nx,ny,nz\r\n' + "\r\n".join(rows), encoding="utf-8-sig")
    found = read_points(path)
    assert torch.equal(found.points, torch.from_numpy(points))
    assert torch.equal(found.normals, torch.from_numpy(normals))
    assert found.notes == ()


def test_six_columns_are_normals_where_their_length_is_one_and_colours_otherwise(tmp_path, cloud):
    points, normals = cloud
    path = tmp_path / "a.xyz"
    np.savetxt(path, np.hstack([points, normals]), fmt="%.17g")
    found = read_points(path)
    assert torch.equal(found.normals, torch.from_numpy(normals))
    np.savetxt(path, np.hstack([points, 100 + 100 * normals]), fmt="%.17g")
    found = read_points(path)
    assert torch.equal(found.points, torch.from_numpy(points))
    assert found.normals is None
    assert "6 columns not named x, y, z; the first three" in found.notes[0]


def test_two_columns_are_points_in_the_plane(tmp_path, cloud):
    path = tmp_path / "a.csv"
    np.savetxt(path, cloud[0][:, :2], fmt="%.17g", delimiter=",", header="x,y", comments="")
    assert torch.equal(read_points(path).points, torch.from_numpy(cloud[0][:, :2]))
    np.save(tmp_path / "b.npy", cloud[0][:, :2])
    assert torch.equal(read_points(tmp_path / "b.npy").points, torch.from_numpy(cloud[0][:, :2]))


def test_a_count_on_the_first_line_is_no_point(tmp_path, cloud):
    path = tmp_path / "a.xyz"
    np.savetxt(path, cloud[0], fmt="%.17g", header="40", comments="")
    assert torch.equal(read_points(path).points, torch.from_numpy(cloud[0]))


def test_missing_values_stay_for_who_uses_the_points(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\nnan,5,6\n")
    assert read_points(tmp_path / "a.csv").points.isnan().tolist() == [
        [False] * 3,
        [True] + [False] * 2,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x y z\n1 2 3\n1 two 3\n", "must hold rows of numbers, all of one length: .*two"),
        ("1 2 3\n1 2\n", "must hold rows of numbers, all of one length"),
        ("1\n2\n", "must have 3 columns, 2 for points in the plane, or 6 with normals, got 1"),
        ("x y z\n", "is empty"),
        ("", "is empty"),
        ("name colour taste\nrose red sweet\n", "must hold rows of numbers"),
    ],
)
def test_tables_that_are_none(tmp_path, text, words):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_points(tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".txt", ".obj"])
def test_binary_under_a_suffix_of_text_is_refused(tmp_path, cloud, suffix):
    (tmp_path / f"a{suffix}").write_bytes(cloud[0].tobytes() + bytes(8))
    with pytest.raises(DataError, match=f"is binary, but {suffix} is a format of text"):
        read_points(tmp_path / f"a{suffix}")


def test_obj_vertices_with_normals_and_colours(tmp_path, cloud):
    points, normals = cloud
    rows = [f"v {x:.17g} {y:.17g} {z:.17g} 0.5 0.5 0.5" for x, y, z in points]
    rows += [f"vn {x:.17g} {y:.17g} {z:.17g}" for x, y, z in normals]
    path = tmp_path / "a.obj"
    path.write_text("# points\no cloud\n" + "\n".join(rows) + "\n")
    found = read_points(path)
    assert torch.equal(found.points, torch.from_numpy(points))
    assert torch.equal(found.normals, torch.from_numpy(normals))
    assert found.notes == ()
    # faces that pair a vertex with a normal of its own number keep the normals; others lose them
    path.write_text("\n".join([*rows, "f 1//1 2//2 3//3"]))
    found = read_points(path)
    assert torch.equal(found.normals, torch.from_numpy(normals))
    assert found.notes == ("The file is a mesh of 1 faces; only its 40 vertices were used.",)
    for face in ("f 1//2 2//3 3//1", "f 1 2 3", "f 1/1 2/2 3/3"):
        path.write_text("\n".join([*rows, face]))
        assert read_points(path).normals is None


def test_objs_that_are_none(tmp_path):
    (tmp_path / "a.obj").write_text("vn 1 0 0\n")
    with pytest.raises(DataError, match="no line begins with `v`"):
        read_points(tmp_path / "a.obj")
    (tmp_path / "a.obj").write_text("v 1 0\nv 1 2\n")
    with pytest.raises(DataError, match="must have three numbers a vertex, got 2"):
        read_points(tmp_path / "a.obj")
    (tmp_path / "a.obj").write_text("v 1 0 x\n")
    with pytest.raises(DataError, match="must hold rows of numbers"):
        read_points(tmp_path / "a.obj")


def test_npy_of_three_and_six_columns(tmp_path, cloud):
    points, normals = cloud
    np.save(tmp_path / "a.npy", points.astype(np.float32))
    assert torch.equal(
        read_points(tmp_path / "a.npy").points, torch.from_numpy(points.astype(np.float32)).double()
    )
    np.save(tmp_path / "b.npy", np.asfortranarray(np.hstack([points, normals])))
    found = read_points(tmp_path / "b.npy")
    assert torch.equal(found.points, torch.from_numpy(points))
    assert torch.equal(found.normals, torch.from_numpy(normals))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[1, "a", None]], dtype=object), "pickled objects, which can run code"),
        (np.zeros((5, 4)), "must hold 2, 3 or 6 columns .*got 4"),
        (np.zeros(5), r"must hold one array of numbers, .*got float64 \(5,\)"),
        (np.zeros((5, 3), dtype=complex), "must hold one array of numbers, .*got complex128"),
        (np.zeros((0, 3)), "is empty"),
    ],
)
def test_npys_that_are_no_points(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=words):
        read_points(tmp_path / "a.npy")


def test_npys_that_are_none(tmp_path, cloud):
    path = tmp_path / "a.npy"
    path.write_bytes(b"not an array at all, but text")
    with pytest.raises(DataError, match="pickled objects, which can run code, or is no NumPy"):
        read_points(path)
    np.save(path, cloud[0])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="is damaged, cut short, or no NumPy file"):
        read_points(path)
    with path.open("wb") as file:
        np.savez(file, points=cloud[0])
    with pytest.raises(DataError, match=r"must hold one array of numbers.*got an archive"):
        read_points(path)


def pcd(path, points, normals, kind):
    table = np.zeros(len(points), [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("pad", "u1", (4,)), ("normal_x", "<f8"),
        ("normal_y", "<f8"), ("normal_z", "<f8"), ("ring", "<u2"),
    ])  # fmt: skip
    for k, axis in enumerate("xyz"):
        table[axis], table[f"normal_{axis}"] = points[:, k], normals[:, k]
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _ normal_x normal_y normal_z ring\n"
        "SIZE 4 4 4 1 8 8 8 2\nTYPE F F F U F F F U\nCOUNT 1 1 1 4 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\n"
        f"DATA {kind}\n"
    )
    rows = [[*p, 0, 0, 0, 0, *n, 0] for p, n in zip(points, normals, strict=True)]
    text = "".join(" ".join(f"{v:.17g}" for v in row) + "\n" for row in rows)
    path.write_bytes(header.encode() + (text.encode() if kind == "ascii" else table.tobytes()))
    return path


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_pcd_with_padding_and_normals(tmp_path, cloud, kind):
    points, normals = cloud[0].astype(np.float32), cloud[1]
    found = read_points(pcd(tmp_path / "a.pcd", points, normals, kind))
    assert torch.equal(found.points, torch.from_numpy(points).double())
    assert torch.equal(found.normals, torch.from_numpy(normals))


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_a_pcd_cut_short_is_refused_with_counts(tmp_path, cloud, kind):
    path = pcd(tmp_path / "a.pcd", *cloud, kind)
    path.write_bytes(path.read_bytes()[:-150])
    with pytest.raises(DataError, match=r"cut short: 40 points announced, 3\d there|not fit its"):
        read_points(path)


def test_pcds_that_are_not_read(tmp_path, cloud):
    path = pcd(tmp_path / "a.pcd", *cloud, "binary")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"DATA binary", b"DATA binary_compressed"))
    with pytest.raises(DataError, match=r"kind binary_compressed, .*pcl_convert_pcd_ascii_binary"):
        read_points(path)
    path.write_bytes(whole.replace(b"FIELDS x", b"FIELDS a"))
    with pytest.raises(DataError, match="must have the fields x, y and z, got a, y, z"):
        read_points(path)
    path.write_bytes(whole.replace(b"SIZE 4", b"SIZE four"))
    with pytest.raises(DataError, match="has a header that is no PCD's"):
        read_points(path)
    path.write_bytes(b"solid stl\n" * 20)
    with pytest.raises(DataError, match="is no PCD file, or cut short"):
        read_points(path)
    path = pcd(tmp_path / "b.pcd", *cloud, "ascii")
    path.write_bytes(
        path.read_bytes().replace(b"TYPE F F F U", b"TYPE F F F U").replace(b" 0 ", b" nil ")
    )
    with pytest.raises(DataError, match="has a point that does not fit its header"):
        read_points(path)


def test_zero_normals_are_left_out_with_a_word(tmp_path, cloud):
    np.save(tmp_path / "a.npy", np.hstack([cloud[0], np.zeros((40, 3))]))
    found = read_points(tmp_path / "a.npy")
    assert found.normals is None
    assert found.notes == ("The normals in the file are all zero and were left out.",)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.ply does not exist"):
        read_points(tmp_path / "nothing.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(DataError, match="is a folder: give one of its files"):
        read_points(tmp_path / "folder.ply")
    with pytest.raises(DataError, match=r"'a\.stl' must end in one of \.ply, \.obj, \.xyz"):
        read_points(tmp_path / "a.stl")
    text = {".obj", ".xyz", ".txt", ".csv", ".asc", ".pts", ".ptx", ".off"}
    binary = {".ply", ".npy", ".npz", ".pcd", ".las", ".laz", ".e57", ".gz"}
    assert set(POINT_SUFFIXES) == text | binary


def test_names_of_any_letters_and_capital_suffixes(tmp_path, cloud):
    path = ply(tmp_path / "Größe 測量.PLY", xyz(cloud[0]))
    assert read_points(str(path)).name == "Größe 測量"


def test_a_cloud_is_its_length_and_one_line():
    cloud = PointCloud(torch.zeros(3, 3), None, "a")
    assert (len(cloud), repr(cloud)) == (3, "PointCloud(name='a', points=(3, 3), normals=False)")


@pytest.mark.slow
def test_a_million_points_from_binary_take_less_than_two_seconds(tmp_path, noise):
    points = noise.standard_normal((1_000_000, 3))
    path = ply(tmp_path / "a.ply", xyz(points))
    began = time.process_time()
    found = read_points(path)
    assert time.process_time() - began < 2.0
    assert torch.equal(found.points, torch.from_numpy(points))


@pytest.mark.data
@pytest.mark.parametrize("name", ["fandisk", "fandisk-scan"])
def test_real_files(levelset_data, name):
    found = read_points(levelset_data / "meshes" / f"{name}.ply")
    scan = name.endswith("scan")
    assert len(found) == (60_000 if scan else 6_475)
    assert bool(found.notes) == (not scan)
    assert float(found.points.norm(dim=1).max()) == pytest.approx(1.0, abs=0.02 if scan else 1e-6)


def test_an_archive_of_arrays_and_what_gzip_packed(tmp_path, cloud):
    points, normals = cloud
    colours = np.arange(120, dtype=np.uint8).reshape(40, 3)
    np.savez(tmp_path / "a.npz", xyz=points, normals=normals, colors=colours)
    found = read_points(tmp_path / "a.npz")
    assert torch.equal(found.points, torch.from_numpy(points))
    assert torch.equal(found.normals, torch.from_numpy(normals))
    assert torch.allclose(found.colours, torch.from_numpy(colours / 255.0))
    np.savez(tmp_path / "b.npz", anything=points)
    assert torch.equal(read_points(tmp_path / "b.npz").points, torch.from_numpy(points))
    np.savez(tmp_path / "c.npz", left=points, right=points)
    with pytest.raises(DataError, match=r"must hold one of the arrays points, .*got left, right"):
        read_points(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", points=points, normals=normals[:5])
    with pytest.raises(DataError, match=r"must hold normals of the shape \(40, 3\)"):
        read_points(tmp_path / "d.npz")
    path = ply(tmp_path / "e.ply", xyz(points))
    packed = tmp_path / "e.ply.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    found = read_points(packed)
    assert (found.name, torch.equal(found.points, torch.from_numpy(points))) == ("e", True)
    (tmp_path / "f.gz").write_bytes(gzip.compress(b"1 2 3"))
    with pytest.raises(DataError, match=r"must name what it holds before .gz"):
        read_points(tmp_path / "f.gz")
    packed.write_bytes(packed.read_bytes()[:50])
    with pytest.raises(DataError, match=r"e.ply.gz"):
        read_points(packed)


def test_a_packed_file_that_would_grow_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(b"1 2 3\n" * 10**6))
    monkeypatch.setenv("LEVELSET_MAX_BYTES", str(10**6))
    with pytest.raises(DataError, match="too large"):
        read_points(tmp_path / "a.xyz.gz")


@pytest.mark.parametrize(
    ("viewpoint", "sensor"),
    [
        ("VIEWPOINT 1.5 -2 3 1 0 0 0\n", [1.5, -2.0, 3.0]),
        ("VIEWPOINT 0 0 0 0.6 0 0.8 0\n", [0.0, 0.0, 0.0]),
        ("VIEWPOINT 0 0 0 1 0 0 0\n", None),  # what programs write unasked
        ("", None),
    ],
)
def test_the_viewpoint_of_a_pcd_file_is_its_sensor(tmp_path, viewpoint, sensor):
    head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\n"
    rows = f"{viewpoint}POINTS 2\nDATA ascii\n0 0 1\n0 1 0\n"
    (tmp_path / "a.pcd").write_text(head + rows)
    sensors = read_points(tmp_path / "a.pcd").sensors
    assert sensors is None if sensor is None else sensors.tolist() == [sensor] * 2


@pytest.mark.parametrize("words", ["1 2 3", "1 2 3 1 0 0 x", "nan 0 0 1 0 0 0"])
def test_a_viewpoint_of_a_pcd_file_that_is_none(tmp_path, words):
    head = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nVIEWPOINT {words}\n"
    (tmp_path / "a.pcd").write_text(head + "POINTS 1\nDATA ascii\n0 0 1\n")
    with pytest.raises(DataError, match=f"VIEWPOINT must be 7 numbers, got {words}"):
        read_points(tmp_path / "a.pcd")
