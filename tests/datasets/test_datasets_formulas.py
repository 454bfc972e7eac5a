"""The text of exported programs that PyTorch runs as Python."""

import pytest

from levelset.datasets._grammar import check_guard, check_size_formula

S = "Symbol('s77', positive=True, integer=True)"


@pytest.mark.parametrize(
    "text",
    [
        S, "s0", "u3", "12", "-3", "2*s39", "s0 + 1", "s0**2", "s0 // 2", "s0 % 4", "(s0 - 1)/2",
        "Max(1, s0 - 3)", f"Mul(Integer(3), {S}, Pow({S}, Integer(2)))", f"Pow({S}, Integer(-1))",
        f"Min(Integer(8), Mul(Integer(8), {S}))", f"FloorDiv(Add({S}, Integer(-3)), Integer(2))",
        f"Piecewise(ExprCondPair(Integer(1), Eq({S}, Integer(2))), ExprCondPair({S}, true))",
        f"And(Eq({S}, Integer(2)), Not(Lt({S}, Integer(3))))", "Float('1.5', precision=53)",
        "Rational(1, 2)", "s0 >= 2", "not s0 < 3", "int_oo", "True",
    ],
)  # fmt: skip
def test_sizes_as_exporters_write_them_pass(text):
    check_size_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "print(1)", "__import__('os')", "s0.real", "s0[0]", "'s0'", "lambda: 1", "[s0]", "{1}",
        "f''", "s0 if 1 else 2", "(s0 := 3)", "Symbol('a b')", "Symbol('s0', commutative=print(1))",
        "Symbol('s0', x=99999)", "Integer('__import__')", "Float('1' * 9)", "s0**17", "s0**s1",
        "(s0**16)**16", "Pow(Pow(s0, 2), 2)", "LShift(1, 64)", "9**9**9", str(2**64), "1e400", "N",
        "S", "sqrt(s0)", "Function('f')", "s0 @ s0", "s0 << 9", "s0 in s0", "s0 is s0", "Max(*s0)",
        "Max(s0, key=1)", "é1", "s0\n+", "", "1j", "b''", "...", "s" * 30_000,
    ],
)  # fmt: skip
def test_other_sizes_do_not(text):
    with pytest.raises((ValueError, SyntaxError)):
        check_size_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].size()[1] == 7", "L['x'].size()[3] >= 3", "L['args'][0].size()[0] <= 64",
        "L['x']['mask'].size()[0] == L['x']['ids'].size()[0]",
        "(1 + ((-3) + L['x'].size()[3]) // 2) != 1",
        "max(1, L['x'].stride()[0]) < 5 and not L['x'].storage_offset() > 0", "L['k'] == 3",
        "math.floor(L['x'].size()[0] / 2) >= 1", "L['x'].size()[0]**2 % 8 == 0",
    ],
)  # fmt: skip
def test_guards_as_exporters_write_them_pass(text):
    check_guard(text)


@pytest.mark.parametrize(
    "text",
    [
        "print(1)", "L['x'].numpy()", "L['x'].size().__class__", "L[\"x\"].size()[0] == 1", "x",
        "L",
        "L.__class__", "M['x'].size()[0] == 1", "L['x y'].size()[0] == 1", "L[0.5].size()[0] == 1",
        "L['x'].size(0)[0]", "L['x'].size()[print(1)]", "L[print(1)]", "eval('1')", "math.inf()",
        "math.__class__", "[1]", "(lambda: 1)()", "L['x'].size()[0] == 1\n", "L['x'] == 'y'",
        "L['x'].storage_offset(1)", "max(1, key=print)", "max(*L['x'])", "L['\\x41']", "open(1)",
    ],
)  # fmt: skip
def test_other_guards_do_not(text):
    with pytest.raises((ValueError, SyntaxError)):
        check_guard(text)
