"""What the documentation says is there, is there; what it shows runs; what is there, it tells.

The examples with prompts are run by `make doctest`.
"""

import doctest
import importlib
import re
import shlex
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import levelset
from levelset.auditing._measures import MEASURES
from levelset.cli import main
from levelset.cli._attack import AttackCommand
from levelset.cli._audit import AuditCommand
from levelset.cli._compare import CompareCommand
from levelset.cli._demo import DemoCommand
from levelset.cli._explain import ExplainCommand
from levelset.cli._options import Common
from levelset.cli._reconstruct import ReconstructCommand
from levelset.cli._section import SectionCommand
from levelset.cli._train import TrainCommand
from levelset.errors import LevelSetWarning

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
README = ROOT / "README.md"
COMMANDS = {
    "attack": AttackCommand,
    "audit": AuditCommand,
    "train": TrainCommand,
    "compare": CompareCommand,
    "explain": ExplainCommand,
    "reconstruct": ReconstructCommand,
    "section": SectionCommand,
    "demo": DemoCommand,
}
WITHOUT_DASHES = {"scans": "`SCAN`", "runs": "`RUN`"}
BLOCK = re.compile(r"^```([^\n]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ELSEWHERE = (
    "make ",
    "pip ",
    "python -m venv ",
    "ray ",
)  # what needs the network, or takes a minute
SMALLER = {
    "attack": {"--limit": "20"},
    "audit": {"--limit": "20"},
    "train": {"--limit": "64"},
    "reconstruct": {"--resolution": "48"},
    "section": {"--resolution": "48"},
}

pytestmark = pytest.mark.skipif(not PAGES, reason="the documentation is not in this copy")


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def shell_lines(page: Path) -> list[str]:
    lines = [line for kind, text in blocks(page) if kind == "sh" for line in text.splitlines()]
    return [line for line in lines if not line.startswith(ELSEWHERE)]


def api() -> str:
    return "\n".join(page.read_text() for page in PAGES if page.parent.name == "api")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_COMMANDS = [page for page in (README, *PAGES) if shell_lines(page)]


@pytest.mark.parametrize("page", [README, *PAGES], ids=name)
def test_every_block_is_of_a_kind_that_is_run_or_compiled(page):
    for kind, text in blocks(page):
        if kind == "python" and text.startswith(">>> "):
            assert text.endswith("\n\n"), "doctest needs an empty line before the closing fence"
        elif kind.startswith("python"):
            compile(text, str(page), "exec")
        else:
            assert kind == "sh"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_every_command_shown_is_understood(page, monkeypatch):
    understood = []
    for command in COMMANDS.values():
        monkeypatch.setattr(command, "execute", lambda self: understood.append(self))
    lines = [line for line in shell_lines(page) if line.startswith("levelset ")]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0
    assert len(understood) == len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_every_command_shown_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for kind, text in blocks(page):
        if kind.startswith("python title="):
            Path(kind.split('"')[1]).write_text(text, encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(examples).failed == 0
    for line in shell_lines(page):
        if not line.startswith("levelset demo"):  # half a minute, and tested with the commands
            run(shlex.split(line))
    for kind, text in blocks(page):
        if page == README and kind == "python" and not text.startswith(">>> "):
            exec(compile(text, str(page), "exec"), {})  # it needs no package that is not ours


def run(words):
    modules = {"python": [], "torchrun": ["-m", "torch.distributed.run"]}
    if words[0] in modules:
        command = [sys.executable, *modules[words[0]], *words[1:]]
        assert subprocess.run(command, check=False).returncode == 0
        return
    assert words[0] == "levelset"
    for option, value in SMALLER.get(words[1], {}).items():
        words += [] if option in words else [option, value]
    with warnings.catch_warnings():  # an audit of a few inputs has one part, for any workers
        warnings.filterwarnings("ignore", "audit: `workers` is", LevelSetWarning)
        assert main(words[1:]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_told_under_its_command(command):
    text = (ROOT / "docs" / "cli.md").read_text()
    shared, *sections = re.split(r"^## levelset ", text, flags=re.MULTILINE)
    section = next(part for part in sections if part.startswith(command))
    common = {field.name for field in fields(Common)}
    for field in fields(COMMANDS[command]):
        place = shared if field.name in common else section
        assert WITHOUT_DASHES.get(field.name, f"`--{field.name.replace('_', '-')}`") in place


def test_no_option_is_told_that_is_not_there():
    text = (ROOT / "docs" / "cli.md").read_text()
    known = {field.name for command in COMMANDS.values() for field in fields(command)}
    for option in re.findall(r"`--([a-z-]+)`", text):
        assert option == "help" or option.replace("-", "_") in known


def test_every_column_of_an_audit_is_told_and_no_other():
    text = (ROOT / "docs" / "formats.md").read_text()
    table = text.partition("## The columns of a row")[2].partition("\n## ")[0]
    model = torch.nn.Linear(2, 2)
    points, labels = torch.rand(1, 2), torch.tensor([0])
    found = levelset.audit(model, points, labels, measures=list(MEASURES), radius=0.3)
    first_cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    told = [column for cell in first_cells for column in re.findall(r"`([\w.]+)`", cell)]
    assert sorted(told) == sorted(found.columns)
    for measure in MEASURES:
        assert f"`{measure}`" in table


def test_every_public_name_has_its_place_in_the_reference():
    families = re.findall(r"^::: (levelset\.[a-z]+)$", api(), re.MULTILINE)
    told = set(re.findall(r"^::: levelset\.(\w+)$", api(), re.MULTILINE))
    for family in families:
        module = importlib.import_module(family) if family[9:] not in levelset.__all__ else None
        told |= set(getattr(module, "__all__", ()))
    assert set(levelset.__all__) <= told


def test_every_public_module_has_its_page():
    packages = {path.parent.name for path in (ROOT / "src" / "levelset").glob("[a-z]*/__init__.py")}
    modules = {path.stem for path in (ROOT / "src" / "levelset").glob("[a-z]*.py")}
    for module in (packages | modules) - {"cli"}:
        assert f"::: levelset.{module}\n" in api()
