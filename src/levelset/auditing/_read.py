"""An audit from its folder on disk."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from levelset import boundary
from levelset._tools.arguments import checked
from levelset._tools.norms import read_norm
from levelset._tools.stores import store_of
from levelset.auditing._measure import Radius
from levelset.auditing._measures import declared
from levelset.auditing._result import Audit
from levelset.auditing._run import MANIFEST, SUMMARY, Parts, identity, read_manifest
from levelset.boundary._second_order._smoothing import Smoothing
from levelset.errors import RunError

__all__ = ["read"]


@checked
def read(folder: str | Path, *, name: str | None = None) -> Audit:
    """Return the audit that a folder holds, with its inputs and witnesses.

    Args:
        folder: What `audit` was given as `out`: a folder, or an address.
        name: A name for the model and its data; `None` for that of the folder.

    Raises:
        RunError: If the folder holds no audit, an unfinished or a damaged one.

    Example:
        >>> import tempfile, torch
        >>> from levelset import audit, auditing
        >>> folder = tempfile.mkdtemp()
        >>> model = torch.nn.Linear(2, 2)
        >>> points, labels = torch.rand(3, 2), torch.tensor([0, 1, 0])
        >>> one = audit(model, points, labels, effort="quick", out=folder)
        >>> other = auditing.read(folder)
        >>> bool((one.columns["distance_2"] == other.columns["distance_2"]).all())
        True
    """
    store = store_of("read", folder, argument="folder")
    if not store.has(MANIFEST):
        message = f"read: {store} holds no audit: it has no manifest.json. Give the `out` of one."
        raise RunError(message)
    content = read_manifest(store)
    if not store.has(SUMMARY):
        message = f"read: the audit in {store} is not finished. Go on with it by `--resume`."
        raise RunError(message)
    try:
        options = content["options"]
        norms = tuple(read_norm("read", norm) for norm in options["norms"])
        own = _own(options)
        low, high = (np.asarray(side, dtype=float) for side in options["bounds"])
        classes = tuple(map(str, options["classes"]))
        run = identity(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"read: {store}/{MANIFEST} is not that of an audit: {error!r}."
        raise RunError(message) from error
    parts = Parts(store, run, norms, declared(norms, own.get("radii", ())))
    loaded = [parts.load(number) for number in range(parts.count)]
    broken = [number for number, part in enumerate(loaded) if part is None]
    if broken or not loaded:
        what = f"part {broken[0]} is damaged, or of another run" if broken else "it has no parts"
        message = f"read: the audit in {store} cannot be read: {what}. Measure again."
        raise RunError(message)
    whole = [part for part in loaded if part is not None]
    return Audit(
        points=torch.cat([points for points, _ in whole]),
        columns={
            key: torch.cat([part.columns[key] for _, part in whole]) for key in whole[0][1].columns
        },
        witnesses={norm: torch.cat([part.witnesses[norm] for _, part in whole]) for norm in norms},
        norms=norms,
        classes=classes,
        name=store.name if name is None else name,
        bounds=(float(low.min()), float(high.max())),
        settings=own,
    )


def _own(options: dict[str, Any]) -> dict[str, Any]:
    """Return what single measures were made with, from the text of the manifest."""
    own = {key: value for key, value in options.items() if key == "adversarial"}
    if "radii" in options:
        pairs = re.findall(r"(\w+)_([\d.eE+-]+)", options["radii"])
        own["radii"] = tuple(Radius(read_norm("read", norm), float(size)) for norm, size in pairs)
    if "smoothing" in options:
        own["smoothing"] = _smoothing(options["smoothing"])
    return own


def _smoothing(text: str) -> Smoothing | None:
    """Return a smoothing from how it prints."""
    if text == "None":
        return None
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(text)
    kind = getattr(boundary, call.func.id)
    return kind(**{str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
