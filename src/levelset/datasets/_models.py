"""`load_model`: a network from a file, from Python, or by its name."""

import zipfile
from pathlib import Path

import torch
from torch import nn

from levelset._tools.arguments import checked
from levelset._tools.reading import reading
from levelset.datasets._callable import call
from levelset.datasets._exported import load_exported
from levelset.datasets._names import build_network, is_network_name, network_names
from levelset.datasets._torchscript import load_torchscript
from levelset.datasets._weights import load_weights, unpickle_safely
from levelset.errors import DataError, ParameterError

__all__ = ["load_model"]

EMBEDDED = {"digits": Path(__file__).parent.parent / "networks_digits.safetensors"}
SUFFIXES = (".bin", ".pt", ".pt2", ".pth", ".safetensors")
PICKLE = b"\x80"
ZIP = b"PK"


@checked
def load_model(spec: str | Path, weights: str | Path | None = None) -> nn.Module:
    """Load a model in evaluation mode, running no code but what is named on purpose.

    `SECURITY.md` says what is safe to open from strangers.

    `spec` is one of

    - an exported program (`.pt2`, from `torch.export.save`). Export it in evaluation mode, and
      with a dynamic first axis, else it takes batches of one size only;
    - a TorchScript file, told by its content;
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
    """Return the network that is asked for, and the weights that come with the package."""
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
