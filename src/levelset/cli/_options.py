"""Options that every command has, what they turn into, and how a summary is printed."""

import math
import os
import shlex
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import levelset
from levelset.cli._words import check_name, count
from levelset.errors import ParameterError, RunError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from levelset._tools.stores import Store
    from levelset.datasets import Images
    from levelset.datasets._images import Split

__all__ = [
    "NORMS",
    "Common",
    "Placed",
    "check_file",
    "check_folder",
    "load_model",
    "now",
    "read_images",
    "show",
    "usable_store",
]

_ALSO = ", a path, or module:callable"

NORMS = {"0": 0.0, "1": 1.0, "2": 2.0, "inf": math.inf}


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    seed: int = 0
    """The seed of everything random."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    batch_size: int | None = count(None)
    """Most inputs an evaluation; by default the number that runs fastest on the device."""
    threads: int | None = count(None)
    """Processor threads; by default as many as the network keeps busy."""
    json: bool = False
    """Print the summary as JSON instead of a table."""

    def command(self) -> str:
        """Return the words of this command, without options that have their default values."""
        words = ["levelset", type(self).__name__.removesuffix("Command").lower()]
        for one in fields(self):
            value = getattr(self, one.name)
            if value != one.default and one.name not in ("resume", "json"):
                values = value if isinstance(value, tuple) else () if value is True else (value,)
                words += ["--" + one.name.replace("_", "-"), *map(str, values)]
        return shlex.join(words)

    def note(self, run: str | Path, date: str) -> None:
        """Write command, date and number of threads into the manifest of an audit."""
        import torch

        notes = {"command": self.command(), "date": date, "threads": torch.get_num_threads()}
        store = levelset._tools.stores.store_of("audit", run)
        levelset.auditing._run.add_notes(store, notes)

    def generator(self) -> "torch.Generator":
        """Return the one generator of the run."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    def place(self) -> "torch.device":
        """Return the device, and set the number of threads and float32 to its full precision."""
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.backends.cudnn.allow_tf32 = False  # convolutions would keep 10 bits on a GPU
        try:
            return torch.empty(0, device=self.device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            message = f"--device {self.device} cannot be used: {reason}"
            raise ParameterError(message) from error


@dataclass(frozen=True, kw_only=True)
class Placed(Common):
    """Options of commands whose work is done in pieces, side by side."""

    engine: Literal["local", "ray"] = "local"
    """Where to compute: in processes on this machine, or on a Ray cluster (extra: ray)."""
    address: str | None = None
    """Of the cluster: auto, HOST:PORT or ray://HOST:PORT; without it Ray starts here."""
    workers: int | None = count(None)
    """How many parts are done at a time, each on one thread; by default one for each of --threads
    here, for each processor (or device) of a cluster."""

    def where(self) -> dict[str, Any]:
        """Return engine, workers and address as the functions take them."""
        return {"engine": self.engine, "workers": self.workers, "address": self.address}

    def where_words(self) -> str:
        """Return a line for the log that says where it computes."""
        if self.engine == "ray":
            return f"Computing on a Ray cluster: {self.address or 'here, unless one is in use'}."
        if self.device != "cpu":
            return f"Computing on {self.device}."
        import torch

        most = torch.get_num_threads() if self.workers is None else self.workers
        threads = "1 processor thread" if most == 1 else f"at most {most} processor threads"
        return f"On {threads}; --threads and --workers set another number."


def now() -> str:
    """Return date and time, as ISO 8601 writes them."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_model(spec: str, weights: Path | None) -> "nn.Module":
    """Return the model that `--model` names; a near miss of a name is pointed out."""
    if not Path(spec).exists():
        check_name("--model", spec, levelset.datasets._names.network_names(), _ALSO)
    return levelset.datasets.load_model(spec, weights)


def read_images(spec: str, *, split: "Split", limit: int | None = None) -> "Images":
    """Return the images that `--data` names; a near miss of a name is pointed out."""
    home = Path(os.environ.get("LEVELSET_DATA") or os.devnull).expanduser()
    if not Path(spec).exists():
        folders = [entry.name for entry in home.iterdir()] if home.is_dir() else []
        check_name("--data", spec, ["digits", *sorted(folders)], _ALSO)
    return levelset.datasets.read_images(spec, split=split, limit=limit)


def check_folder(folder: Path) -> None:
    """Refuse a folder for results that could not be written, before the work.

    Raises:
        RunError: If a file has its name, or the parent folder is read-only.
    """
    for place in (folder, *folder.absolute().parents):
        if place.is_dir():
            if os.access(place, os.W_OK | os.X_OK):
                return
            break
        if place.exists() or place.is_symlink():
            message = f"--out {folder}: {place} is a file, not a folder. Choose another --out."
            raise RunError(message)
    message = f"--out {folder}: the folder {place} cannot be written to. Choose another --out."
    raise RunError(message)


def usable_store(out: str) -> "Store":
    """Return where `--out` says that results go; refuse a folder that could not be written.

    Raises:
        ParameterError: If nothing installed knows such an address.
        RunError: If a file has its name, or the parent folder is read-only.
    """
    from levelset._tools.stores import Local, store_of

    store = store_of("audit", out)
    if isinstance(store, Local):
        check_folder(store.folder)
    return store


def check_file(path: Path) -> None:
    """Refuse a file for results that could not be written, before the work."""
    if path.is_dir():
        message = f"--out {path} is a folder. Give the file to write."
        raise RunError(message)
    check_folder(path.parent)


def show(summary: dict[str, int | float | str], *, json: bool) -> None:
    """Print a summary on standard output, as JSON or as two columns."""
    from rich.console import Console

    console = Console(file=sys.stdout)
    if json:
        console.print_json(data=summary)
        return
    width = max(map(len, summary), default=0)
    for key, value in summary.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        console.print(f"{key:<{width}}  {shown}", highlight=False, soft_wrap=True)
