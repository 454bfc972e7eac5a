"""Mutations of small valid files of every format that is read."""

import contextlib
import gzip
import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save as safetensors
from torch import nn

from levelset.boundary import CentralDifference, detect
from levelset.datasets import load_model, read_images, read_points

WORDS = [
    b"0", b"-1", b"1e999", b"nan", b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff",
    b"99999999999999",
    b"{", b"}", b"[", b"'", b'"', b"(", b"#", b"\n", b"\r\n", b"\\", b"\xc3\x28", b"list", b"None",
    b"float", b"x", b"__class__", b"property float x\n", b"element vertex 9\n", b"FIELDS x\n",
    b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"\x80\x02", b"true", b"null", b",", b" ", b"//",
]  # fmt: skip


def mutated(data: bytes, random: Random) -> bytes:
    """Return the bytes with one to six small changes."""
    content = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        # most of what is decided is decided in the first or the last bytes
        limit = random.choice((64, 256, len(content), len(content)))
        at = random.randrange(min(limit, len(content)) or 1)
        at = max(len(content) - at, 0) if random.random() < 0.25 else at
        match random.randrange(9):
            case 0 if at < len(content):
                content[at] ^= 1 << random.randrange(8)
            case 1 if at < len(content):
                content[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del content[at:]
            case 3:
                del content[at : at + random.choice((1, 2, 4, 16))]
            case 4:
                content[at:at] = random.choice(WORDS)
            case 5:
                word = random.choice(WORDS)
                content[at : at + len(word)] = word
            case 6:
                other = random.randrange(len(content) + 1)
                content[at:at] = content[other : other + random.choice((1, 4, 16, 64))]
            case 7:
                value = random.choice((0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1))
                form = random.choice(("<I", ">I", "<Q", ">Q"))
                size = struct.calcsize(form)
                content[at : at + size] = struct.pack(form, value & (256**size - 1))
            case _:
                content[at : at + 8] = random.randbytes(8)
    return bytes(content)


def mutated_zip(data: bytes, random: Random) -> bytes:
    """Return a zip with its members changed, so that its checksums are right; or changed bytes."""
    if random.random() < 0.3:
        return mutated(data, random)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        victim = random.choice([n for n in names if n.endswith((".json", ".py", ".pkl"))] or names)
        victim = victim if random.random() < 0.7 else random.choice(names)
        for name in names:
            content = old.read(name)
            if name == victim:
                changes = mutated_json if name.endswith(".json") else mutated
                content = changes(content, random)
                if random.random() < 0.1:
                    name = mutated(name.encode(), random).decode("latin-1")
                if random.random() < 0.05:
                    continue
            with contextlib.suppress(ValueError, IndexError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(name.replace("\0", "0"), content)
    return stream.getvalue()


VALUES = [None, True, 0, -1, 2**63, 1.5, "", "x", "0", [], {}, [[]], {"a": 1}, "s0", "torch.ops"]


def mutated_json(data: bytes, random: Random) -> bytes:
    """Return JSON with one or two of its values replaced, removed or moved."""
    try:
        root = json.loads(data)
    except ValueError:
        return mutated(data, random)
    for _ in range(random.choice((1, 2))):
        places = list(_places(root))
        if not places:
            break
        parent, key = random.choice(places)
        match random.randrange(4):
            case 0:
                parent[key] = random.choice(VALUES)
            case 1:
                del parent[key]
                continue
            case 2:
                other, name = random.choice(places)
                parent[key] = json.loads(json.dumps(other[name]))
            case _ if isinstance(parent[key], str):
                parent[key] = mutated(parent[key].encode(), random).decode("latin-1")
    return json.dumps(root).encode()


def _places(value):
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(pairs):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def saved(save: Callable[..., object], *content: object, **options: object) -> bytes:
    stream = io.BytesIO()
    save(*content, stream, **options)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def picture(kind: str) -> bytes:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    return saved(lambda stream: Image.fromarray(pixels).save(stream, kind))


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def clouds() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6, 6)).astype("<f4")
    rows = "\n".join(" ".join(f"{v:.3f}" for v in row) for row in points)
    names = ("x", "y", "z", "nx", "ny", "nz")
    properties = "".join(f"property float {n}\n" for n in names)
    ply = "ply\nformat {} 1.0\ncomment c\nelement vertex 6\n" + properties
    ply += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    face = struct.pack("<B3i", 3, 0, 1, 2)
    pcd = "# .PCD v.7\nVERSION .7\nFIELDS x y z normal_x normal_y normal_z\nSIZE 4 4 4 4 4 4\n"
    pcd += "TYPE F F F F F F\nCOUNT 1 1 1 1 1 1\nWIDTH 6\nHEIGHT 1\nPOINTS 6\nDATA {}\n"
    obj = "".join(f"v {r}\n" for r in rows.splitlines()) + "vn 0 0 1\nf 1//1 2//1 3//1\n"
    return {
        "a.ply": (ply.format("ascii") + rows + "\n3 0 1 2\n").encode(),
        "b.ply": ply.format("binary_little_endian").encode() + points.tobytes() + face,
        "c.ply": ply.format("binary_big_endian").encode() + points.astype(">f4").tobytes() + face,
        "a.pcd": (pcd.format("ascii") + rows + "\n").encode(),
        "b.pcd": pcd.format("binary").encode() + points.tobytes(),
        "c.pcd": pcd.format("binary_compressed").encode() + struct.pack("<2I", 9, 144) + bytes(9),
        "a.obj": obj.encode(),
        "a.xyz": rows.encode(),
        "b.csv": ("x,y,z,nx,ny,nz\n" + rows.replace(" ", ",")).encode(),
        "c.txt": ("6\n" + rows).encode(),
        "a.npy": saved(lambda stream: np.save(stream, points)),
    }


def images() -> dict[str, bytes]:
    pixels, labels = np.arange(40, dtype=np.uint8).reshape(2, 5, 4), np.array([0, 1])
    pictures = [picture("PNG"), picture("PNG")]
    hub = {b"huggingface": b'{"info": {"features": {"label": {"names": ["a", "b"]}}}}'}
    table = pa.table({"image": pictures, "label": [0, 1]})
    struct_table = pa.table({"img": [{"bytes": p, "path": "x"} for p in pictures], "label": [0, 1]})
    return {
        "a.npz": npz(images=pixels, labels=labels, classes=np.array(["a", "b"])),
        "b.npz": npz(x_train=pixels / 255, y_train=labels, x_test=pixels / 255, y_test=labels),
        "a.zip": zipped({"cat/a.png": pictures[0], "dog/b.png": pictures[1]}),
        "b.zip": zipped({f"{s}/cat/a.jpg": picture("JPEG") for s in ("train", "test")}),
        "a.parquet": saved(
            lambda stream: pq.write_table(table.replace_schema_metadata(hub), stream)
        ),
        "b.parquet": saved(lambda stream: pq.write_table(struct_table, stream, compression="zstd")),
    }


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.last(self.norm(self.first(x[:, : x.shape[1]])).relu())


def models() -> dict[str, bytes]:
    net, points = Net().eval(), torch.zeros(5, 4)
    program = torch.export.export(net, (points,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    return {
        "a.pt2": saved(torch.export.save, program),
        "a.pt": saved(torch.jit.save, torch.jit.script(net)),
        "b.pt": saved(torch.jit.save, torch.jit.trace(net, points)),
    }


def weights() -> dict[str, bytes]:
    state = Net().state_dict()
    checkpoint = {"epoch": 1, "state_dict": {f"model.{k}": v for k, v in state.items()}}
    return {
        "a.safetensors": safetensors(dict(state)),
        "a.pt": saved(torch.save, state),
        "b.pth": saved(torch.save, state, _use_new_zipfile_serialization=False),
        "c.bin": saved(torch.save, checkpoint),
        "d.pt": pickle.dumps({"a": 1}, 2),
    }


def targets(folder: Path) -> dict[str, Callable[[Random], object]]:
    """Return what is fuzzed, by name."""
    (folder / "net.py").write_text("from fuzz_readers import Net\n")
    found: dict[str, Callable[[Random], object]] = {}

    def add(name: str, content: bytes, read: Callable[[Path], object]) -> None:
        changes = mutated_zip if content[:2] == b"PK" else mutated
        path = folder / name

        def target(random: Random) -> None:
            path.write_bytes(changes(content, random))
            read(path)

        found[f"{read.__name__}:{name}"] = target

    def network(path: Path) -> None:
        model = load_model(path)
        with contextlib.suppress(Exception):  # a changed program may compute what it likes
            model(torch.zeros(5, 4))

    def state(path: Path) -> None:
        load_model("net:Net", path)

    for name, content in clouds().items():
        add(name, content, read_points)
    for name, content in images().items():
        add(name, content, read_images)
    for name, content in models().items():
        add(name, content, network)
    for name, content in weights().items():
        add(name, content, state)
    _add_folders(folder, add)
    return found


def _add_folders(folder: Path, add: Callable[..., None]) -> None:
    """Add files that are read as part of a folder."""

    def of_folder(path: Path) -> None:
        read_images(path.parent if "ubyte" in path.name else path.parent.parent)

    net = Net().eval()

    def of_detector(path: Path) -> None:
        detect.load(path.parent, net)

    pixels = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 5, 4) + bytes(40)
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 2) + bytes([0, 1])
    for index, (images_of, labels_of) in enumerate(
        [(pixels, labels), (gzip.compress(pixels), labels), (pixels, gzip.compress(labels))]
    ):
        own = folder / f"idx{index}"
        own.mkdir()
        gz = ["", ""] if index == 0 else ([".gz", ""] if index == 1 else ["", ".gz"])
        names = [f"t10k-images-idx3-ubyte{gz[0]}", f"t10k-labels-idx1-ubyte{gz[1]}"]
        for name, content in zip(names, (images_of, labels_of), strict=True):
            (own / name).write_bytes(content)
        changed = 1 if index == 2 else 0
        add(f"idx{index}/{names[changed]}", (images_of, labels_of)[changed], of_folder)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        (folder / f"of_{kind}" / "cat").mkdir(parents=True)
        add(f"of_{kind}/cat/a.{kind.lower()}", picture(kind), of_folder)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40, 4, generator=generator)
    scale = CentralDifference(0.1)
    fitted = detect.fit(net, points, points.flip(0), scales=scale, generator=generator)
    for name in ("detector.json", "detector.safetensors"):
        own = folder / f"of_{name}"
        fitted.save(own)
        add(f"of_{name}/{name}", (own / name).read_bytes(), of_detector)
