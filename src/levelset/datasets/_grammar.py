"""What the JSON of an exported program may hold, so that PyTorch turns none of its words into code.

PyTorch writes a Python function with the names in this JSON and executes it, evaluates sizes and
guards, and looks operators up by their names. Here every word is an identifier, an operator that
computes or a formula of sizes, every number a number, and every field known. What is not needed to
compute (stack traces, sources) is dropped.

PyTorch hands sizes (`expr_str`) to sympy's `sympify`, which evaluates them, and executes guards
(`guards_code`). Both are parsed, never run, and must be made of the few parts that its exporter
writes.

A check takes a value and where it stands, and returns the value, or raises `UnfitError`.
"""

import ast
import json
import keyword
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from levelset.datasets._operators import computes_in_python

__all__ = [
    "UnfitError",
    "check_guard",
    "check_payload",
    "check_program",
    "check_size_formula",
    "is_identifier",
]

LONGEST = 20_000  # characters
LARGEST_POWER = 16
SYMBOL = re.compile(r"[a-z]{1,8}\d{1,6}", re.ASCII)
KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
DECIMAL = re.compile(r"-?\d{1,20}(\.\d{0,40})?(e[-+]?\d{1,3})?", re.ASCII)
NUMBERS = ("Float", "Integer", "Rational")
POWERS = ("FloatPow", "LShift", "Pow", "PowByNatural", "RShift")
FUNCTIONS = frozenset(
    """Abs Add And CeilDiv CeilToInt CleanDiv Eq Equality ExprCondPair FloatTrueDiv FloorDiv
    FloorToInt Ge GreaterThan Gt Identity IntTrueDiv IsNonOverlappingAndDenseIndicator Le
    LessThan Lt Max Min Mod ModularIndexing Mul Ne Not Or Piecewise PythonMod RoundToInt
    StrictGreaterThan StrictLessThan ToFloat TruncToFloat TruncToInt Unequality Where ceiling
    floor""".split()
).union(POWERS)
NAMES = ("false", "int_oo", "oo", "true")
OPERATORS = (
    ast.Add, ast.And, ast.Div, ast.Eq, ast.FloorDiv, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Mod,
    ast.Mult, ast.Not, ast.NotEq, ast.Or, ast.Pow, ast.Sub, ast.UAdd, ast.USub,
)  # fmt: skip
COMPOUND = (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp)
GUARD_CALLS = frozenset(
    {"abs", "bool", "float", "int", "math.ceil", "math.floor", "math.trunc", "max", "min", "round"}
)


def check_size_formula(text: str) -> None:
    """Raise `ValueError` unless a text is numbers, symbols and arithmetic, as sympy prints them."""
    _check_size(_parsed(text), False)


def check_guard(text: str) -> None:
    """Raise `ValueError` unless a text compares sizes of inputs: `L['x'].size()[0] >= 2`."""
    tree = _parsed(text)
    if "\n" in text or '"' in text or "\\" in text:
        raise ValueError("more than one line, or quotes")
    _check_guard(tree)


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST or not text.isascii():
        raise ValueError("too long, or not ASCII")
    return ast.parse(text, mode="eval").body


def _check_size(node: ast.AST, below_power: bool) -> None:
    """Check a part; powers do not nest, so that no number grows beyond memory."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            _check_number(value)
        case ast.Name(id=name):
            _require(name in NAMES or SYMBOL.fullmatch(name) is not None, node)
        case ast.Call(func=ast.Name(id=name)):
            _check_call(node, name, below_power)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            _check_power(node, [left, right], below_power)
            _check_size(left, True)
        case ast.Tuple(elts=pieces):  # of a Piecewise
            for piece in pieces:
                _check_size(piece, below_power)
        case _ if isinstance(node, COMPOUND):
            for part in ast.iter_child_nodes(node):
                if not isinstance(part, OPERATORS):
                    _check_size(part, below_power)
        case _:
            raise _unknown(node)


def _check_call(node: ast.Call, name: str, below_power: bool) -> None:
    """Check `Symbol('s0', integer=True)`, `Integer(2)` or `Max(...)`, as `srepr` writes them."""
    if name in FUNCTIONS:
        _require(not node.keywords, node)
        if name in POWERS:
            _check_power(node, node.args, below_power)
        for argument in node.args:
            _check_size(argument, below_power or name in POWERS)
        return
    _check_assumptions(node)
    if name == "Symbol" and len(node.args) == 1:
        argument = node.args[0]
        text = argument.value if isinstance(argument, ast.Constant) else None
        _require(isinstance(text, str) and SYMBOL.fullmatch(text) is not None, node)
        return
    _require(name in NUMBERS, node)
    for argument in node.args:
        _check_literal(argument)


def _check_power(node: ast.AST, args: list[ast.expr], below_power: bool) -> None:
    _require(not below_power and len(args) == 2, node)
    exponent = args[1]
    if isinstance(exponent, ast.Call):
        _require(ast.unparse(exponent.func) == "Integer" and len(exponent.args) == 1, node)
        exponent = exponent.args[0]
    _require(abs(_literal(exponent)) <= LARGEST_POWER, node)


def _check_assumptions(node: ast.Call) -> None:
    for assumption in node.keywords:
        value = assumption.value
        _require(isinstance(value, ast.Constant) and isinstance(value.value, int), node)
        _require(abs(value.value) <= 1000, node)  # type: ignore[attr-defined]


def _check_literal(node: ast.expr) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        _require(DECIMAL.fullmatch(node.value) is not None, node)
    else:
        _check_number(_literal(node))


def _literal(node: ast.expr) -> int | float:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    if not isinstance(inner, ast.Constant) or not isinstance(inner.value, int | float):
        raise _unknown(node)
    return -inner.value if negative else inner.value


def _check_number(value: int | float) -> None:
    if not abs(value) < 2**64:
        raise ValueError("a number beyond 64 bits")


def _check_guard(node: ast.AST) -> None:
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            _check_number(value)
        case ast.Call(func=function, args=args, keywords=[]) if (
            ast.unparse(function) in GUARD_CALLS
        ):
            for argument in args:
                _check_guard(argument)
        case ast.Call(
            func=ast.Attribute(value=source, attr="storage_offset"), args=[], keywords=[]
        ):
            _check_source(source)
        case ast.Subscript(value=ast.Call(func=ast.Attribute() as method, args=[], keywords=[])):
            _require(method.attr in ("size", "stride"), node)
            _require(isinstance(node.slice, ast.Constant), node)
            _require(isinstance(node.slice.value, int), node)  # type: ignore[attr-defined]
            _check_source(method.value)
        case ast.Subscript():
            _check_source(node)
        case _ if isinstance(node, COMPOUND):
            for part in ast.iter_child_nodes(node):
                if not isinstance(part, OPERATORS):
                    _check_guard(part)
        case _:
            raise _unknown(node)


def _check_source(node: ast.expr) -> None:
    """Check that a part is one of the inputs, such as `L['x']` or `L['args'][0]['y']`."""
    while isinstance(node, ast.Subscript):
        key = node.slice
        _require(isinstance(key, ast.Constant), node)
        value = key.value  # type: ignore[attr-defined]
        _require(type(value) is int or (type(value) is str and bool(KEY.fullmatch(value))), node)
        node = node.value
    _require(isinstance(node, ast.Name) and node.id == "L", node)


def _require(holds: bool, node: ast.AST) -> None:
    if not holds:
        raise _unknown(node)


def _unknown(node: ast.AST) -> ValueError:
    return ValueError(f"{type(node).__name__}: {ast.unparse(node)[:80]}")


MAJOR = 8  # the schema's: raised when PyTorch changes the meaning of a field
IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,300}", re.ASCII)
PATH = re.compile(r"(?!__)\w{1,200}(\.(?!__)\w{1,200})*", re.ASCII)  # of a parameter: `0.weight`
SYMBOLIC = re.compile(r"(zuf|u)(\d+)", re.ASCII)
DEVICE = re.compile(r"cpu|cuda|mps|xpu|meta", re.ASCII)
FILE = re.compile(r"(weight|tensor)_\d{1,9}", re.ASCII)
NONFINITE = ("Infinity", "-Infinity", "NaN")
CONTAINERS = ("builtins.dict", "builtins.list", "builtins.tuple", "collections.OrderedDict")

Check: TypeAlias = Callable[[Any, str], Any]


class UnfitError(ValueError):
    """A value that an exported network of plain tensors does not hold."""


def is_identifier(value: object) -> bool:
    """Tell whether a value is a name that Python allows for a variable, in ASCII."""
    return (
        isinstance(value, str)
        and IDENTIFIER.fullmatch(value) is not None
        and not keyword.iskeyword(value)
    )


def _need(holds: bool, value: object, where: str, wanted: str) -> None:
    if not holds:
        raise UnfitError(f"{where} must be {wanted}, got {str(value)[:80]!r}")


def _matching(pattern: re.Pattern[str], wanted: str) -> Check:
    def check(value: Any, where: str) -> Any:
        _need(isinstance(value, str) and bool(pattern.fullmatch(value)), value, where, wanted)
        return value

    return check


def _name(value: Any, where: str) -> Any:
    _need(is_identifier(value), value, where, "an identifier")
    return value


def _name_or_nothing(value: Any, where: str) -> Any:
    return value if value == "" else _name(value, where)


def _argument_name(value: Any, where: str) -> Any:
    # `from` is an argument of `aten.uniform`; PyTorch gives it by its place
    return value if value in ("", "from") else _name(value, where)


def _integer(value: Any, where: str) -> Any:
    _need(type(value) is int and abs(value) < 2**63, value, where, "an integer of 64 bits")
    return value


def _number(value: Any, where: str) -> Any:
    fine = type(value) in (int, float) or value in NONFINITE
    _need(fine, value, where, "a number")
    return value


def _flag(value: Any, where: str) -> Any:
    _need(type(value) is bool, value, where, "true or false")
    return value


def _text(value: Any, where: str) -> Any:
    fine = isinstance(value, str) and len(value) <= 1000 and value.isprintable()
    _need(fine, value, where, "a short text on one line")
    return value


def _operator(value: Any, where: str) -> Any:
    fine = isinstance(value, str) and computes_in_python(value)
    _need(fine, value, where, "an operator that computes with tensors")
    return value


def _formula(check_text: Callable[[str], None], wanted: str) -> Check:
    def check(value: Any, where: str) -> Any:
        _need(isinstance(value, str), value, where, wanted)
        try:
            check_text(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise UnfitError(f"{where} must be {wanted}, got {value[:80]!r} ({error})") from error
        return value

    return check


def _dropped(value: Any, where: str) -> Any:
    del value, where
    return {}


def _optional(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


def _many(check: Check) -> Check:
    def check_all(value: Any, where: str) -> Any:
        _need(isinstance(value, list), value, where, "a list")
        return [check(part, f"{where}[{index}]") for index, part in enumerate(value)]

    return check_all


def _table(key: Check, check: Check) -> Check:
    def check_all(value: Any, where: str) -> Any:
        _need(isinstance(value, dict), value, where, "an object")
        return {key(k, where): check(part, f"{where}.{k}") for k, part in value.items()}

    return check_all


def _record(**fields: Check) -> Check:
    """Return the check of an object with such fields, or fewer, and no others."""

    def check(value: Any, where: str) -> Any:
        _need(isinstance(value, dict), value, where, "an object")
        for name in value:
            _need(name in fields, name, where, f"made of known fields ({', '.join(fields)})")
        return {name: fields[name](part, f"{where}.{name}") for name, part in value.items()}

    return check


def _union(**kinds: Check) -> Check:
    """Return the check of an object with one of such fields."""
    either = _record(**kinds)

    def check(value: Any, where: str) -> Any:
        _need(isinstance(value, dict) and len(value) == 1, value, where, "an object of one field")
        return either(value, where)

    return check


def _graph(value: Any, where: str) -> Any:
    return _GRAPH(value, where)  # graphs hold arguments, and arguments graphs


def _tree(value: Any, where: str) -> Any:
    """Check how inputs or outputs nest, which is JSON in a string."""
    _need(isinstance(value, str), value, where, "JSON")
    version, root = json.loads(value)
    return json.dumps([_integer(version, where), _branch(root, where)])


def _branch(value: Any, where: str) -> Any:
    _need(isinstance(value, dict), value, where, "an object")
    kind, context = value.get("type"), value.get("context")
    _need(kind is None or kind in CONTAINERS, kind, where, f"of {', '.join(CONTAINERS)} alone")
    if kind is not None:
        keys = json.loads(context) if isinstance(context, str) else None
        fine = keys is None or (isinstance(keys, list) and all(map(is_identifier, keys)))
        _need(fine, context, where, "with identifiers as keys")
        context = json.dumps(keys)
    children = [_branch(child, where) for child in value.get("children_spec", ())]
    return {"type": kind, "context": context if kind else None, "children_spec": children}


def _range_name(value: Any, where: str) -> Any:
    _SIZE(value, where)
    symbol = SYMBOLIC.fullmatch(value)
    _need(symbol is None or int(symbol[2]) < 10_000, value, where, "a symbol of a small number")
    return value


_PATH = _matching(PATH, "the name of a parameter or buffer")
_SIZE = _formula(check_size_formula, "a formula of sizes")
_DEVICE = _record(type=_matching(DEVICE, "a device"), index=_optional(_integer))
_HINT = _optional(_union(as_int=_integer, as_bool=_flag, as_float=_number))
_EXPRESSION = _record(expr_str=_SIZE, hint=_HINT)
_SYM_INT = _union(as_expr=_EXPRESSION, as_int=_integer)
_TENSOR_META = _record(
    dtype=_integer, sizes=_many(_SYM_INT), requires_grad=_flag, device=_DEVICE,
    strides=_many(_SYM_INT), storage_offset=_SYM_INT, layout=_integer,
)  # fmt: skip
_TENSOR = _record(name=_name)
_INT = _union(as_name=_name, as_int=_integer)
_FLOAT = _union(as_name=_name, as_float=_number)
_BOOL = _union(as_name=_name, as_bool=_flag)
_MAYBE_TENSOR = _union(as_tensor=_TENSOR, as_none=_flag)
_VALUES: dict[str, Check] = {
    "as_none": _flag, "as_tensor": _TENSOR, "as_int": _integer, "as_float": _number,
    "as_bool": _flag, "as_sym_int": _INT, "as_sym_float": _FLOAT, "as_sym_bool": _BOOL,
}  # fmt: skip
# What goes in and comes out; a string among the inputs would be written into a guard as it stands.
_VALUE = _union(**_VALUES)


def _argument(value: Any, where: str) -> Any:
    return _ARGUMENT(value, where)


_ARGUMENT = _union(
    **_VALUES,
    as_tensors=_many(_TENSOR), as_ints=_many(_integer), as_floats=_many(_number),
    as_string=_text, as_strings=_many(_text), as_sym_ints=_many(_INT), as_scalar_type=_integer,
    as_memory_format=_integer, as_layout=_integer, as_device=_DEVICE, as_bools=_many(_flag),
    as_sym_bools=_many(_BOOL), as_graph=_record(name=_name, graph=_graph),
    as_optional_tensors=_many(_MAYBE_TENSOR), as_operator=_operator, as_sym_floats=_many(_FLOAT),
    as_optional_tensor=_MAYBE_TENSOR, as_complex=_record(real=_number, imag=_number),
    as_nested_tensors=_many(_many(_TENSOR)), as_int_lists=_many(_many(_integer)),
    as_float_lists=_many(_many(_number)), as_string_to_argument=_table(_name, _argument),
)  # fmt: skip
_NODE = _record(
    target=_operator, outputs=_many(_ARGUMENT), metadata=_dropped, name=_optional(_name_or_nothing),
    inputs=_many(_record(name=_argument_name, arg=_ARGUMENT, kind=_optional(_integer))),
    is_hop_single_tensor_return=_optional(_flag),
)  # fmt: skip
_NONE = _table(_name, lambda value, where: _need(False, value, where, "without custom objects"))
_GRAPH = _record(
    inputs=_many(_VALUE), outputs=_many(_VALUE), nodes=_many(_NODE),
    tensor_values=_table(_name, _TENSOR_META), sym_int_values=_table(_name, _SYM_INT),
    sym_bool_values=_table(_name, _union(as_expr=_EXPRESSION, as_bool=_flag)),
    sym_float_values=_table(_name, _union(as_expr=_EXPRESSION, as_float=_number)),
    is_single_tensor_return=_flag, custom_obj_values=_NONE,
)  # fmt: skip
_CONSTANT = _union(as_none=_flag, as_int=_integer, as_float=_number, as_bool=_flag)
_INPUT = _union(
    user_input=_record(arg=_VALUE), parameter=_record(arg=_TENSOR, parameter_name=_PATH),
    buffer=_record(arg=_TENSOR, buffer_name=_PATH, persistent=_flag),
    tensor_constant=_record(arg=_TENSOR, tensor_constant_name=_PATH),
    constant_input=_record(name=_name, value=_CONSTANT),
)  # fmt: skip
_OUTPUT = _union(
    user_output=_record(arg=_VALUE), loss_output=_record(arg=_TENSOR),
    buffer_mutation=_record(arg=_TENSOR, buffer_name=_PATH),
    parameter_mutation=_record(arg=_TENSOR, parameter_name=_PATH),
    user_input_mutation=_record(arg=_TENSOR, user_input_name=_name),
)  # fmt: skip
_CALL = _record(
    inputs=_many(_VALUE), outputs=_many(_VALUE), in_spec=_tree, out_spec=_tree,
    forward_arg_names=_optional(_many(_name)),
)  # fmt: skip
_CALLS = _many(_record(fqn=_matching(re.compile(""), "empty"), signature=_CALL))


def _root_call(value: Any, where: str) -> Any:
    """Check the call of the network; those of its parts, which come after, are not needed."""
    _need(isinstance(value, list) and len(value) > 0, value, where, "a list that is not empty")
    return _CALLS(value[:1], where)


_PROGRAM = _record(
    graph_module=_record(
        graph=_GRAPH,
        signature=_record(input_specs=_many(_INPUT), output_specs=_many(_OUTPUT)),
        module_call_graph=_root_call, metadata=_dropped, treespec_namedtuple_fields=_dropped,
    ),
    opset_version=_table(_name, _integer),
    range_constraints=_table(
        _range_name, _record(min_val=_optional(_integer), max_val=_optional(_integer))
    ),
    schema_version=_record(major=_integer, minor=_integer),
    verifiers=_many(_name), torch_version=_text,
    guards_code=_many(_formula(check_guard, "a comparison of sizes of the inputs")),
)  # fmt: skip
_PAYLOAD = _record(
    config=_table(
        _PATH,
        _record(
            path_name=_matching(FILE, "a weight or a tensor, not an object"), is_param=_flag,
            use_pickle=_flag, tensor_meta=_optional(_TENSOR_META),
        ),
    )
)  # fmt: skip


def check_program(content: bytes) -> bytes:
    """Return the checked part of an exported program's JSON that computes.

    Raises:
        UnfitError: If it holds what an exported network of plain tensors does not, or is of another
            version of the schema.
    """
    program = json.loads(content)
    version = program["schema_version"]["major"]
    if version != MAJOR:
        raise UnfitError(f"its schema must be of version {MAJOR}, got {version}: export it again")
    return json.dumps(_PROGRAM(program, "model.json")).encode()


def check_payload(content: bytes, where: str) -> bytes:
    """Return the JSON that lists tensors of an exported program and their files, checked.

    Raises:
        UnfitError: If one is a pickled object.
    """
    payload = _PAYLOAD(json.loads(content), where)
    for name, entry in payload.get("config", {}).items():
        _need(entry.get("use_pickle") is False, name, where, "without pickled objects")
    return json.dumps(payload).encode()
