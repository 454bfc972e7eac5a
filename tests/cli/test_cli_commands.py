"""Help and version: complete, and quick, for nothing slow is imported."""

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import levelset
from levelset.cli import main
from levelset.cli._commands import COMMANDS, command_class, first_lines

SLOW = ("torch", "numpy", "scipy", "sklearn", "pyarrow", "plotly", "matplotlib", "PIL", "jaxtyping")
# Seconds of CPU: half as much again as they shall take, for a slow machine.
MOST = {"--help": 0.75, "--version": 0.75} | {f"{name} --help": 1.5 for name in COMMANDS}

PROGRAM = """
import sys, time
from levelset.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    assert stopped.code == 0
print(time.process_time(), *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("words", MOST)
def test_help_is_quick_and_imports_nothing_slow(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()], capture_output=True, text=True, check=True
    )
    seconds, *modules = done.stderr.split()
    assert not set(SLOW) & set(modules)
    assert float(seconds) < MOST[words]
    assert len(done.stdout) > 10


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"levelset {version('levelset')}\n"
    assert levelset.__version__ == version("levelset")


def test_the_list_has_every_command_with_its_first_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in COMMANDS:
        text = inspect.getdoc(command_class(name)) or ""
        assert first_lines()[name] == text.splitlines()[0]
        assert f"{name} " in printed
        assert text.splitlines()[0] in printed
