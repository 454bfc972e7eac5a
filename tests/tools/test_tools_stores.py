"""Files of a run in folders and at addresses: whole, listed, locked, and what is said otherwise."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from levelset._tools.stores import Address, Local, is_address, store_of
from levelset.errors import ParameterError, RunError


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store of each kind, empty."""
    out = {"folder": tmp_path / "run", "file": f"file://{tmp_path}/run", "memory": "memory://a/run"}
    yield store_of("audit", out[request.param])
    fsspec.filesystem("memory").store.clear()


def test_files_are_written_read_and_listed_by_their_names(store: Any) -> None:
    store.prepare(["", "parts"])
    assert not store.has("parts/b.bin")
    for name in ("parts/b.bin", "parts/a.bin", "parts/.hidden", "top.json"):
        store.write(name, name.encode())
    assert store.has("parts/b.bin")
    assert store.read("top.json") == b"top.json"
    assert store.names("parts") == ["a.bin", "b.bin"]
    assert store.name == "run"
    store.write("top.json", b"anew")
    assert store.read("top.json") == b"anew"
    with pytest.raises(OSError, match=r".*"):
        store.read("missing")
    assert store.names("nowhere") == []


def test_a_file_made_at_a_path_is_in_its_place_afterwards(store: Any) -> None:
    store.prepare([""])
    with store.file("page.html") as path:
        path.write_text("a page")
    assert store.read("page.html") == b"a page"


def test_one_user_at_a_time(store: Any) -> None:
    other = store_of("audit", str(store))
    with (
        store.sole_user("audit"),
        pytest.raises(RunError, match=r"audit: .*run is in use by process"),
        other.sole_user("audit"),
    ):
        pass
    with other.sole_user("audit"):
        pass


def test_what_is_an_address_and_what_a_path() -> None:
    for out in ("run", "/a/run", Path("a/run"), "C:/run", "file:///a/run"):
        assert not is_address(out)
        assert isinstance(store_of("audit", out), Local)
    assert store_of("audit", "file:///a/run") == Local(Path("/a/run"))
    assert isinstance(store_of("audit", "memory://a"), Address)


@pytest.mark.messages
def test_addresses_that_nothing_knows_and_places_that_refuse() -> None:
    with pytest.raises(ParameterError, match=r"`out` must be a folder.* got 'no-such://a': .*nown"):
        store_of("audit", "no-such://a")

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError("not yours") if "pipe" in options else KeyError("credentials")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    system = SimpleNamespace(isfile=refuse, pipe_file=full)
    store = Address(system, "bucket/run", "s3://bucket/run")
    with pytest.raises(RunError, match=r"cannot reach s3://bucket/run: KeyError: 'credentials'"):
        store.has("manifest.json")
    with pytest.raises(RunError, match=r"cannot write s3://bucket/run/a: .*No space left"):
        store.write("a", b"")
