"""The files of a run: in a folder of this machine, or at an address that fsspec knows."""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import fsspec

from levelset._tools.files import make_folder, remove_leftovers, write_whole
from levelset._tools.locks import sole_user
from levelset.errors import ParameterError, RunError

__all__ = ["Address", "Local", "Store", "is_address", "store_of"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Addresses of this machine's own files.
_OWN = ("file://", "local://")


@runtime_checkable
class Store(Protocol):
    """Keeps files by their names, as `measurements/part-00000.parquet`; prints as its address."""

    @property
    def name(self) -> str:
        """The last word of the address."""

    def prepare(self, folders: Iterable[str]) -> None:
        """Make folders within it, and remove what a killed run left there half written."""

    def has(self, name: str) -> bool:
        """Return whether there is a file."""

    def read(self, name: str) -> bytes:
        """Return the content of a file, or raise an `OSError`."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, or raise a `RunError`."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, in order, but those that begin with a dot."""

    def sole_user(self, function: str) -> AbstractContextManager[None]:
        """Keep other processes out while the block runs."""

    def file(self, name: str) -> AbstractContextManager[Path]:
        """Give a path to write a file to, which is in its place when the block ends."""


def is_address(out: str | Path) -> bool:
    """Return whether files go through fsspec, and not to a folder of this machine."""
    return bool(_SCHEME.match(str(out))) and not str(out).startswith(_OWN)


def store_of(function: str, out: str | Path, *, argument: str = "out") -> Store:
    """Return the store at a path, or at an address such as `s3://bucket/run`.

    Args:
        function: Name of the public function at work, for messages.
        out: Where.
        argument: What the caller calls it.

    Raises:
        ParameterError: If nothing installed knows addresses of this kind.
    """
    if not is_address(out):
        text = str(out)
        own = next((scheme for scheme in _OWN if text.startswith(scheme)), "")
        return Local(Path(text.removeprefix(own)) if own else Path(out))
    try:
        system, root = fsspec.core.url_to_fs(str(out))
    except (ValueError, ImportError) as error:
        message = (
            f"{function}: `{argument}` must be a folder, or an address that fsspec knows, got "
            f"{out!r}: {error}. Install what that names, or choose a folder."
        )
        raise ParameterError(message) from error
    return Address(system, root.rstrip("/"), str(out).rstrip("/"))


@dataclass(frozen=True)
class Local:
    """A folder of this machine.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    def __str__(self) -> str:
        """Return the path."""
        return str(self.folder)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    def prepare(self, folders: Iterable[str]) -> None:
        """Make folders within it, and remove what a killed run left there half written."""
        for folder in folders:
            make_folder(self.folder / folder)
            remove_leftovers(self.folder / folder)

    def has(self, name: str) -> bool:
        """Return whether there is a file."""
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes:
        """Return the content of a file, or raise an `OSError`."""
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file under another name, and rename it."""
        write_whole(self.folder / name, lambda partial: partial.write_bytes(content))

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, in order, but those that begin with a dot."""
        paths = (self.folder / folder).glob("*")
        return sorted(path.name for path in paths if not path.name.startswith("."))

    def sole_user(self, function: str) -> AbstractContextManager[None]:
        """Keep other processes out, by a lock in the folder."""
        return sole_user(function, self.folder)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give the path of a file."""
        yield self.folder / name


@dataclass(frozen=True)
class Address:
    """A place that fsspec reads and writes: a bucket, a server, memory.

    A file is handed over as a whole. Object stores show it when it is there as a whole; on servers
    that show parts, the checksum of a part tells that it is none.

    Attributes:
        system: The file system of fsspec.
        root: The path in it.
        address: What the user wrote.
    """

    system: Any
    root: str
    address: str

    def __str__(self) -> str:
        """Return the address."""
        return self.address

    @property
    def name(self) -> str:
        """The last word of the address."""
        return PurePosixPath(self.root).name

    def prepare(self, folders: Iterable[str]) -> None:
        """Make folders within it, where it knows folders."""
        for folder in folders:
            self._tried("makedirs", self._path(folder), exist_ok=True)

    def has(self, name: str) -> bool:
        """Return whether there is a file."""
        return bool(self._tried("isfile", self._path(name)))

    def read(self, name: str) -> bytes:
        """Return the content of a file, or raise an `OSError`."""
        return bytes(self._tried("cat_file", self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, as a whole where the place can."""
        try:
            self._tried("pipe_file", self._path(name), content)
        except OSError as error:
            message = (
                f"cannot write {self.address}/{name}: {error}. What was written before is whole; "
                "make room or choose another `out`, then resume."
            )
            raise RunError(message) from error

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, in order, but those that begin with a dot."""
        try:
            paths = self._tried("ls", self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = (PurePosixPath(path).name for path in paths)
        return sorted(name for name in names if not name.startswith("."))

    @contextmanager
    def sole_user(self, function: str) -> Iterator[None]:
        """Keep other processes of this machine out; those of others nobody can."""
        key = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"levelset-{key}"
        with sole_user(function, folder, name=self.address):
            yield

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a path on this machine, whose content is handed over when the block ends."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PurePosixPath(name).name
            yield path
            self.write(name, path.read_bytes())

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _tried(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system; what is no `OSError` says that nothing can be done.

        Raises:
            RunError: If it fails in a way of its own: no rights, no such bucket, no network.
        """
        try:
            return getattr(self.system, method)(*arguments, **options)
        except OSError:
            raise
        except Exception as error:  # each file system has errors of its own
            message = (
                f"cannot reach {self.address}: {type(error).__name__}: {error}. Check the address, "
                "and the rights that its package reads from the environment."
            )
            raise RunError(message) from error
