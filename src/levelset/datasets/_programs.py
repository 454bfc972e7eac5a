"""Models that carry their own code: exported programs (`.pt2`) and TorchScript."""

import io
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.pt2_archive import PT2ArchiveReader
from torch.fx import GraphModule

from levelset.datasets._weights import check_archive
from levelset.errors import DataError

__all__ = ["load_exported", "load_torchscript"]

PAYLOADS = ("data/weights/", "data/constants/")
OBJECTS = ("data/constants/custom_obj_", "data/constants/opaque_obj_", "data/aotinductor/")


def load_exported(file: Path) -> nn.Module:
    """Return the module of an exported program, with its modes settled.

    `torch.export.load` unpickles without `weights_only` where a program asks for it. What it would
    unpickle so is looked for first, with its own reader and in the same bytes, and refused.

    An exported graph has its modes burnt in. One exported in training mode is refused; for the
    others `eval()` and `train()`, which torch makes raise, are made to set flags only.

    Raises:
        DataError: If the file is damaged, of an older format, exported in training mode, or holds
            pickled objects or compiled code.
    """
    check_archive(file)
    try:
        data = file.read_bytes()
        _refuse_code(file, data)
        program = torch.export.load(io.BytesIO(data))
        module = program.module()
    except DataError:
        raise
    except Exception as error:  # torch documents none of the many ways in which this fails
        first = str(error).partition("\n")[0] or type(error).__name__
        message = (
            f"load_model: {file} is damaged, or no exported program that PyTorch "
            f"{torch.__version__} reads ({first}). Export it again with `torch.export.save`."
        )
        raise DataError(message) from error
    _refuse_training(file, program)
    for method in ("train", "eval"):
        vars(module).pop(method, None)
    return module


def load_torchscript(file: Path) -> nn.Module:
    """Return a TorchScript module, on the CPU. No Python code runs.

    Raises:
        DataError: If the file is damaged.
    """
    check_archive(file)
    try:
        with warnings.catch_warnings():
            # PyTorch 2.13 recommends torch.export; people's files stay what they are.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            return torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        message = f"load_model: {file} is damaged, or no TorchScript module ({first})."
        raise DataError(message) from error


def _refuse_code(file: Path, data: bytes) -> None:
    reader = PT2ArchiveReader(io.BytesIO(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # What lies outside of the one folder belongs to the format before PyTorch 2.8, to which
        # `torch.export.load` falls back, and which the loop below does not see.
        if any("/" not in name for name in archive.namelist()):
            message = f"load_model: {file} is of an older format of torch.export: export it again."
            raise DataError(message)
    names = reader.get_file_names()
    lower = [name.lower() for name in names]  # PyTorch finds members in either case
    if len(set(lower)) != len(names):
        message = f"load_model: {file} is refused: it has members of the same name."
        raise DataError(message)
    for name, known in zip(names, lower, strict=True):
        live = known.startswith(OBJECTS)
        if known.endswith(".pt"):  # sample inputs, and weights of an older format
            live = live or _is_live(reader.read_bytes(name))
        elif known.startswith(PAYLOADS) and known.endswith(".json"):
            config = json.loads(reader.read_string(name))["config"]
            live = live or any(entry["use_pickle"] for entry in config.values())
        if live:
            message = (
                f"load_model: {file} is refused: its member {name} holds pickled objects or "
                "compiled code, which run as they load. Export a network of plain tensors."
            )
            raise DataError(message)


def _is_live(data: bytes) -> bool:
    try:
        if data:
            torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return True
    return False


def _refuse_training(file: Path, program: ExportedProgram) -> None:
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    for node in (node for graph in graphs for node in graph.nodes):
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False):
            if argument.name in {"train", "training"} and value is True:
                message = (
                    f"load_model: {file} must be exported in evaluation mode, got {node.name} in "
                    "training mode, which draws at random or couples rows. Call `model.eval()` "
                    "before `torch.export.export`."
                )
                raise DataError(message)
