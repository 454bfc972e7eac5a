"""The files of a run: its manifest, by which a resume is the same run, and its parts."""

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from levelset._tools.files import json_bytes
from levelset._tools.modes import modules_of
from levelset._tools.norms import norm_name
from levelset._tools.stores import Store
from levelset._typing import Model
from levelset.auditing._measure import Column, Measured
from levelset.errors import RunError

__all__ = [
    "MANIFEST",
    "SUMMARY",
    "Parts",
    "add_notes",
    "identity",
    "manifest",
    "read_manifest",
    "start_run",
]

MANIFEST, SUMMARY = "manifest.json", "summary.json"
"""What a run is, and its numbers, which are written at its end."""

# What may differ between a run and its resumption: the rows then differ by rounding at most.
_FREE = {"device", "machine", "torch", "python"}
# Notes about a run, which do not affect its rows.
_NOTES = {"command", "date", "threads"}
_KEY = b"levelset"
_FOLDERS = {"measurements": ".parquet", "witnesses": ".safetensors"}


def _fingerprint(*tensors: Tensor) -> str:
    """Return a short hash of values, shapes and dtypes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        content = tensor.detach().cpu().contiguous()
        digest.update(np.ascontiguousarray(content.view(torch.uint8).numpy()).tobytes())
    return digest.hexdigest()[:16]


def _model_fingerprint(model: Model) -> str:
    """Return a short hash of a model's weights and buffers, and of what its modules are."""
    digest = hashlib.sha256()
    for root in modules_of(model):
        for name, module in root.named_modules():
            digest.update(f"{name}:{type(module).__name__}:{module.extra_repr()};".encode())
        tensors = {**dict(root.named_parameters()), **dict(root.named_buffers())}
        for name in sorted(tensors):
            digest.update(f"{name}:{_fingerprint(tensors[name].flatten())};".encode())
    return digest.hexdigest()[:16]


def manifest(
    model: Model, points: Tensor, labels: Tensor, options: dict[str, Any]
) -> dict[str, Any]:
    """Return versions, device, options and hashes, ready for JSON."""
    return {
        "model": _model_fingerprint(model),
        "data": _fingerprint(points.flatten(1), labels),
        "options": options,
        "levelset": version("levelset"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": str(points.device),
        "machine": platform.machine(),
    }


def start_run(out: Store, content: dict[str, Any], *, resume: bool) -> None:
    """Make the folders of a run and write its manifest, or see that it is the same run."""
    begun = out.has(MANIFEST)
    if begun:
        if not resume:
            message = (
                f"audit: the folder {out} already holds an audit. Give `resume=True` (--resume) "
                "to go on with it, or another `out`."
            )
            raise RunError(message)
        _check_same(out, read_manifest(out), content)
    out.prepare(["", *_FOLDERS])
    if not begun:
        out.write(MANIFEST, json_bytes(content))


def identity(content: dict[str, Any]) -> str:
    """Return a short hash of what tells one run from another: model, data and options."""
    text = json.dumps(_flat(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def add_notes(out: Store, notes: dict[str, Any]) -> dict[str, Any]:
    """Add notes about a run to its manifest, without overwriting; return the whole manifest.

    Args:
        out: Where the run is.
        notes: Of `command`, `date` and `threads`.
    """
    content = read_manifest(out)
    written = {**notes, **content}
    if written != content:
        out.write(MANIFEST, json_bytes(written))
    return written


def read_manifest(out: Store) -> dict[str, Any]:
    """Return what the manifest of a run says."""
    path = f"{out}/{MANIFEST}"
    try:
        content = json.loads(out.read(MANIFEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"audit: cannot read {path}: {error}. Choose another `out`."
        raise RunError(message) from error
    if not isinstance(content, dict) or not isinstance(content.get("options"), dict):
        message = (
            f"audit: {path} is no manifest of an audit: it must hold an object with `options`. "
            "Remove it to begin again with the same `out`, or choose another."
        )
        raise RunError(message)
    return content


def _check_same(out: Store, before: dict[str, Any], now: dict[str, Any]) -> None:
    flat_before, flat_now = _flat(before), _flat(now)
    keys = sorted(flat_before.keys() | flat_now.keys())
    different = [
        f"{key} was {flat_before.get(key)}, is {flat_now.get(key)}"
        for key in keys
        if flat_before.get(key) != flat_now.get(key)
    ]
    if different:
        message = (
            f"audit: cannot resume in {out}, for this is another run: {'; '.join(different)}. "
            "Give the same model, data and options, or another `out`."
        )
        raise RunError(message)


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in content.items() if k not in _FREE | _NOTES | {"options"}}
    return {**plain, **json.loads(json.dumps(content["options"]))}


@dataclass(frozen=True)
class Parts:
    """The parts of one run.

    A part carries the identity of its run, its number, and a checksum of its columns (names,
    order, types, values), inputs and witnesses. One that does not match is measured again.

    Attributes:
        out: Where the run is.
        run: What tells this run from others.
        norms: For which norms there are witnesses.
        declared: The columns that a part may have, by name.
    """

    out: Store
    run: str
    norms: tuple[float, ...]
    declared: Mapping[str, Column]

    def write(self, number: int, points: Tensor, measured: Measured) -> None:
        """Write inputs and witnesses, then the table; the table is what says the part is done."""
        for name, content in self._files(number, points, measured).items():
            self.out.write(name, content)

    def _files(self, number: int, points: Tensor, measured: Measured) -> dict[str, bytes]:
        """Return what the files of a part hold, by their names."""
        tensors = {"inputs": points.detach().cpu().contiguous()}
        for norm, witness in measured.witnesses.items():
            tensors[f"witness_{norm_name(norm)}"] = witness.cpu().contiguous()
        columns = [(self.declared[name], values) for name, values in measured.columns.items()]
        arrays = [_written(column, values) for column, values in columns]
        fields = [_field(column, a.type) for (column, _), a in zip(columns, arrays, strict=True)]
        seal = {_KEY: self._seal(number, measured.columns, tensors)}
        rows = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=seal))
        table = io.BytesIO()
        pq.write_table(rows, table)
        return {
            _name("witnesses", number): save(tensors),
            _name("measurements", number): table.getvalue(),
        }

    def read(self, number: int, points: Tensor) -> Measured | None:
        """Return a part if it is whole, unchanged, and of these inputs; else `None`.

        What no checksum of values sees, as a bit of a file's own statistics, is written anew.
        """
        part = self.load(number)
        if part is None or not torch.equal(part[0], points.detach().cpu()):
            return None
        for name, content in self._files(number, *part).items():
            if self.out.read(name) != content:
                self.out.write(name, content)
        return part[1]

    @property
    def count(self) -> int:
        """Number of parts on disk."""
        names = self.out.names("measurements")
        return sum(name.startswith("part-") and name.endswith(".parquet") for name in names)

    def load(self, number: int) -> tuple[Tensor, Measured] | None:
        """Return inputs and columns of a part if it is whole and unchanged; else `None`."""
        try:
            content = self.out.read(_name("measurements", number))
            table = pq.ParquetFile(pa.BufferReader(content)).read()
            tensors = load(self.out.read(_name("witnesses", number)))
            columns = {
                name: _read(self.declared[name], column)
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        except (OSError, pa.ArrowException, SafetensorError, KeyError, TypeError, ValueError):
            return None
        seal = (table.schema.metadata or {}).get(_KEY)
        if seal != self._seal(number, columns, tensors):
            return None
        witnesses = {p: tensors[f"witness_{norm_name(p)}"] for p in self.norms}
        return tensors["inputs"], Measured(columns, witnesses)

    def refuse_strays(self, count: int) -> None:
        """Refuse a folder with parts that are none of `count`: its table would hold their rows.

        Raises:
            RunError: If there is one; the message names it.
        """
        for folder, suffix in _FOLDERS.items():
            ours = {_name(folder, number) for number in range(count)}
            for file in self.out.names(folder):
                if file.endswith(suffix) and f"{folder}/{file}" not in ours:
                    message = (
                        f"audit: {self.out}/{folder}/{file} is no part of this run, which has "
                        f"{count}. Remove it, or choose another `out`."
                    )
                    raise RunError(message)

    def _seal(
        self, number: int, columns: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> bytes:
        """Return the metadata of a part: its run, its number and a checksum of its content."""
        digest = hashlib.sha256()
        for name, column in [*columns.items(), *sorted(tensors.items())]:
            digest.update(f"{name}:{_fingerprint(column)};".encode())
        content = {"run": self.run, "part": number, "sha256": digest.hexdigest()}
        return json.dumps(content).encode()


def _name(folder: str, number: int) -> str:
    """Return the name of a part's file."""
    return f"{folder}/part-{number:05d}{_FOLDERS[folder]}"


def _field(column: Column, kind: pa.DataType) -> pa.Field:
    """Return the heading of a column on disk, with what it means and its unit."""
    metadata = {"meaning": column.meaning, "unit": column.unit}
    return pa.field(column.name, kind, metadata={k: text for k, text in metadata.items() if text})


def _written(column: Column, values: Tensor) -> pa.Array:
    """Return values as they stand on disk, where words are spelt."""
    if column.kind == "word":
        return pa.array(column.spelt(values), pa.string())
    flat = pa.array(values.cpu().numpy().ravel())
    if column.kind != "numbers":
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _read(column: Column, values: pa.ChunkedArray) -> Tensor:
    """Return values as they stand in memory, where words are numbers."""
    if column.kind == "word":
        return column.numbers(values.to_pylist())
    size = values.type.list_size if column.kind == "numbers" else 1
    flat = values.combine_chunks().flatten() if column.kind == "numbers" else values
    read = torch.from_numpy(flat.to_numpy(zero_copy_only=False).copy())
    return read.view(len(values), size) if column.kind == "numbers" else read
