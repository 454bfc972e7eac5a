"""The two kinds of text in an exported program that PyTorch runs as Python: sizes and guards.

PyTorch hands sizes (`expr_str`) to sympy's `sympify`, which evaluates them, and executes guards
(`guards_code`). Both are parsed, never run, and must be made of the few parts that its exporter
writes.
"""

import ast
import re

__all__ = ["check_guard", "check_size_formula"]

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
    for keyword in node.keywords:
        value = keyword.value
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
