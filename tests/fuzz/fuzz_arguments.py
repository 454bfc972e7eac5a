"""Wrong values for arguments of public functions: one at a time, and pairs of them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))

from test_arguments import WRONG, arguments_of, misuse
from valid_calls import CALLS


def targets(folder: Path) -> dict[str, Callable[[Random], object]]:
    """Return what is fuzzed, by name: each public callable that has a valid call."""
    os.chdir(folder)  # for what a text in place of a path makes a function write
    return {name: _target(name) for name in sorted(CALLS)}


def _target(name: str) -> Callable[[Random], object]:
    arguments = arguments_of(name)

    def target(random: Random) -> None:
        count = min(random.choice((1, 1, 2, 2, 3)), len(arguments))
        chosen = {a: random.choice(list(WRONG)) for a in random.sample(arguments, count)}
        trouble = misuse(CALLS[name], {a: WRONG[words]() for a, words in chosen.items()})
        if trouble:
            options = ", ".join(f"{a}={words}" for a, words in chosen.items())
            raise AssertionError(f"{name}({options}): {trouble}")

    return target
