"""How the results of a page were made: command, date, settings and versions of a run."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from levelset._tools.arguments import checked
from levelset._tools.stores import store_of
from levelset.errors import ParameterError, RunError
from levelset.report._write import Section

__all__ = ["about", "subtitle"]

UNKNOWN = "not recorded"
LONGEST_LIST = 20

_WORDS = {
    "command": "Command",
    "date": "Date",
    "effort": "Effort",
    "measures": "Measures",
    "norms": "Norms",
    "seed": "Seed",
    "levelset": "levelset",
    "torch": "PyTorch",
    "python": "Python",
    "machine": "Processor",
    "device": "Device",
    "threads": "Threads",
    "model": "Fingerprint of the model",
    "data": "Fingerprint of the data",
}
"""What a manifest says, in the order of the page; further settings follow by their own names."""


@checked
def about(runs: Mapping[str, str | Path]) -> Section:
    """Return the section that says how audits were made: command, date, settings, versions.

    Args:
        runs: Folders of audits by their names on the page. What a folder's
            `manifest.json` does not say, or where it cannot be read, the section says so.

    Returns:
        A section of what [`write`][levelset.report.write] takes.

    Raises:
        ParameterError: If there is no folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from levelset import report
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "manifest.json").write_text('{"options": {"effort": "quick"}}')
        >>> report.about({"mine": folder}).content["mine"][2]
        'quick'
    """
    if not runs:
        message = "report.about: `runs` must name at least one folder of an audit, got none."
        raise ParameterError(message)
    facts = {name: _facts(folder) for name, folder in runs.items()}
    further = [key for known in facts.values() for key in known if key not in _WORDS]
    keys = [*_WORDS, *dict.fromkeys(further)]
    table: dict[str, list[str]] = {"setting": [_WORDS.get(k, _plain(k)) for k in keys]}
    for name, known in facts.items():
        table[name] = [known.get(key, UNKNOWN) for key in keys]
    bare = [
        f"“{name}” has no readable manifest.json." for name, known in facts.items() if not known
    ]
    return Section("About this run", "\n\n".join(bare), table)


@checked
def subtitle(folder: str | Path) -> str:
    """Return date, effort and version of an audit on one line, of what its manifest says."""
    known = _facts(folder)
    effort = [f"effort {known['effort']}"] if "effort" in known else []
    version = [f"levelset {known['levelset']}"] if "levelset" in known else []
    return " · ".join([*([known["date"]] if "date" in known else []), *effort, *version])


def _facts(folder: str | Path) -> dict[str, str]:
    """Return what a manifest says, as text; nothing where there is none."""
    try:
        content = json.loads(store_of("report", folder).read("manifest.json").decode("utf-8"))
    except (OSError, ValueError, RecursionError, RunError):
        return {}
    if not isinstance(content, dict):
        return {}
    options = content.pop("options", {})
    flat = {**content, **(options if isinstance(options, dict) else {})}
    return {key: _text(key, value) for key, value in flat.items()}


def _text(key: str, value: Any) -> str:
    if key == "date":
        return _date(value)
    if isinstance(value, list):
        shown = [str(item) for item in value[:LONGEST_LIST]]
        left = len(value) - len(shown)
        return ", ".join(shown) + (f" and {left:,} more" if left else "") if shown else "none"
    return "none" if value is None else str(value)


def _date(value: Any) -> str:
    """Return an ISO date as `28 November 2026, 19:24 UTC`, other text as it stands."""
    try:
        date = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return str(value)
    zone = f" {date.tzname()}" if date.tzname() else ""
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}, {date:%H:%M}{zone}"


# Not those of the locale: the bytes of a page depend on the run alone.
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def _plain(key: str) -> str:
    return key.replace("_", " ").capitalize()
