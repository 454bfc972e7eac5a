"""Exported programs (`.pt2`): checked member by member, then given to PyTorch."""

import io
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import load_pt2
from torch.fx import GraphModule

from levelset.datasets._archives import damaged, pack, read_members
from levelset.datasets._grammar import UnfitError, check_payload, check_program, is_identifier
from levelset.errors import DataError, LevelSetError

__all__ = ["load_exported"]

PROGRAM = "models/model.json"
INPUTS = "data/sample_inputs/model.pt"
PAYLOADS = tuple(f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants"))
TENSORS = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+", re.ASCII)
WORDS = ("archive_format", "archive_version", "byteorder", ".data/version", "version")
IGNORED = re.compile(r"extra/.*|\.data/.*|.*/module_info\.json")


def load_exported(file: Path) -> nn.Module:
    """Return the module of an exported program, with its modes settled.

    PyTorch evaluates, executes and unpickles words of such a file. It is given an archive packed
    anew of what was checked here: operators that compute, formulas of sizes, comparisons of sizes,
    tensors. `load_pt2` is `torch.export.load` without its way to older formats.

    An exported graph has its modes burnt in. One exported in training mode is refused; for the
    others `eval()` and `train()`, which torch makes raise, are made to set flags only.

    Raises:
        DataError: If the file is damaged, of an older format, exported in training mode, or holds
            anything but a network of plain tensors.
    """
    members = read_members(file)
    try:
        program = load_pt2(pack(_checked(file, members))).exported_programs["model"]
        module = program.module()
    except UnfitError as error:
        message = (
            f"load_model: {file} is refused: {error}. Only networks that compute with plain "
            "tensors are opened. Give others as `module:callable`."
        )
        raise DataError(message) from error
    except LevelSetError:
        raise
    except Exception as error:  # torch documents none of the many ways in which this fails
        first = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        message = (
            f"load_model: {file} is damaged, or no exported program that PyTorch "
            f"{torch.__version__} reads ({first}). Export it again with `torch.export.save`."
        )
        raise DataError(message) from error
    _refuse_training(file, program)
    for method in ("train", "eval"):
        vars(module).pop(method, None)
    return module


def _checked(file: Path, members: dict[str, bytes]) -> dict[str, bytes]:
    """Return the members that PyTorch needs, checked, and written anew where they hold words."""
    kept: dict[str, bytes] = {}
    for name, content in members.items():
        if name == PROGRAM:
            kept[name] = check_program(content)
        elif name in PAYLOADS:
            kept[name] = check_payload(content, f"its member {name}")
            _check_present(file, name, json.loads(content), members)
        elif name == INPUTS:
            kept[name] = _checked_inputs(file, content)
        elif name in WORDS or TENSORS.fullmatch(name):
            kept[name] = content
        elif not IGNORED.fullmatch(name):
            message = (
                f"load_model: {file} is refused: its member {name} is none of a network of plain "
                "tensors, or holds pickled objects or compiled code. Export such a network, one a "
                "file."
            )
            raise DataError(message)
    if PROGRAM not in kept:
        message = f"load_model: {file} holds no exported program {PROGRAM}: export it again."
        raise DataError(message)
    return kept


def _check_present(file: Path, name: str, payload: Any, members: dict[str, bytes]) -> None:
    """Refuse tensors whose numbers are missing: PyTorch would fill in zeros."""
    folder = name.rpartition("/")[0]
    for key, entry in payload["config"].items():
        sizes = [
            size.get("as_int", 0) for size in (entry.get("tensor_meta") or {}).get("sizes", [])
        ]
        member = f"{folder}/{entry['path_name']}"
        if 0 not in sizes and not members.get(member):
            raise damaged(file, f"its member {member}, the numbers of {key}, is empty or missing")


def _checked_inputs(file: Path, content: bytes) -> bytes:
    """Return the inputs that the program was exported with, if they are tensors in containers.

    PyTorch writes their keys into the guards, as text.
    """
    if not content:
        return content
    try:
        inputs = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what is no tensor, or damaged, fails in many ways
        message = (
            f"load_model: {file} is refused: its member {INPUTS} holds pickled objects or compiled "
            "code, which run as they load, or is damaged. Export a network of plain tensors."
        )
        raise DataError(message) from error
    _check_tree(inputs)
    stream = io.BytesIO()
    torch.save(inputs, stream)
    return stream.getvalue()


def _check_tree(value: object) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            if not is_identifier(key):
                raise UnfitError(f"its inputs must have identifiers as keys, got {str(key)[:80]!r}")
            _check_tree(part)
    elif isinstance(value, tuple | list):
        for part in value:
            _check_tree(part)
    elif not (value is None or isinstance(value, Tensor | bool | int | float)):
        raise UnfitError(f"its inputs must be tensors and numbers, got {type(value).__name__}")


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
