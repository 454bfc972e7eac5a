"""Files that would run code, write files or fill the memory: each is built, and nothing ran."""

import gzip
import io
import json
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from levelset.datasets import load_model, read_images, read_points
from levelset.errors import DataError

MARKER = "marker"
# Every program below makes this file, where it runs.
CODE = "__import__('pathlib').Path('marker').touch()"


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / MARKER).exists(), "the file ran its code"


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("shift", torch.linspace(0, 1, 3))

    def forward(self, x):
        return torch.nn.functional.gelu(self.layer(x), approximate="tanh") + self.shift


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Return the members of an exported program, its folder left out."""
    file = tmp_path_factory.mktemp("hostile") / "m.pt2"
    shapes = ({0: torch.export.Dim("n", min=3)},)
    exported = torch.export.export(Small().eval(), (torch.zeros(5, 4),), dynamic_shapes=shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(exported, file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(members, file="m.pt2"):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"m/{name}", content)
    return file


def size(graph):
    return graph["tensor_values"]["x"]["sizes"][0]["as_expr"]


def as_size(text):
    def edit(model):
        size(model["graph_module"]["graph"])["expr_str"] = text

    return edit


def as_guard(text):
    return lambda model: model.update(guards_code=[text])


def as_target(text):
    def edit(model):
        model["graph_module"]["graph"]["nodes"][0]["target"] = text

    return edit


def rename(old, new):
    """Return an edit that renames a value wherever it stands."""

    def edit(model):
        text = json.dumps(model).replace(json.dumps(old), json.dumps(new))
        model.clear()
        model.update(json.loads(text))

    return edit


def as_keyword(text):
    def edit(model):
        model["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(name=text, kind=2)

    return edit


def as_argument(kind, value):
    def edit(model):
        model["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {kind: value}

    return edit


def as_input_string(model):
    graph = model["graph_module"]["graph"]
    graph["inputs"][-1] = {"as_string": f"' + str({CODE}) + '"}


def as_tree(kind, context):
    tree = [1, {"type": kind, "context": context, "children_spec": []}]

    def edit(model):
        model["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(tree)

    return edit


def in_a_branch(model):
    """Hide an operator in the graph of a branch."""
    graph = model["graph_module"]["graph"]
    inner = json.loads(json.dumps(graph))
    inner["nodes"][0]["target"] = "torch.ops.aten.from_file.default"
    argument = {"as_graph": {"name": "true_graph_0", "graph": inner}}
    node = graph["nodes"][0]
    node.update(target="torch.ops.higher_order.cond")
    node["inputs"][0]["arg"] = argument


EDITS = {
    "a size": as_size(CODE),
    "a size behind a symbol": as_size(f"Symbol('s77') + {CODE}"),
    "a size in a name": as_size(f"Symbol('s77', {CODE})"),
    "a size by attributes": as_size("Symbol('s77').__class__.__mro__"),
    "a size by a lambda": as_size(f"(lambda: {CODE})()"),
    "a size by subscripts": as_size(f"[{CODE}][0]"),
    "a size that is a tower": as_size("9**9**9**9**9"),
    "a size of functions in towers": as_size("Pow(Pow(Integer(9), Integer(16)), Integer(16))"),
    "a shift": as_size("LShift(Integer(1), Integer(999999999))"),
    "a size that is no text": as_size(7),
    "a guard": as_guard(CODE),
    "a guard by and": as_guard(f"L['x'].size()[0] >= 2 and {CODE}"),
    "a guard with quotes": as_guard(f"L['x'].size()[0] == L['\"+str({CODE})+\"']"),
    "a guard in a key": as_guard(f"L[{CODE}].size()[0] >= 2"),
    "a guard on lines": as_guard(f"True)\n  {CODE}\n  (1"),
    "a guard by a method": as_guard("L['x'].tofile('marker')"),
    "a guard by numpy": as_guard("L['x'].numpy().tofile('marker')"),
    "a target of Python": as_target("_operator.attrgetter"),
    "a target of torch": as_target("torch.load"),
    "a target deep in torch": as_target("torch.utils._config_module.os.system"),
    "a target of math": as_target("math.factorial"),
    "a file": as_target("torch.ops.aten.from_file.default"),
    "a file by another name": as_target("torch.ops.aten.from_file.out"),
    "a saved file": as_target("torch.ops.aten.save.default"),
    "memory by its storage": as_target("torch.ops.aten.set_.source_Storage"),
    "memory of another size": as_target("torch.ops.aten.resize_.default"),
    "an unchecked operator": as_target("torch.ops.aten._sparse_coo_tensor_unsafe.default"),
    "an operator of an extension": as_target("#x:y"),
    "an operator of another kind": as_target("torch.ops.profiler._record_function_enter.default"),
    "a kernel": as_target("torch.ops.higher_order.triton_kernel_wrapper_functional"),
    "an operator as an argument": as_argument("as_operator", "torch.ops.aten.from_file.default"),
    "an object": as_argument("as_custom_obj", {"name": "a", "class_fqn": "b"}),
    "a number that is code": as_argument("as_int", CODE),
    "a branch": in_a_branch,
    "the name of an input": rename("x", f"x={CODE}"),
    "the name of a value": rename("linear", f"linear = {CODE}; y"),
    "the name of a weight": rename("layer.weight", f'layer.weight" + str({CODE}) + "'),
    "the name of a special weight": rename("layer.weight", "__class__.weight"),
    "the name of an argument": as_keyword(f"a={CODE}, b"),
    "an input that is a string": as_input_string,
    "an enumeration": as_tree("builtins.tuple", '{"__enum__": true, "fqn": "marker:a.b"}'),
    "a default dictionary": as_tree(
        "collections.defaultdict",
        '{"default_factory_module": "marker", "default_factory_name": "a", "dict_context": []}',
    ),
    "an unknown field": lambda model: model.update(on_load=CODE),
    "another schema": lambda model: model["schema_version"].update(major=9),
    "a symbol of a large number": lambda model: model["range_constraints"].update(
        u999999999={"min_val": 0, "max_val": None}
    ),
    "a range": lambda model: model["range_constraints"].update(
        {CODE: {"min_val": 0, "max_val": None}}
    ),
}


def edited(program, edit):
    model = json.loads(program["models/model.json"])
    edit(model)
    return {**program, "models/model.json": json.dumps(model).encode()}


@pytest.mark.parametrize("name", EDITS)
def test_code_in_the_words_of_a_program_does_not_run(program, name):
    file = write(edited(program, EDITS[name]))
    with pytest.raises(DataError, match=r"m\.pt2 is refused: ") as caught:
        load_model(file)(torch.zeros(5, 4))
    assert "plain tensors" in str(caught.value)


def test_stack_traces_and_sources_of_a_program_do_no_harm(program):
    def edit(model):
        for node in model["graph_module"]["graph"]["nodes"]:
            node["metadata"] = dict.fromkeys(
                ("stack_trace", "nn_module_stack", "source_fn_stack", "custom", "from_node"),
                f'File "x", line 1, in y\n  {CODE}\n{CODE}',
            )
        model["graph_module"]["metadata"] = {"custom": CODE}

    model = load_model(write(edited(program, edit)))
    points = torch.linspace(-1, 1, 20).view(5, 4)
    assert torch.equal(model(points), load_model(write(program))(points))


@pytest.mark.parametrize("key", ["'] + str(" + CODE + ") + L['x", "a b", "x'", 'y"'])
def test_keys_of_the_inputs_of_an_export_are_no_code(program, key):
    stream = io.BytesIO()
    torch.save((({key: torch.zeros(5, 4)},), {}), stream)
    with pytest.raises(DataError, match=r"inputs must have identifiers as keys"):
        load_model(write({**program, "data/sample_inputs/model.pt": stream.getvalue()}))


def test_tensors_without_content_do_not_fill_the_memory(program):
    name = "data/weights/model_weights_config.json"
    config = json.loads(program[name])
    first = next(iter(config["config"].values()))
    first["tensor_meta"]["sizes"] = [{"as_int": 1 << 20}, {"as_int": 1 << 20}]
    empty = {f"data/weights/{first['path_name']}": b"", name: json.dumps(config).encode()}
    with pytest.raises(DataError, match=r"the numbers of [\w.]+, is empty or missing"):
        load_model(write({**program, **empty}))


SCRIPT = """
class M(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.M,
    x: Tensor) -> Tensor:
    return {value}
"""
FROM_FILE = "torch.from_file('marker', True, 8)"
SCRIPTS = {
    "a file": (SCRIPT.format(value=FROM_FILE), r"it uses aten::from_file"),
    "a file by way of an operator": (
        SCRIPT.format(value="ops.aten.from_file('marker', True, 8)"), r"it uses aten::from_file"
    ),
    "a saved tensor": (
        SCRIPT.format(value="x").replace("return x", "torch.save(x, 'marker')\n    return x"),
        r"it uses aten::save",
    ),
    "a printed tensor": (
        SCRIPT.format(value="x").replace("return x", "print(x)\n    return x"),
        r"uses prim::Print",
    ),
    "memory by its storage": (SCRIPT.format(value="torch.set_(x, x)"), r"it uses aten::set_"),
    "a method of a tensor": (
        SCRIPT.format(value="x.resize_([100000])"), r"method forward uses aten::resize_"
    ),
    "an operator of an extension": (
        SCRIPT.format(value="ops.quantized.mul(x, x, 1., 0)"), r"it uses quantized::mul"
    ),
    "a thread": (
        SCRIPT.format(value="ops.prim.fork(x)"), r"it uses prim::fork"
    ),
    "a default": (
        SCRIPT.format(value="x").replace("x: Tensor)", f"x: Tensor, y: Tensor={FROM_FILE})"),
        r"a default of forward is computed as the file loads",
    ),
    "a default behind a comment": (
        SCRIPT.format(value="x").replace(
            "x: Tensor)", f"x: Tensor, y: Tensor=torch.#\n {FROM_FILE.removeprefix('torch.')})"
        ),
        r"a default of forward is computed as the file loads",
    ),
    "what runs by loading": (
        SCRIPT.format(value="x")
        + "  def __getstate__(self: __torch__.M) -> Dict[str, bool]:\n    return {'a': True}\n"
        "  def __setstate__(self: __torch__.M, state: Dict[str, bool]) -> NoneType:\n"
        "    torch.save(1, 'marker')\n    self.training = True\n    return None\n",
        r"defines __[gs]etstate__, which runs as the file loads",
    ),
    "hooks": (
        SCRIPT.format(value="x").replace("__buffers__", "__forward_hooks__ = ['h']\n  __buffers__"),
        r"its class M has hooks",
    ),
    "an object of C++": (
        SCRIPT.format(value="x").replace(
            "training : bool", "training : bool\n  a : __torch__.torch.classes.quantized.X"
        ),
        r"it uses __torch__\.torch\.classes\.quantized\.X",
    ),
    "an import": ("import os\n" + SCRIPT.format(value="x"), r"holds the statement Import"),
    "a lambda": (SCRIPT.format(value="(lambda: x)()"), r"holds the expression Lambda"),
    "a block": (
        SCRIPT.format(value="x").replace("return x", "with __torch__.N.__new__(__torch__.N):\n"
        "      y = x\n    return x") +
        "class N:\n  def __enter__(self: __torch__.N) -> NoneType:\n    x = (self).run()\n"
        "    return None\n",
        r"its function __enter__ calls self\.run",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("script") / "m.pt"

    class M(nn.Module):
        def forward(self, x):
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(M(), torch.zeros(5, 4)), file)
    with zipfile.ZipFile(file) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    source = next(name for name in members if name.endswith(".py"))
    members["data.pkl"] = (
        b"\x80\x02c__torch__\nM\nq\x00)\x81}(X\x08\x00\x00\x00trainingq\x01\x89ub."
    )
    members["code/__torch__.py"] = members.pop(source)
    return members


def test_a_script_written_by_hand_is_opened(script):
    members = {**script, "code/__torch__.py": SCRIPT.format(value="torch.add(x, x)").encode()}
    points = torch.linspace(-1, 1, 20).view(5, 4)
    assert torch.equal(load_model(write(members, "m.pt"))(points), 2 * points)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_does_more_than_compute_is_refused(script, name):
    source, message = SCRIPTS[name]
    file = write({**script, "code/__torch__.py": source.encode()}, "m.pt")
    with pytest.raises(DataError, match=rf"m\.pt is refused: .*{message}"):
        load_model(file)(torch.zeros(5, 4))


@pytest.mark.parametrize(
    "name", ["cos\nsystem", "__torch__.torch.classes.quantized\nX", "torch\nload"]
)
def test_a_script_whose_data_name_code_is_refused(script, name):
    data = b"\x80\x02c" + name.encode() + b"\nX\x06\x00\x00\x00marker\x85R."
    for member in ("data.pkl", "constants.pkl"):
        with pytest.raises(DataError, match=rf"m\.pt is refused: its member {member} names"):
            load_model(write({**script, member: data}, "m.pt"))


TOO_LARGE = r"too large: \d+ bytes, the limit is 2147483648, raise it with .*LEVELSET_MAX_BYTES"


def zeros_of(count):
    """Return a gzip of so many zeros, made quickly: one member a mebibyte."""
    return gzip.compress(bytes(1 << 20), 9) * (count >> 20)


@pytest.mark.parametrize("honest", [True, False])
def test_a_bomb_in_an_idx_folder_is_not_inflated(tmp_path, honest):
    rows = 3 << 20 if honest else 1
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", rows, 32, 32)
    bomb = gzip.compress(header) + zeros_of(3 << 30)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(bomb)
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 1) + b"\0"
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    message = TOO_LARGE if honest else r"promises 1024 bytes after itself, there are 66560 or more"
    with pytest.raises(DataError, match=message):
        read_images(tmp_path)


def png_of(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 20_000, 2**31 - 1])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, side):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(png_of(side, side))
    with pytest.raises(DataError, match=rf"a\.png is {TOO_LARGE}"):
        read_images(tmp_path)


def test_many_pictures_are_too_large_together(tmp_path, monkeypatch):
    (tmp_path / "cat").mkdir()
    for name in "abcdef":
        Image.new("RGB", (10, 10)).save(tmp_path / "cat" / f"{name}.png")
    monkeypatch.setenv("LEVELSET_MAX_BYTES", "1600")
    with pytest.raises(
        DataError, match=r"the 5 images before it .* too large: 1800 bytes, .* is 1600"
    ):
        read_images(tmp_path)
    assert len(read_images(tmp_path, limit=1)) == 1


def test_a_program_that_is_named_like_a_picture_is_not_run(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(marker) (w) file\n"
    )
    with pytest.raises(DataError, match=r"a\.png does not decode as an image"):
        read_images(tmp_path)


def bomb_of_zip(file, name, head=b"", size=1 << 26):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("labels.npy", npy((1,), "<i8") + bytes(8))
        with archive.open(name, "w", force_zip64=True) as stream:
            stream.write(head)
            for _ in range(size >> 24):
                stream.write(bytes(1 << 24))


def npy(shape, kind):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_a_bomb_in_an_npz_or_a_zip_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVELSET_MAX_BYTES", str(1 << 24))
    bomb_of_zip(tmp_path / "a.npz", "images.npy", npy((1 << 16, 32, 32), "|u1"))
    bomb_of_zip(tmp_path / "b.zip", "cat/a.png")
    for name in ("a.npz", "b.zip"):
        with pytest.raises(
            DataError,
            match=rf"{name} is too large: 67\d+ bytes, the limit is 16777216, raise it with ",
        ):
            read_images(tmp_path / name)
    bomb_of_zip(tmp_path / "c.pt2", "m/archive_format")
    with pytest.raises(
        DataError, match=r"c\.pt2 is too large: 67\d+ bytes, the limit is 16777216, raise it with "
    ):
        load_model(tmp_path / "c.pt2")


@pytest.mark.parametrize("shape", ["(1099511627776, 3)", "(4294967296, 4294967296, 3)", "(-1, 3)"])
def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path, shape):
    content = npy(shape, "<f8") + bytes(24)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy is damaged"):
        read_points(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content)
        archive.writestr("labels.npy", npy((1,), "<i8") + bytes(8))
    with pytest.raises(DataError, match=r"a\.npz is damaged"):
        read_images(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex {n}\nproperty float x\nproperty float y\n"
         "property float z\nend_header\n0 0 0\n"),
        ("b.ply", "ply\nformat binary_little_endian 1.0\nelement vertex {n}\nproperty float x\n"
         "property float y\nproperty float z\nend_header\n0123456789ab"),
        ("c.ply", "ply\nformat ascii 1.0\nelement other {n}\nproperty float x\nelement vertex 1\n"
         "property float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"),
        ("a.pcd", "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS {n}\nDATA ascii\n0 0 0\n"),
        ("b.pcd", "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS {n}\nDATA binary\n0123456789ab"),
        ("c.pcd", "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 {n}\nPOINTS 1\nDATA ascii\n0 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [10**9, 10**15, 10**30, -1])
def test_a_cloud_that_promises_more_than_there_is_allocates_nothing(tmp_path, name, content, count):
    (tmp_path / name).write_text(content.format(n=count))
    with pytest.raises(DataError, match=r"read_points: "):
        read_points(tmp_path / name)


def test_a_table_of_one_large_picture_many_times_is_not_inflated(tmp_path, monkeypatch):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        stream, "PNG"
    )
    rows = 2000
    table = pa.table({"image": [stream.getvalue()] * rows, "label": [0] * rows})
    pq.write_table(table, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    monkeypatch.setenv("LEVELSET_MAX_BYTES", "1000000")
    with pytest.raises(
        DataError, match=r"a\.parquet is too large: \d+ bytes, the limit is 1000000"
    ):
        read_images(tmp_path / "a.parquet")
    assert len(read_images(tmp_path / "a.parquet", limit=10)) == 10


def test_a_table_of_a_vast_number_of_small_pictures_is_not_inflated(tmp_path, monkeypatch):
    """A few kilobytes hold any number of equal rows."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, "PNG")
    for rows, message in (
        (10_000_000, r"the whole of its 10000000 rows is too large: 2560000000 bytes"),
        (
            30_000,
            r"a stack of 30000 images such as row 0 of .* \(`limit` takes fewer\) is too large",
        ),
    ):
        dictionary = pa.array([stream.getvalue()])
        places = pa.array(np.zeros(rows, np.int32))
        pictures = pa.DictionaryArray.from_arrays(places, dictionary)
        table = pa.table({"image": pictures, "label": pa.array(np.zeros(rows, np.int8))})
        pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
        assert (tmp_path / "a.parquet").stat().st_size < 200_000
        with pytest.raises(DataError, match=message):
            read_images(tmp_path / "a.parquet")
        monkeypatch.setenv("LEVELSET_MAX_BYTES", "20000000")
    assert len(read_images(tmp_path / "a.parquet", limit=3)) == 3
