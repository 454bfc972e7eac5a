"""Where the examples of the pages run: in an empty folder, with the files that they show."""

import re
from pathlib import Path

import pytest

FILE = re.compile(r'^```python title="([\w.]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def _empty_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a page in a folder of its own that holds the files whose content the page gives."""
    for name, content in FILE.findall(request.path.read_text(encoding="utf-8")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
