"""The rows of an audit on disk, a part at a time: each part whole, or not there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from levelset._tools.files import write_whole
from levelset._tools.norms import norm_name
from levelset.auditing._measures import Measured
from levelset.boundary import ATTACKS

__all__ = ["part_path", "read_part", "write_part"]


def part_path(out: Path, number: int) -> Path:
    """Return where the table of a part lies."""
    return out / "measurements" / f"part-{number:05d}.parquet"


def write_part(out: Path, number: int, points: Tensor, measured: Measured) -> None:
    """Write inputs and witnesses, then the table; the table is what says the part is done."""
    table = part_path(out, number)
    tensors = {"inputs": points.cpu().contiguous()}
    for norm, witness in measured.witnesses.items():
        tensors[f"witness_{norm_name(norm)}"] = witness.cpu().contiguous()
    write_whole(_pictures_path(out, number), lambda partial: partial.write_bytes(save(tensors)))
    rows = pa.table({name: _written(name, column) for name, column in measured.columns.items()})
    write_whole(table, lambda partial: pq.write_table(rows, partial))


def read_part(out: Path, number: int, points: Tensor, norms: tuple[float, ...]) -> Measured | None:
    """Return a part if it is there, whole, and of these inputs; `None` to measure it again."""
    try:
        table = pq.read_table(part_path(out, number))
        tensors = load_file(_pictures_path(out, number))
    except (OSError, pa.ArrowException, SafetensorError):
        return None
    names = {norm: f"witness_{norm_name(norm)}" for norm in norms}
    whole = (
        table.num_rows == len(points)
        and torch.equal(tensors.get("inputs", torch.empty(0)), points.cpu())
        and all(name in tensors for name in names.values())
    )
    if not whole:
        return None
    columns = {name: _read(name, table[name]) for name in table.column_names}
    return Measured(columns, {norm: tensors[name] for norm, name in names.items()})


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


def _pictures_path(out: Path, number: int) -> Path:
    return out / "witnesses" / f"part-{number:05d}.safetensors"
