"""The rows of an audit on disk, a part at a time: each part whole and unchanged, or not there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from levelset._tools.files import write_whole
from levelset._tools.norms import norm_name
from levelset.auditing._manifest import fingerprint
from levelset.auditing._measure import Column, Measured
from levelset.errors import RunError

__all__ = ["Parts"]

_KEY = b"levelset"
_FOLDERS = {"measurements": ".parquet", "witnesses": ".safetensors"}


@dataclass(frozen=True)
class Parts:
    """The parts of one run.

    A part carries the identity of its run, its number, and a checksum of its columns (names,
    order, types, values), inputs and witnesses. One that does not match is measured again.

    Attributes:
        out: The folder of the run.
        run: What tells this run from others.
        norms: For which norms there are witnesses.
        declared: The columns that a part may have, by name.
    """

    out: Path
    run: str
    norms: tuple[float, ...]
    declared: Mapping[str, Column]

    def write(self, number: int, points: Tensor, measured: Measured) -> None:
        """Write inputs and witnesses, then the table; the table is what says the part is done."""
        tensors = {"inputs": points.detach().cpu().contiguous()}
        for norm, witness in measured.witnesses.items():
            tensors[f"witness_{norm_name(norm)}"] = witness.cpu().contiguous()
        content = save(tensors)
        write_whole(self._path("witnesses", number), lambda partial: partial.write_bytes(content))
        columns = [(self.declared[name], values) for name, values in measured.columns.items()]
        arrays = [_written(column, values) for column, values in columns]
        fields = [_field(column, a.type) for (column, _), a in zip(columns, arrays, strict=True)]
        seal = {_KEY: self._seal(number, measured.columns, tensors)}
        rows = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=seal))
        write_whole(
            self._path("measurements", number), lambda partial: pq.write_table(rows, partial)
        )

    def read(self, number: int, points: Tensor) -> Measured | None:
        """Return a part if it is whole, unchanged, and of these inputs; else `None`."""
        try:
            table = pq.ParquetFile(self._path("measurements", number)).read()
            tensors = load_file(self._path("witnesses", number))
            columns = {
                name: _read(self.declared[name], column)
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        except (OSError, pa.ArrowException, SafetensorError, KeyError, TypeError, ValueError):
            return None
        seal = (table.schema.metadata or {}).get(_KEY)
        if seal != self._seal(number, columns, tensors):
            return None
        if not torch.equal(tensors["inputs"], points.detach().cpu()):
            return None
        return Measured(columns, {p: tensors[f"witness_{norm_name(p)}"] for p in self.norms})

    def refuse_strays(self, count: int) -> None:
        """Refuse a folder with parts that are none of `count`: its table would hold their rows.

        Raises:
            RunError: If there is one; the message names it.
        """
        for folder, suffix in _FOLDERS.items():
            ours = {self._path(folder, number) for number in range(count)}
            for path in sorted((self.out / folder).glob(f"*{suffix}")):
                if path not in ours and not path.name.startswith("."):
                    message = (
                        f"audit: {path} is no part of this run, which has {count}. Remove it, or "
                        "choose another `out`."
                    )
                    raise RunError(message)

    def _path(self, folder: str, number: int) -> Path:
        return self.out / folder / f"part-{number:05d}{_FOLDERS[folder]}"

    def _seal(
        self, number: int, columns: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> bytes:
        """Return the metadata of a part: its run, its number and a checksum of its content."""
        digest = hashlib.sha256()
        for name, column in [*columns.items(), *sorted(tensors.items())]:
            digest.update(f"{name}:{fingerprint(column)};".encode())
        content = {"run": self.run, "part": number, "sha256": digest.hexdigest()}
        return json.dumps(content).encode()


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
