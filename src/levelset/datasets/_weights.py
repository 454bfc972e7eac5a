"""Weights from safetensors and state dicts into a network, and the refusal of live pickles."""

import io
import pickle
import pickletools
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from levelset.errors import DataError

__all__ = ["check_archive", "load_weights", "unpickle_safely"]

PICKLES = (".bin", ".pt", ".pth")
CODE = frozenset({"GLOBAL", "INST", "OBJ", "REDUCE", "STACK_GLOBAL"})


def load_weights(model: nn.Module, file: Path) -> None:
    """Load weights into a network, all of them and no others, in the network's own dtypes.

    Args:
        model: The network. Changed in place.
        file: `.safetensors`, or a state dict as `.pt`, `.pth` or `.bin`.

    Raises:
        DataError: If the file is missing, damaged, unsafe, or does not fit the network.
    """
    state = _read_state(file)
    complaint = _misfit(model, state)
    if complaint:
        message = f"load_model: the weights {file} do not fit {type(model).__name__}: {complaint}."
        raise DataError(message)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        message = f"load_model: cannot load the weights {file}: {error}"
        raise DataError(message) from error


def unpickle_safely(file: Path) -> object:
    """Return what `torch.save` wrote, if it is tensors and plain containers.

    Raises:
        DataError: If the file is damaged, or if unpickling it would run code.
    """
    if zipfile.is_zipfile(file):
        check_archive(file)
    try:
        with warnings.catch_warnings():
            # a remark on newer protocols that the result, or the refusal, makes idle
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _names_code(file):
            raise _damaged(file, "no tensors of PyTorch") from error
        message = (
            f"load_model: {file} is refused: it holds Python objects, such as a network saved "
            "whole, and unpickling them runs whatever code the file names. Save "
            "`model.state_dict()` and give `module:callable` with `weights` (--weights), or "
            "export the network with `torch.export`."
        )
        raise DataError(message) from error
    except Exception as error:  # a damaged file fails in many ways, none of them documented
        raise _damaged(file, f"{type(error).__name__}: {error}") from error


def check_archive(file: Path) -> None:
    """Refuse a zip whose checksums are wrong: PyTorch itself does not look at them."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise _damaged(file, str(error)) from error
    if bad is not None:
        raise _damaged(file, f"the checksum of its member {bad} is wrong")


def _damaged(file: Path, reason: str) -> DataError:
    first = reason.splitlines()[0] if reason else "unknown"
    return DataError(f"load_model: {file} is damaged or truncated ({first}). Fetch it again.")


def _read_state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        message = f"load_model: there is no file of weights {file}."
        raise DataError(message)
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise _damaged(file, str(error)) from error
    if file.suffix not in PICKLES:
        message = (
            f"load_model: weights must be .safetensors, or a state dict as {', '.join(PICKLES)}, "
            f"got {file.name}."
        )
        raise DataError(message)
    state = unpickle_safely(file)
    if isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values()):
        return state
    keys = list(state)[:5] if isinstance(state, dict) else type(state).__name__
    message = (
        f"load_model: {file} must hold a state dict, names to tensors, got {keys}. "
        "Of a checkpoint, save the state dict of the network alone."
    )
    raise DataError(message)


def _misfit(model: nn.Module, state: dict[str, Tensor]) -> str:
    """Return what keeps the weights from fitting, nothing if they fit."""
    own = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    complaints = []
    for what, names in (
        ("missing", [k for k in own if k not in state]),
        ("unexpected", [k for k in state if k not in own]),
    ):
        if names:
            shown = ", ".join(f"{k} {tuple({**state, **own}[k].shape)}" for k in names[:3])
            complaints.append(f"{len(names)} {what} ({shown}{', ...' if len(names) > 3 else ''})")
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    if wrong:
        shown = ", ".join(
            f"{k} must be {tuple(own[k].shape)}, got {tuple(state[k].shape)}" for k in wrong[:3]
        )
        complaints.append(f"{len(wrong)} of another shape ({shown})")
    return "; ".join(complaints)


def _names_code(file: Path) -> bool:
    """Tell whether a pickle, read without running it, would call anything."""
    if not zipfile.is_zipfile(file):
        return _calls(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
        return any(_calls(archive.read(name)) for name in pickles)


def _calls(data: bytes) -> bool:
    stream = io.BytesIO(data)
    try:
        while True:  # PyTorch's older format is several pickles in a row
            # each read to its end, so that a truncated one counts as damaged
            if not CODE.isdisjoint([op.name for op, _, _ in pickletools.genops(stream)]):
                return True
    except Exception:  # the end, or no pickle: genops raises whatever the bytes lead to
        return False
