"""What a run was made of, so that a resume goes on with the same, and a reader can repeat it."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levelset._tools.files import make_folder, remove_leftovers, write_json
from levelset._tools.modes import modules_of
from levelset._typing import Model
from levelset.errors import RunError

__all__ = [
    "add_notes",
    "fingerprint",
    "identity",
    "manifest",
    "model_fingerprint",
    "start_run",
]

# What may differ between a run and its resumption: the rows then differ by rounding at most.
_FREE = {"device", "machine", "torch", "python"}
# What is said about a run, and plays no part in it.
_NOTES = {"command", "date", "threads"}


def fingerprint(*tensors: Tensor) -> str:
    """Return a short hash of values, shapes and dtypes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        content = tensor.detach().cpu().contiguous()
        digest.update(np.ascontiguousarray(content.view(torch.uint8).numpy()).tobytes())
    return digest.hexdigest()[:16]


def model_fingerprint(model: Model) -> str:
    """Return a short hash of a model's weights and buffers, and of what its modules are."""
    digest = hashlib.sha256()
    for root in modules_of(model):
        for name, module in root.named_modules():
            digest.update(f"{name}:{type(module).__name__}:{module.extra_repr()};".encode())
        tensors = {**dict(root.named_parameters()), **dict(root.named_buffers())}
        for name in sorted(tensors):
            digest.update(f"{name}:{fingerprint(tensors[name].flatten())};".encode())
    return digest.hexdigest()[:16]


def manifest(
    model: Model, points: Tensor, labels: Tensor, options: dict[str, Any]
) -> dict[str, Any]:
    """Return versions, device, options and hashes, ready for JSON."""
    return {
        "model": model_fingerprint(model),
        "data": fingerprint(points.flatten(1), labels),
        "options": options,
        "levelset": version("levelset"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": str(points.device),
        "machine": platform.machine(),
    }


def start_run(out: Path, content: dict[str, Any], *, resume: bool) -> None:
    """Make the folder of a run and write its manifest, or see that it is the same run."""
    path = out / "manifest.json"
    if path.exists():
        if not resume:
            message = (
                f"audit: the folder {out} already holds an audit. Give `resume=True` (--resume) "
                "to go on with it, or another `out`."
            )
            raise RunError(message)
        _check_same(out, _read(path), content)
    make_folder(out / "measurements")
    make_folder(out / "witnesses")
    for folder in (out, out / "measurements", out / "witnesses"):
        remove_leftovers(folder)
    if not path.exists():
        write_json(path, content)


def identity(content: dict[str, Any]) -> str:
    """Return a short hash of what tells one run from another: model, data and options."""
    text = json.dumps(_flat(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def add_notes(out: Path, notes: dict[str, Any]) -> dict[str, Any]:
    """Write what is said about a run into its manifest, but for what is there; return it all.

    Args:
        out: The folder of the run.
        notes: Of `command`, `date` and `threads`.
    """
    content = _read(out / "manifest.json")
    written = {**notes, **content}
    if written != content:
        write_json(out / "manifest.json", written)
    return written


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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


def _check_same(out: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    flat_found, flat_wanted = _flat(found), _flat(wanted)
    keys = sorted(flat_found.keys() | flat_wanted.keys())
    different = [
        f"{key} was {flat_found.get(key)}, is {flat_wanted.get(key)}"
        for key in keys
        if flat_found.get(key) != flat_wanted.get(key)
    ]
    if different:
        message = (
            f"audit: cannot resume in {out}, for this is another run: {'; '.join(different)}. "
            "Give the same model, data and options, or another `out`."
        )
        raise RunError(message)


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in content.items() if k not in _FREE | _NOTES | {"options"}}
    return {**kept, **json.loads(json.dumps(content["options"]))}
