import pytest

from levelset._tools.specs import arguments_of, split_spec
from levelset.errors import DataError


def test_names_and_brackets_are_split():
    assert split_spec("fc(784, 10)") == ("fc", "784, 10")
    assert split_spec(" convnet-4a ") == ("convnet_4a", "")
    assert split_spec("a(b) c") == ("", "")
    assert split_spec("3d") == ("", "")


def test_arguments_are_literals():
    assert arguments_of("f", "f(1, a='x')", "1, a='x'") == ([1], {"a": "x"})
    for written in ("open('x')", "1)(2", "a=", "*[1]"):
        with pytest.raises(DataError, match=r"f: the arguments of .* must be plain literals"):
            arguments_of("f", f"g({written})", written)
