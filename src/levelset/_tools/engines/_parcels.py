"""Pieces of work, results and failures as bytes, on their way between processes."""

import io
import pickle
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levelset.errors import LevelSetError, RunError

__all__ = ["Said", "failure", "overheard", "packed", "unpacked"]


def packed(value: Any) -> bytes:
    """Return a value as bytes, with of each tensor its own entries alone.

    A tensor as pickle writes it brings its whole storage with it, of which it may be a few rows,
    and `torch.multiprocessing` would send a handle that ends with its process.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def unpacked(content: bytes) -> Any:
    """Return the value of `packed`, with tensors on the processor."""
    return pickle.loads(content)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Write plain tensors as arrays, and leave everything else as it is."""
        if type(value) is not Tensor or value.layout != torch.strided:
            return NotImplemented
        flat = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        return _tensor, (flat, value.dtype, tuple(value.shape))


def _tensor(flat: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if not flat.size:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(flat.copy()).view(dtype).view(shape)


@dataclass(frozen=True)
class Said:
    """A warning on its way: what was warned of, and where."""

    message: str
    category: type[Warning]
    file: str
    line: int

    def again(self) -> None:
        """Warn of it here."""
        warnings.warn_explicit(self.message, self.category, self.file, self.line)


@contextmanager
def overheard() -> Iterator[list[Said]]:
    """Collect the warnings of a block, each once."""
    said: list[Said] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    each = {(str(w.message), w.category, w.filename, w.lineno): None for w in caught}
    said += [Said(*words) for words in each]


def failure(error: BaseException) -> BaseException:
    """Return an exception that can be sent: itself with its traceback as a note, or its words."""
    trace = "".join(traceback.format_exception(error))
    if not isinstance(error, LevelSetError):
        error.add_note(f"In a worker:\n{trace}")
    try:
        unpacked(packed(error))
    except Exception:  # an exception may hold anything; its words are sent instead
        return RunError(f"a worker failed: {type(error).__name__}: {error}\n{trace}")
    return error
