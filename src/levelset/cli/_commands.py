"""The commands by name, and their first lines: read without importing what they need.

A command's file imports nothing slow at its top: it reaches the library through the lazy names of
`levelset`, and torch inside the functions that compute. So `levelset COMMAND --help` is quick.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["COMMANDS", "command_class", "first_lines"]

COMMANDS = ("audit", "train", "compare", "attack", "section", "explain", "reconstruct", "demo")
"""The commands: `NameCommand` in `levelset.cli._name` is the class of each."""


def command_class(name: str) -> Any:
    """Import the class of a command: a dataclass of its options with a method `execute`."""
    return getattr(import_module(f"levelset.cli._{name}"), f"{name.capitalize()}Command")


def first_lines() -> dict[str, str]:
    """Return the first line of each command's docstring, by parsing its file."""
    return {name: _first_line(name) for name in COMMANDS}


def _first_line(name: str) -> str:
    source = Path(__file__).with_name(f"_{name}.py").read_text(encoding="utf-8")
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    text = next(ast.get_docstring(node) for node in classes if node.name.endswith("Command"))
    return (text or "").partition("\n")[0]
