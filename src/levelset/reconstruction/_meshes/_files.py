"""Meshes in files: PLY by ourselves, all else by trimesh."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._tools.extras import optional
from levelset._tools.files import write_whole
from levelset.errors import DataError, ParameterError

__all__ = ["read_mesh", "write_mesh"]

WRITTEN = (".ply", ".obj", ".stl", ".glb")
READ = (*WRITTEN, ".off")
Array = NDArray[Any]


def write_mesh(
    path: Path,
    vertices: Array,
    faces: Array,
    normals: Array | None,
    colours: Array | None,
    scalars: Mapping[str, Array],
) -> Path:
    """Write a mesh in the format of its suffix; return the path.

    Args:
        path: Where to.
        vertices: `(v, 3)`, float64.
        faces: `(f, 3)`, int64.
        normals: `(v, 3)`, float64, or `None`.
        colours: `(v, 3)`, 0 to 1, or `None`.
        scalars: Further numbers by name, each `(v,)`.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        message = (
            f"Mesh.save: `path` must end in one of {', '.join(WRITTEN)}, got {path.name!r}. "
            "Choose the format by the suffix."
        )
        raise ParameterError(message)
    encode: Callable[[], bytes] = (
        (lambda: _ply(vertices, faces, normals, colours, scalars))
        if suffix == ".ply"
        else (lambda: _by_trimesh(suffix, vertices, faces, normals, colours, scalars))
    )
    content = encode()
    write_whole(path, lambda partial: partial.write_bytes(content))
    return path


def _ply(
    vertices: Array, faces: Array, normals: Array | None, colours: Array | None,
    scalars: Mapping[str, Array],
) -> bytes:  # fmt: skip
    """Return a binary little-endian PLY in double precision, which trimesh cuts to single.

    Coordinates of surveys run into the millions; single precision would round them to decimetres.
    """
    columns: dict[str, Array] = dict(zip("xyz", vertices.T, strict=True))
    if normals is not None:
        columns |= zip(("nx", "ny", "nz"), normals.T, strict=True)
    columns |= {_plain(name): values for name, values in scalars.items()}
    if colours is not None:
        columns |= zip(("red", "green", "blue"), _bytes(colours).T, strict=True)
    kinds = {name: "uchar" if c.dtype == np.uint8 else "double" for name, c in columns.items()}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {kind} {name}" for name, kind in kinds.items()),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    types = {"uchar": "u1", "double": "<f8"}
    corners = np.empty(len(vertices), [(name, types[kind]) for name, kind in kinds.items()])
    for name, column in columns.items():
        corners[name] = column
    rows = np.empty(len(faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    rows["count"], rows["corners"] = 3, faces
    text = ("\n".join(header) + "\n").encode("ascii")
    return text + corners.tobytes() + rows.tobytes()


def _plain(name: str) -> str:
    """Return a name that a file's header can hold."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _bytes(colours: Array) -> Array:
    """Return colours as whole numbers from 0 to 255."""
    return np.round(255.0 * np.clip(colours, 0.0, 1.0)).astype(np.uint8)


def _by_trimesh(
    suffix: str, vertices: Array, faces: Array, normals: Array | None, colours: Array | None,
    scalars: Mapping[str, Array],
) -> bytes:  # fmt: skip
    module = _trimesh("Mesh.save")
    mesh = module.Trimesh(
        vertices,
        faces,
        vertex_normals=normals,
        vertex_colors=None if colours is None else _bytes(colours),
        vertex_attributes={
            f"_{_plain(name)}": np.asarray(values, np.float32) for name, values in scalars.items()
        },
        process=False,
        validate=False,
    )
    if suffix == ".obj":
        text = mesh.export(
            file_type="obj", digits=_decimals(vertices), include_normals=normals is not None
        )
        return str(text).encode("utf-8")
    if suffix == ".glb":
        return bytes(mesh.export(file_type="glb", include_normals=normals is not None))
    return bytes(mesh.export(file_type="stl"))


def _decimals(vertices: Array) -> int:
    """Return how many decimals write numbers of this size to 15 digits."""
    size = float(np.abs(vertices).max(initial=0.0))
    return 15 if size == 0 else max(0, 14 - math.floor(math.log10(size)))


def read_mesh(path: Path) -> tuple[Array, Array]:
    """Return vertices `(v, 3)` and faces `(f, 3)`."""
    suffix = path.suffix.lower()
    if suffix not in READ:
        message = f"Mesh.read: `path` must end in one of {', '.join(READ)}, got {path.name!r}."
        raise ParameterError(message)
    if not path.is_file():
        message = f"Mesh.read: there is no file {path}."
        raise DataError(message)
    module = _trimesh("Mesh.read")
    try:
        loaded = module.load(str(path), file_type=suffix[1:], process=False, force="mesh")
        vertices = np.array(loaded.vertices, dtype=np.float64)
        faces = np.array(loaded.faces, dtype=np.int64).reshape(-1, 3)
    except Exception as error:  # trimesh raises whatever the damaged bytes lead to
        message = (
            f"Mesh.read: {path} is damaged, or no mesh ({error}). Export it again; for bare "
            "points use `levelset.datasets.read_points`."
        )
        raise DataError(message) from error
    if not len(faces):
        message = (
            f"Mesh.read: {path} holds no triangles that can be read (strips of triangles are "
            "not). Export it with plain faces; for bare points use "
            "`levelset.datasets.read_points`."
        )
        raise DataError(message)
    return _joined(vertices, faces) if suffix == ".stl" else (vertices, faces)


def _joined(vertices: Array, faces: Array) -> tuple[Array, Array]:
    """Join vertices in exactly the same place; an STL repeats each for every face."""
    unique, inverse = np.unique(vertices, axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)[faces]


def _trimesh(function: str) -> Any:
    """Return the module trimesh, or say which extra brings it."""
    return optional("trimesh", "mesh", function)
