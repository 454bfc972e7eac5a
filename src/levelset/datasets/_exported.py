"""Programs of `torch.export` and TorchScript: opened if they compute and do nothing else."""

import ast
import io
import json
import pickle
import pickletools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import load_pt2
from torch.fx import GraphModule

from levelset.datasets._archives import damaged, pack, read_members
from levelset.datasets._grammar import UnfitError, check_payload, check_program, is_identifier
from levelset.datasets._operators import computes_in_script, named_like_what_computes
from levelset.errors import DataError, LevelSetError

__all__ = ["load_exported", "load_torchscript"]

PROGRAM = "models/model.json"
INPUTS = "data/sample_inputs/model.pt"
PAYLOADS = tuple(f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants"))
TENSORS = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+", re.ASCII)
WORDS = ("archive_format", "archive_version", "byteorder", ".data/version", "version")
IGNORED = re.compile(r"extra/.*|\.data/.*|.*/module_info\.json")
CODE = re.compile(r"code/[\w./]+\.py", re.ASCII)
WANTED = re.compile(
    r"(data|constants)/\d+|(\.data/)?version|byteorder|\.data/serialization_id", re.A
)
PICKLES = ("data.pkl", "constants.pkl")
# What the pickles of TorchScript name, beside the classes of the archive's own code.
GLOBALS = re.compile(
    r"__torch__ [\w]+|__torch__\.(?!torch\.classes\b)[\w.]+ \w+|collections OrderedDict|"
    r"torch [A-Z]\w*Storage|torch device|torch\._utils _rebuild_(tensor_v2|parameter)|"
    r"torch\.jit\._pickle (build_(int|tensor|double|bool)list|restore_type_tag|"
    r"build_tensor_from_id)",
    re.ASCII,
)
# What PyTorch writes into them; Python reads each of these as PyTorch does.
OPERATIONS = re.compile(
    "APPENDS?|BIN(FLOAT|GET|INT[12]?|PERSID|PUT|UNICODE)|BUILD|EMPTY_(DICT|LIST|TUPLE)|GLOBAL|"
    "LONG1|LONG_BIN(GET|PUT)|MARK|NEW(FALSE|OBJ|TRUE)|NONE|PROTO|REDUCE|SETITEMS?|STOP|TUPLE[123]?"
)
BYTES = {
    "BFloat16Storage": 2, "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1,
    "ComplexDoubleStorage": 16, "ComplexFloatStorage": 8, "DoubleStorage": 8, "FloatStorage": 4,
    "HalfStorage": 2, "IntStorage": 4, "LongStorage": 8, "ShortStorage": 2,
}  # fmt: skip
STATEMENTS = (
    ast.AnnAssign, ast.Assert, ast.Assign, ast.AugAssign, ast.ClassDef, ast.Delete, ast.Expr,
    ast.For, ast.FunctionDef, ast.If, ast.Pass, ast.Raise, ast.Return, ast.While, ast.With,
)  # fmt: skip
EXPRESSIONS = (
    ast.Attribute, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.Dict,
    ast.IfExp, ast.List, ast.Name, ast.Slice, ast.Subscript, ast.Tuple, ast.UnaryOp,
)  # fmt: skip
# Values and types that need no operator to be known.
LITERALS = (
    ast.Attribute, ast.Call, ast.Constant, ast.Dict, ast.List, ast.Name, ast.Subscript, ast.Tuple,
    ast.UnaryOp,
)  # fmt: skip
LITERAL_CALLS = frozenset({"annotate", "bool", "float", "int"})  # such as float("inf")
RUN_BY_LOADING = ("__setstate__", "__getstate__")
RUN_BY_WITH = ("__enter__", "__exit__")


def load_exported(file: Path) -> nn.Module:
    """Return the module of an exported program, with its modes settled.

    PyTorch evaluates, executes and unpickles words of such a file. It reads an archive packed
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
    return _usable(program, module)


def _usable(program: ExportedProgram, module: nn.Module) -> nn.Module:
    """Let the module of a program be switched between modes, and sent to other processes."""
    for method in ("train", "eval"):
        vars(module).pop(method, None)

    def reduced(protocol: Any) -> tuple[Any, ...]:
        del protocol
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        return _rebuilt, (buffer.getvalue(), module.state_dict(), module.training)

    vars(module)["__reduce_ex__"] = reduced
    return module


def _rebuilt(content: bytes, state: dict[str, Tensor], training: bool) -> nn.Module:
    """Return the module of a program that another process sent, with its present weights."""
    program = load_pt2(io.BytesIO(content)).exported_programs["model"]
    module = _usable(program, program.module())
    module.load_state_dict(state)
    return module.train(training)


def _checked(file: Path, members: dict[str, bytes]) -> dict[str, bytes]:
    """Return the members that PyTorch needs, checked, and written anew where they hold words."""
    checked: dict[str, bytes] = {}
    for name, content in members.items():
        if name == PROGRAM:
            checked[name] = check_program(content)
        elif name in PAYLOADS:
            checked[name] = check_payload(content, f"its member {name}")
            _check_present(file, name, json.loads(content), members)
        elif name == INPUTS:
            checked[name] = _checked_inputs(file, content)
        elif name in WORDS or TENSORS.fullmatch(name):
            checked[name] = content
        elif not IGNORED.fullmatch(name):
            message = (
                f"load_model: {file} is refused: its member {name} is none of a network of plain "
                "tensors, or holds pickled objects or compiled code. Export such a network, one a "
                "file."
            )
            raise DataError(message)
    if PROGRAM not in checked:
        message = f"load_model: {file} holds no exported program {PROGRAM}: export it again."
        raise DataError(message)
    return checked


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


def load_torchscript(file: Path) -> nn.Module:
    """Return a TorchScript module, on the CPU. No Python code runs.

    Tensors are compared with the bytes that they are read from, which PyTorch leaves out.
    Loading runs what an archive calls `__setstate__`, and computes the defaults of arguments; both
    are looked for in the source and refused. The source is handed on as parsed and printed by
    Python, so that PyTorch reads what was checked. Then all graphs are walked.

    Raises:
        DataError: If the file is damaged, would run code as it loads, or uses an operator that
            does more than compute.
    """
    members = read_members(file)
    checked = {name: content for name, content in members.items() if WANTED.fullmatch(name)}
    try:
        for name in PICKLES:
            if name in members:
                _check_pickle(file, name, members)
                checked[name] = members[name]
        for name in filter(CODE.fullmatch, members):
            checked[name] = _checked_source(file, name, members[name]).encode()
        with warnings.catch_warnings():
            # PyTorch 2.13 recommends torch.export; people's files stay what they are.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            module = torch.jit.load(pack(checked), map_location="cpu")  # type: ignore[no-untyped-call]
    except LevelSetError:
        raise
    except Exception as error:  # none of the many ways in which a damaged file fails is documented
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        message = f"load_model: {file} is damaged, or no TorchScript module ({first})."
        raise DataError(message) from error
    _check_graphs(file, module)
    return module


def _check_pickle(file: Path, name: str, members: dict[str, bytes]) -> None:
    """Refuse objects of other kinds, and tensors that reach past their numbers.

    PyTorch compares neither the length of a tensor with that of its member nor its strides with
    its length: it would read whatever lies in memory behind it.
    """
    for operation, argument, _ in pickletools.genops(members[name]):
        if operation.name == "GLOBAL" and not GLOBALS.fullmatch(str(argument)):
            raise _refused(file, f"its member {name} names {argument}")
        if not OPERATIONS.fullmatch(operation.name):
            raise _refused(file, f"its member {name} makes objects by {operation.name}")
    _Extents(file, name, members).load()


class _Inert:
    """Stands for every object of a pickle, and does nothing."""

    def __new__(cls, *values: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *values: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Extents(pickle.Unpickler):
    """Reads a pickle for the extents of its tensors alone; nothing that it names is called."""

    def __init__(self, file: Path, name: str, members: dict[str, bytes]) -> None:
        super().__init__(io.BytesIO(members[name]))
        self.file, self.folder, self.members = file, name.removesuffix(".pkl"), members

    def find_class(self, module: str, name: str) -> Any:
        if name == "_rebuild_tensor_v2":
            return self._check_extent
        return name if name in BYTES else _Inert

    def persistent_load(self, storage: Any) -> int:
        """Return how many numbers a storage holds, if its member has as many bytes as it needs."""
        _, kind, key, _, count = storage
        size = len(self.members[f"{self.folder}/{key}"])
        if size != count * BYTES[kind]:
            reason = f"its member {self.folder}/{key} has {size} bytes, not {count * BYTES[kind]}"
            raise damaged(self.file, reason)
        return int(count)

    def _check_extent(
        self, count: int, offset: int, sizes: Any, strides: Any, *rest: object
    ) -> _Inert:
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if min((offset, *sizes, *strides)) < 0 or (0 not in sizes and last >= count):
            reason = (
                f"a tensor of sizes {sizes} and strides {strides} reaches past its {count} numbers"
            )
            raise damaged(self.file, reason)
        return _Inert()


def _checked_source(file: Path, name: str, content: bytes) -> str:
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, STATEMENTS):
            raise _refused(file, f"{name} holds the statement {type(node).__name__}")
        if isinstance(node, ast.expr) and not isinstance(node, EXPRESSIONS):
            raise _refused(file, f"{name} holds the expression {type(node).__name__}")
        if isinstance(node, ast.Attribute):
            _check_name(file, _dotted(node))
        elif isinstance(node, ast.ClassDef):
            _check_class(file, node)
        elif isinstance(node, ast.FunctionDef):
            _check_function(file, node)
    return ast.unparse(tree) + "\n"


def _dotted(node: ast.expr) -> str:
    """Return `a.b.c` of such an attribute, or "" where it does not start from a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def _check_name(file: Path, dotted: str) -> None:
    """Refuse `torch.x` and `ops.space.x` unless x computes, and classes implemented elsewhere."""
    root, _, rest = dotted.partition(".")
    kind = {"torch": f"aten::{rest}", "ops": rest.replace(".", "::", 1)}.get(root)
    if dotted.startswith("__torch__.torch.classes"):
        raise _refused(file, f"it uses {dotted}")
    # `ops.prim` alone is the start of `ops.prim.x`, which comes by itself
    if kind is not None and "::" in kind and not named_like_what_computes(kind):
        raise _refused(file, f"it uses {kind}")


def _check_class(file: Path, node: ast.ClassDef) -> None:
    for statement in node.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if "hook" in ast.unparse(target) and isinstance(statement, ast.Assign):
            raise _refused(file, f"its class {node.name} has hooks")
        if statement.value is not None:
            _check_literal(file, statement.value, f"a constant of its class {node.name}")


def _check_function(file: Path, node: ast.FunctionDef) -> None:
    if node.name in RUN_BY_LOADING:
        raise _refused(file, f"it defines {node.name}, which runs as the file loads")
    if node.decorator_list:
        raise _refused(file, f"its function {node.name} has decorators")
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if default is not None:
            _check_literal(file, default, f"a default of {node.name}")
    if node.name in RUN_BY_WITH:
        # a graph names these only as `prim::Enter`, so its walk does not see what they call
        for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
            if not _dotted(call.func).startswith("torch."):
                raise _refused(file, f"its function {node.name} calls {ast.unparse(call.func)}")


def _check_literal(file: Path, node: ast.expr, what: str) -> None:
    """Refuse a value that PyTorch would have to compute while it loads."""
    for inner in ast.walk(node):
        called = _dotted(inner.func) if isinstance(inner, ast.Call) else "int"
        if isinstance(inner, ast.expr) and not (
            isinstance(inner, LITERALS) and called in LITERAL_CALLS
        ):
            raise _refused(file, f"{what} is computed as the file loads: {ast.unparse(node)[:60]}")


def _check_graphs(file: Path, module: nn.Module) -> None:
    for part in module.modules():
        compiled: Any = part._c
        if compiled._get_forward_hooks() or compiled._get_forward_pre_hooks():
            raise _refused(file, "it has hooks")
        for name in compiled._method_names():
            graph = compiled._get_method(name).graph.copy()
            torch._C._jit_pass_inline(graph)
            for node in _nodes(graph):
                if not computes_in_script(node.kind(), _overload(node)):
                    raise _refused(file, f"its method {name} uses {node.kind()}")


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _overload(node: Any) -> str:
    schema = node.schema()  # such as `aten::add.Tensor(Tensor self, ...) -> Tensor`
    name, _, _ = schema.partition("(")
    return "" if schema == "(no schema)" else name.partition(".")[2]


def _refused(file: Path, reason: str) -> DataError:
    return DataError(
        f"load_model: {file} is refused: {reason}. Only scripts that compute with tensors and run "
        "nothing as they load are opened. Export the network with `torch.export`, or give it as "
        "`module:callable`."
    )
