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
from levelset.auditing._measures import Measured
from levelset.boundary import ATTACKS
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
    """

    out: Path
    run: str
    norms: tuple[float, ...]

    def write(self, number: int, points: Tensor, measured: Measured) -> None:
        """Write inputs and witnesses, then the table; the table is what says the part is done."""
        tensors = {"inputs": points.detach().cpu().contiguous()}
        for norm, witness in measured.witnesses.items():
            tensors[f"witness_{norm_name(norm)}"] = witness.cpu().contiguous()
        content = save(tensors)
        write_whole(self._path("witnesses", number), lambda partial: partial.write_bytes(content))
        rows = pa.table({name: _written(name, c) for name, c in measured.columns.items()})
        rows = rows.replace_schema_metadata({_KEY: self._seal(number, measured.columns, tensors)})
        write_whole(
            self._path("measurements", number), lambda partial: pq.write_table(rows, partial)
        )

    def read(self, number: int, points: Tensor) -> Measured | None:
        """Return a part if it is whole, unchanged, and of these inputs; else `None`."""
        try:
            table = pq.ParquetFile(self._path("measurements", number)).read()
            tensors = load_file(self._path("witnesses", number))
            columns = {
                name: _read(name, column)
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        except (OSError, pa.ArrowException, SafetensorError, TypeError, ValueError):
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


def _written(name: str, column: Tensor) -> pa.Array:
    """Return a column as it stands on disk, where attacks go by their names."""
    if column.dim() == 2:
        return pa.FixedSizeListArray.from_arrays(
            pa.array(column.cpu().numpy().ravel()), column.shape[1]
        )
    if not name.startswith("attack_"):
        return pa.array(column.cpu().numpy())
    return pa.array([ATTACKS[k] if k >= 0 else None for k in column.tolist()], pa.string())


def _read(name: str, column: pa.ChunkedArray) -> Tensor:
    """Return a column as it stands in memory, where attacks go by their numbers."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return torch.from_numpy(flat.copy()).view(len(column), column.type.list_size)
    if not name.startswith("attack_"):
        return torch.from_numpy(column.to_numpy(zero_copy_only=False).copy())
    return torch.tensor(
        [-1 if word is None else ATTACKS.index(word) for word in column.to_pylist()],
        dtype=torch.int64,
    )
