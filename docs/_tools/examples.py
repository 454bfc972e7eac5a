"""For mkdocstrings, which reads the source: what docstrings get or mean when the package runs."""

import inspect
import re

import griffe

__all__ = ["Docstrings"]


class Docstrings(griffe.Extension):
    """Renders `Example:` as griffe reads it, and the docstrings of attacks complete.

    griffe sees doctests under `Examples:` only. An attack's own docstring lacks the arguments that
    all attacks share, which its decorator adds.
    """

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Change the docstring of one object, if it has any."""
        if obj.docstring is None:
            return
        if obj.is_function and any(
            d.callable_path.endswith((".attack", ".described")) for d in obj.decorators
        ):
            obj.docstring.value = inspect.getdoc(griffe.dynamic_import(obj.path)) or ""
        obj.docstring.value = re.sub(
            r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
        )
