"""`load_model`: a network from a file, from Python, or by its name."""

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

from levelset._tools.arguments import checked
from levelset._tools.reading import check_zip, reading
from levelset.datasets._archives import damaged
from levelset.datasets._callable import call
from levelset.datasets._exported import load_exported, load_torchscript
from levelset.datasets._names import build_network, is_network_name, network_names
from levelset.errors import DataError, ParameterError

__all__ = ["load_model", "load_weights", "unpickle_safely"]

EMBEDDED = {"digits": Path(__file__).parent.parent / "networks_digits.safetensors"}
SUFFIXES = (".bin", ".pt", ".pt2", ".pth", ".safetensors")
PICKLE = b"\x80"
ZIP = b"PK"
PICKLES = (".bin", ".pt", ".pth")
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
CODE = frozenset({"GLOBAL", "INST", "OBJ", "REDUCE", "STACK_GLOBAL"})


@checked
def load_model(spec: str | Path, weights: str | Path | None = None) -> nn.Module:
    """Load a model in evaluation mode; the only code that runs is code you name.

    `SECURITY.md` says what is safe to open from strangers.

    `spec` is one of

    - an exported program (`.pt2`, from `torch.export.save`). Export it in evaluation mode, and
      with a dynamic first axis, else it takes batches of one size only;
    - a TorchScript file, recognised by its content;
    - `module:callable`, called without arguments and returning an `nn.Module`; the current
      directory is importable;
    - the name of a network in `levelset.networks`, with plain arguments if it takes any:
      `convnet_4a`, `fc(784, 100, 10)`. It needs `weights`, but for `digits`, which carries them.

    A pickle that would run code (a network saved whole by `torch.save`) is refused, and so are
    exported programs and scripts that do anything but compute with tensors. Weights of another
    precision are converted to the model's.

    Args:
        spec: What to load, see above.
        weights: For the last two: `.safetensors`, or a state dict as `.pt`, `.pth` or `.bin`, alone
            or in a checkpoint under `state_dict`, `model_state_dict` or `model`. They must fit the
            model exactly, but for what wrappers put before each name: `module.`, `_orig_mod.`,
            `model.`, `net.` and `network.` are left out.

    Returns:
        The model as it was built, on the CPU unless the callable chooses otherwise.

    Raises:
        DataError: If a file is missing, damaged, unsafe, too large or unfit, or `spec` is not
            understood.
        ParameterError: If `weights` is given to a model that carries its own, or left out for a
            network that needs them.

    Example:
        >>> from levelset.datasets import load_model
        >>> load_model("digits").training
        False
    """
    text = str(spec)
    path = Path(text).expanduser()
    if path.is_file():
        if weights is not None:
            message = f"load_model: leave out `weights`: {path} carries its own."
            raise ParameterError(message)
        with reading("load_model", path):
            return _load_file(path).eval()
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global one
        model, default = _build(text)
    if weights is None and default is None and ":" not in text:
        message = (
            f"load_model: `weights` must be given for the network {text}, which is untrained. "
            "Give a .safetensors file or a state dict (--weights)."
        )
        raise ParameterError(message)
    file = default if weights is None else Path(weights).expanduser()
    if file is not None:
        load_weights(model, file)
    return model.eval()


def _build(text: str) -> tuple[nn.Module, Path | None]:
    """Return a network by its name, and the weights that come with the package."""
    if ":" in text:
        model = call("load_model", text)
        if not isinstance(model, nn.Module):
            message = f"load_model: {text} must return an nn.Module, got {type(model).__name__}."
            raise DataError(message)
        return model, None
    if is_network_name(text):
        return build_network(text), EMBEDDED.get(text)
    raise DataError(_unknown(text))


def _load_file(path: Path) -> nn.Module:
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        message = f"load_model: cannot read {path} ({error.strerror})."
        raise DataError(message) from error
    if zipfile.is_zipfile(path):
        names = _member_names(path)
        if any(name.endswith("/archive_format") for name in names):
            return load_exported(path)
        if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
            return load_torchscript(path)
        if not any(name.endswith("/data.pkl") for name in names):
            raise DataError(f"load_model: {path} is a zip, but none that PyTorch writes.")
    elif path.suffix == ".safetensors":
        raise DataError(_weights_alone(path))
    elif head == ZIP or not head or path.suffix == ".pt2":
        raise DataError(f"load_model: {path} is damaged or truncated. Fetch it again.")
    elif not head.startswith(PICKLE) and path.suffix not in SUFFIXES:
        raise DataError(_unknown(str(path)))
    unpickle_safely(path)  # refuses what is unsafe or damaged: what is left is tensors
    raise DataError(_weights_alone(path))


def _member_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        message = f"load_model: {path} is damaged or truncated ({error}). Fetch it again."
        raise DataError(message) from error


def _weights_alone(path: Path) -> str:
    return (
        f"load_model: {path} holds weights without an architecture. Give the network as "
        f"`module:callable` or by its name, and this file as `weights` (--weights {path})."
    )


def _unknown(text: str) -> str:
    path = Path(text).expanduser()
    if text and path.is_dir():
        what = "a folder: give the file in it that holds the model"
    else:
        what = "no model file" if path.is_file() else "no file, and no network known here"
    return (
        f"load_model: {text!r} is {what}. Understood are: a .pt2 file (torch.export), a "
        "TorchScript file, module:callable, the name of a network with `weights` "
        f"({', '.join(network_names())})."
    )


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
    """Return the weights without the prefixes of wrappers, if they fit better so."""
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
    """Return why the weights do not fit; an empty text if they do."""
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
