"""Tensors in safetensors files with a checksum, whole at once or row by row."""

import json
import math
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from levelset._tools.files import write_whole
from levelset.errors import DataError

__all__ = [
    "RowsFile", "damaged", "packed", "read_tensors", "shard_path", "unpacked", "write_tensors",
]  # fmt: skip

# How safetensors names the types of numbers.
_KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.bool: "BOOL",
    torch.uint8: "U8",
}  # fmt: skip
# Bytes in front of the tensors of a file that is written row by row, which has few of them.
_HEAD = 1024
# Bytes of rows that are written at once: few enough to be in the processor's cache still.
_PIECE = 2**20


def packed(difference: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Return a difference in half precision, with the scale of each weight tensor."""
    parts = torch.split(difference, sizes)
    scales = torch.stack([part.abs().max() for part in parts])
    scales = torch.where(scales > 0, scales, 1.0)
    return torch.cat([p / s for p, s in zip(parts, scales, strict=True)]).half(), scales


def unpacked(difference: Tensor, scales: Tensor, sizes: list[int], like: Tensor) -> Tensor:
    """Return a difference in half precision in the precision of the weights."""
    parts = torch.split(difference.to(like), sizes)
    return torch.cat([p * s for p, s in zip(parts, scales, strict=True)])


def shard_path(folder: Path, first: int, last: int) -> Path:
    """Return where the steps from `first` to the one before `last` are."""
    return folder / f"shard-{first:07d}-{last:07d}.safetensors"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as a safetensors file with a checksum over all, whole or not at all.

    The format is a header in JSON and then the bytes: written here from the tensors' own memory, as
    the library's writers copy them first, which took more time than the steps of a small network.
    """
    views = {name: _bytes_of(tensor) for name, tensor in sorted(tensors.items())}
    sums = {name: _Sums().add(view) for name, view in views.items()}
    shapes = {name: (tensors[name].dtype, list(tensors[name].shape)) for name in views}
    text = _header(shapes, metadata | {"check": _checksum(metadata, sums)})
    text += b" " * (-len(text) % 8)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            for part in (len(text).to_bytes(8, "little"), text):
                file.write(part)
            for view in views.values():
                file.write(view.data)

    write_whole(path, write)


class RowsFile:
    """A safetensors file whose first tensor is written row by row, so that it takes no memory.

    A thread writes some rows while the next are made.

    Args:
        path: Of the file.
        rows: How many rows there will be.
        width: Numbers of one.
        dtype: Of them.
    """

    def __init__(self, path: Path, rows: int, width: int, dtype: torch.dtype) -> None:
        self._rows, self._written, self._filled = rows, 0, 0
        count = max(min(_PIECE // max(width * dtype.itemsize, 1), rows), 1)
        self._piece, self._other = torch.empty(2, count, width, dtype=dtype)
        self._sums = _Sums()
        self._thread, self._task = ThreadPoolExecutor(1), Future[None]()
        self._task.set_result(None)
        self._file = path.open("wb", buffering=0)
        self._file.write(bytes(_HEAD))

    def __enter__(self) -> "RowsFile":
        """Return the file."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self._thread.shutdown()
        self._file.close()

    def row(self) -> Tensor:
        """Return the memory of the next row, `(width,)`, to be filled before the next call."""
        if self._filled == len(self._piece):
            self._flush()
        self._filled += 1
        return self._piece[self._filled - 1]

    def finish(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write the other tensors, and the header.

        Args:
            name: Of the tensor of the rows.
            tensors: The others.
            metadata: Words.
        """
        self._flush()
        self._task.result()
        assert self._written == self._rows, "a file of rows has as many as were announced"
        views = {other: _bytes_of(tensor) for other, tensor in tensors.items()}
        sums = {other: _Sums().add(view) for other, view in views.items()} | {name: self._sums}
        for view in views.values():
            _write_all(self._file, view.data)
        shapes = {name: (self._piece.dtype, [self._rows, self._piece.shape[1]])}
        shapes |= {other: (tensor.dtype, list(tensor.shape)) for other, tensor in tensors.items()}
        text = _header(shapes, metadata | {"check": _checksum(metadata, sums)})
        assert len(text) <= _HEAD - 8, "the header of a file of rows has few words"
        text += b" " * (_HEAD - 8 - len(text))
        self._file.seek(0)
        _write_all(self._file, len(text).to_bytes(8, "little") + text)

    def _flush(self) -> None:
        self._task.result()  # raises what went wrong with the rows before
        self._task = self._thread.submit(self._write, self._piece[: self._filled])
        self._written += self._filled
        self._piece, self._other, self._filled = self._other, self._piece, 0

    def _write(self, rows: Tensor) -> None:
        self._sums.add(rows.view(torch.uint8).numpy())
        _write_all(self._file, rows.numpy().data)


class _Sums:
    """Sums over the words of 8 bytes of each row, modulo 2**64, and the bytes that are left over.

    Memory is read at its own rate, where a checksum of bytes would take as long as a step of
    training. A row with changed numbers, or rows in another order, have other sums.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[bytes, bytes]] = []

    def add(self, rows: Any) -> "_Sums":
        """Add rows, `(n, bytes)`."""
        whole = rows.shape[1] // 8 * 8
        sums = rows[:, :whole].view(np.uint64).sum(1, dtype=np.uint64)
        self._parts.append((sums.tobytes(), rows[:, whole:].tobytes()))
        return self

    def check(self, start: int) -> int:
        """Return a checksum of all sums."""
        for index in (0, 1):
            for part in self._parts:
                start = zlib.crc32(part[index], start)
        return start


def _write_all(file: Any, data: Any) -> None:
    """Write to a file without a buffer, which may take a part at a time."""
    view = memoryview(data).cast("B")
    while len(view):
        view = view[file.write(view) :]


def _bytes_of(tensor: Tensor) -> Any:
    """Return a tensor's memory as rows of bytes, `(n, bytes)`: its own rows, if it has two axes."""
    flat = tensor.detach().cpu().contiguous()
    rows = len(flat) if flat.dim() == 2 else 1
    return flat.reshape(-1).view(torch.uint8).numpy().reshape(rows, -1 if flat.numel() else 0)


def _header(
    shapes: dict[str, tuple[torch.dtype, list[int]]], metadata: dict[str, str]
) -> bytes:  # fmt: skip
    """Return the header of a file, its tensors in the order of the bytes."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _KINDS[dtype], "shape": shape, "data_offsets": [begin, end]}
    return json.dumps(header).encode()


def _checksum(metadata: dict[str, str], sums: dict[str, _Sums]) -> str:
    check = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(sums):
        check = sums[name].check(zlib.crc32(name.encode(), check))
    return f"{check:08x}"


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and tensors of a file that `write_tensors` or `RowsFile` wrote.

    Raises:
        DataError: If it is missing or damaged.
    """
    if not path.is_file():
        message = f"Recording: {path.name} in {path.parent} is missing. Record again."
        raise DataError(message)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            # An open file can't be iterated over, its keys can.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise damaged(path, str(error)) from error
    check = metadata.pop("check", "")
    sums = {name: _Sums().add(_bytes_of(tensor)) for name, tensor in tensors.items()}
    if check != _checksum(metadata, sums):
        raise damaged(path, "its content does not match its own checksum")
    return metadata, tensors


def damaged(path: Path, reason: str) -> DataError:
    """Return the error of a damaged file, by its steps."""
    words = path.stem.split("-")
    steps = f" (steps {int(words[1])} to {int(words[2]) - 1})" if len(words) == 3 else ""
    message = f"Recording: {path.name}{steps} in {path.parent} is damaged: {reason}. Record again."
    return DataError(message)
