"""The command line: one file a command; each loads, calls the library once, and writes."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from levelset.cli._attack import Attack
from levelset.cli._audit import Audit
from levelset.cli._demo import Demo
from levelset.cli._reconstruct import Reconstruct
from levelset.cli._train import Train
from levelset.errors import LevelSetError

__all__ = ["main"]

Command = (
    Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Attack, tyro.conf.subcommand("attack")]
    | Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `levelset`; `None` for those of the process.

    Returns:
        0 if all went well, 1 after an error that the message explains, 130 after Ctrl-C. Usage
        errors exit with 2.
    """
    command = tyro.cli(
        Command,
        prog="levelset",
        description="Sample, steer and measure the level sets of neural networks.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    console = Console(stderr=True)
    try:
        command.run()
    except LevelSetError as error:
        console.print(Text(f"levelset: {error}", style="red"), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("levelset: stopped. What is on disk is whole; --resume goes on.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
