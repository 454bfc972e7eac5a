"""For mkdocstrings: lets docstrings say `Example:`, as those of this project do."""

import re

import griffe

__all__ = ["Examples"]


class Examples(griffe.Extension):
    """Turns each `Example:` into `Examples:`, the one heading under which griffe sees doctests."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rename the heading in the docstring of one object, if it has both."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )
