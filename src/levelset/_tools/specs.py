"""A name with arguments, as `fc(784, 10)`, read without evaluating anything."""

import ast
import re
from typing import Any

from levelset.errors import DataError

__all__ = ["arguments_of", "split_spec"]


def split_spec(spec: str) -> tuple[str, str]:
    """Return the name, with `_` for `-`, and what stands in brackets; both may be empty."""
    match = re.fullmatch(r"\s*([A-Za-z][\w-]*)\s*(?:\((.*)\))?\s*", spec, re.DOTALL)
    return (match[1].replace("-", "_"), match[2] or "") if match else ("", "")


def arguments_of(function: str, spec: str, written: str) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and named arguments.

    Args:
        function: Name of the public function at work, for messages.
        spec: The whole text, for messages.
        written: What stands between its brackets.

    Raises:
        DataError: If these are not plain literals.
    """
    try:
        call = ast.parse(f"f({written}\n)", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a list of arguments")
        positional = [ast.literal_eval(argument) for argument in call.args]
        named = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, ValueError) as error:
        message = (
            f"{function}: the arguments of {spec!r} must be plain literals such as 32 or "
            f'head="relu", got ({written}).'
        )
        raise DataError(message) from error
    return positional, named
