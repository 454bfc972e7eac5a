"""The command line: one file a command; each loads, calls the library once, and writes.

Words are checked, and help is shown, before torch is imported: see `_commands`.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Any

import levelset
from levelset.cli._commands import COMMANDS, command_class, first_lines
from levelset.cli._signals import stopped, stopping
from levelset.cli._threads import wait_passively
from levelset.cli._words import UsageError, check_words, closest
from levelset.errors import LevelSetError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `levelset`; `None` for those of the process.

    Returns:
        0 if all went well, 1 after an error that the message explains, 130 after Ctrl-C, 143 after
        SIGTERM. Wrong words exit with 2.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    command: Any = None
    with stopping(owner=arguments is None) as stop:
        try:
            command = _understand(words)
            if command is not None:
                command.execute()
        except UsageError as error:
            _say(f"levelset: {error}")
            raise SystemExit(2) from None
        except LevelSetError as error:
            _say(f"levelset: {error}")
            return 1
        except KeyboardInterrupt:
            stopped(resumable=hasattr(command, "resume"))
            return stop.code or 128 + signal.SIGINT
    return stop.code  # a fit that was stopped returns what it has


def _understand(words: list[str]) -> Any:
    """Return the command with its options; `None` where the words only ask for help."""
    name = words[0] if words else ""
    if name in ("-h", "--help", "help"):
        print(_help())  # noqa: T201
        return None
    if name == "--version":
        print(f"levelset {levelset.__version__}")  # noqa: T201
        return None
    if not name:
        _say(_help())
        raise SystemExit(2)
    if name not in COMMANDS:
        kind, known = "command", list(COMMANDS)
        if name.startswith("-"):
            kind, known = "option", ["--help", "--version"]
        message = f"there is no {kind} {name}.{closest(name, known)} `levelset --help` lists them."
        raise UsageError(message)
    wait_passively()  # before torch is imported
    kind = command_class(name)
    answer = kind.answer(words[1:]) if hasattr(kind, "answer") else None
    if answer is not None:
        print(answer)  # noqa: T201
        return None
    return _parse(f"levelset {name}", kind, check_words(name, kind, words[1:]))


def _parse(prog: str, command: type, words: list[str]) -> Any:
    """Return the command with its options, or exit: with 2 for wrong ones, 0 after `--help`."""
    import tyro

    return tyro.cli(command, prog=prog, args=words, config=(tyro.conf.FlagCreatePairsOff,))


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {line}" for name, line in first_lines().items())
    return (
        "usage: levelset COMMAND [OPTIONS]\n\n"
        "Sample, steer and measure the level sets of neural networks.\n\n"
        f"commands:\n{rows}\n\n"
        "options:\n  --help     show this list\n  --version  show the version\n\n"
        "`levelset COMMAND --help` shows the options of a command."
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
