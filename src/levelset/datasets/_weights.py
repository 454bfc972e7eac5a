"""Weights from safetensors and state dicts into a network, and the refusal of live pickles."""

import io
import pickle
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from levelset._tools.reading import check_zip, reading
from levelset.datasets._archives import damaged
from levelset.errors import DataError

__all__ = ["load_weights", "unpickle_safely"]

PICKLES = (".bin", ".pt", ".pth")
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
CODE = frozenset({"GLOBAL", "INST", "OBJ", "REDUCE", "STACK_GLOBAL"})


def load_weights(model: nn.Module, file: Path) -> None:
    """Load weights into a network, all of them and no others, in the network's own dtypes.

    Of a checkpoint, the state dict under `state_dict`, `model_state_dict` or `model` is taken.
    What DataParallel, `torch.compile` and Lightning put before each name is left out where the
    names do not fit with it.

    Args:
        model: The network. Changed in place.
        file: `.safetensors`, or a state dict as `.pt`, `.pth` or `.bin`.

    Raises:
        DataError: If the file is missing, damaged, unsafe, or does not fit the network.
    """
    with reading("load_model", file):
        state = _unwrapped(_read_state(file), set(model.state_dict()))
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
        _check_archive(file)
    try:
        with warnings.catch_warnings():
            # a remark on newer protocols that the result, or the refusal, makes idle
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _names_code(file):
            raise damaged(file, "no tensors of PyTorch") from error
        message = (
            f"load_model: {file} is refused: it holds Python objects, such as a network saved "
            "whole or the hyperparameters of a Lightning checkpoint, and unpickling them runs "
            "whatever code the file names. Save `model.state_dict()` and give `module:callable` "
            "with `weights` (--weights), or export the network with `torch.export`. Of a "
            'checkpoint that you trust, save `torch.load(FILE, weights_only=False)["state_dict"]`.'
        )
        raise DataError(message) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in many ways, none of them documented
        raise damaged(file, f"{type(error).__name__}: {error}") from error


def _check_archive(file: Path) -> None:
    """Refuse a zip that is too large, or whose checksums are wrong: PyTorch looks at neither."""
    try:
        with zipfile.ZipFile(file) as archive:
            check_zip(archive, f"load_model: {file}")
            bad = archive.testzip()
    except DataError:
        raise
    except Exception as error:  # bad names, passwords, odd compressions, what decompressors raise
        raise damaged(file, f"{type(error).__name__}: {error}") from error
    if bad is not None:
        raise damaged(file, f"the checksum of its member {bad} is wrong")


def _read_state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        message = f"load_model: there is no file of weights {file}."
        raise DataError(message)
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise damaged(file, str(error)) from error
    if file.suffix not in PICKLES:
        message = (
            f"load_model: weights must be .safetensors, or a state dict as {', '.join(PICKLES)}, "
            f"got {file.name}."
        )
        raise DataError(message)
    state = unpickle_safely(file)
    nested = [state[key] for key in CHECKPOINT_KEYS if key in state] if _is_dict(state) else []
    for candidate in (state, *nested):
        if _is_dict(candidate) and all(
            isinstance(k, str) and isinstance(v, Tensor) for k, v in candidate.items()
        ):
            return candidate
    keys = list(state)[:5] if isinstance(state, dict) else type(state).__name__
    message = (
        f"load_model: {file} must hold a state dict, names to tensors, alone or under one of "
        f"{', '.join(CHECKPOINT_KEYS)}, got {keys}. Of another checkpoint, save the state dict of "
        "the network alone."
    )
    raise DataError(message)


def _is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _unwrapped(state: dict[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """Return the weights without what wrappers put before their names, if they fit so better."""
    best = state
    # `torch.compile` of one layer puts its word into the middle
    bare = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    for _ in range(len(WRAPPERS)):
        best = max(best, bare, key=lambda candidate: len(names & candidate.keys()))
        prefix = next((p for p in WRAPPERS if bare and all(k.startswith(p) for k in bare)), None)
        if prefix is None or names <= best.keys():
            break
        bare = {name.removeprefix(prefix): tensor for name, tensor in bare.items()}
    return best


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
    kinds = [k for k in own if k in state and _kind(own[k]) != _kind(state[k])]
    kinds = [k for k in kinds if own[k].numel() > 1]  # counters come as floats at times
    if kinds:
        shown = ", ".join(f"{k} must be {own[k].dtype}, got {state[k].dtype}" for k in kinds[:3])
        complaints.append(f"{len(kinds)} of another kind of number ({shown})")
    return "; ".join(complaints)


def _kind(tensor: Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.is_quantized


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
