"""What becomes of a run when things break: each fault injected many times at random moments.

A small audit in eight parts is broken, resumed and compared with an unbroken one, file by file. The
table says for each fault how often it was injected, how many rows were lost, doubled or differing
after the resume, how many files were left other than they should be, and the most parts that were
measured again: what was in hand of each worker is all that may be lost. The training is two
processes of `torch.distributed`, and is compared weight by weight.

    python benchmarks/faults.py [--times 20] [--slow-times 20] [--only kill ...] [--without Ray]

Faults of Ray and of trainings start processes each time, seconds long: `--slow-times` is for these.
"""

import argparse
import contextlib
import errno
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from torch import nn

from levelset import audit
from levelset._tools.engines import _pieces
from levelset.auditing import _work
from levelset.cli import main as levelset
from levelset.datasets import Images
from levelset.errors import LevelSetError, RunError
from levelset.losses import geometric_svm
from levelset.networks import fc
from levelset.training import initialise, train
from levelset.training._ranks import joined

# Forked processes have torch at hand, so that a fault falls into the run, not into imports.
FORK = multiprocessing.get_context("fork")
PARTS, ROWS = 8, 5
# Seconds that the model takes for a batch beside its work, so that there is something to break.
PAUSE = 0.002


class Outcome(NamedTuple):
    """What a trial ended in.

    Attributes:
        again: Parts that were measured more than once.
        as_asked: Whether what the run said or returned was what it should.
        counts: Rows lost, doubled and differing, and other files, where the trial resumed itself.
    """

    again: int = 0
    as_asked: bool = True
    counts: tuple[int, int, int, int] | None = None


class Slow(nn.Module):
    """A network that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.net = fc(6, 12, 3).eval()
        for parameter in self.net.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        time.sleep(PAUSE)
        return self.net(points)


POINTS = torch.rand(PARTS * ROWS, 6, generator=torch.Generator().manual_seed(1))


def measure(out: Path, *, seed: int = 0, **options: Any) -> None:
    """Audit the points, or go on with it."""
    model = Slow()
    labels = model(POINTS).argmax(1)
    settings: dict[str, Any] = {"norms": [2.0], "effort": "quick", "resume": True, "workers": 1}
    audit(model, POINTS, labels, out=out, seed=seed, **(settings | options))


@contextlib.contextmanager
def counted(log: Path) -> Iterator[None]:
    """Write a byte to a file for each part that is begun, in whichever process."""
    do = _work._Measuring.__call__

    def begin(self: Any, *arguments: Any) -> Any:
        with log.open("ab") as file:
            file.write(b".")
        return do(self, *arguments)

    _work._Measuring.__call__ = begin
    try:
        yield
    finally:
        _work._Measuring.__call__ = do


def quietly(job: Callable[[], Any]) -> Any:
    """Run a job in a forked process without its output, and end with its code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    warnings.simplefilter("ignore")
    try:
        code = job()
    except LevelSetError:
        code = 1
    os._exit(code or 0)


def forked(job: Callable[[], Any]) -> Any:
    process = FORK.Process(target=quietly, args=(job,))
    process.start()
    return process


def descendants(process: int) -> list[int]:
    """Return the processes that one has started, and those that they have."""
    below = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                below += [int(child), *descendants(int(child))]
    return below


def await_part(process: Any, run: Path) -> None:
    """Wait until a run has written its first part, or ended, a minute at most."""
    limit = time.monotonic() + 60.0
    while process.is_alive() and time.monotonic() < limit:
        if list(run.glob("measurements/part-*")):
            return
        time.sleep(0.01)


class Bench:
    """The unbroken run, and what trials share.

    Args:
        folder: For all runs.
        draws: Of the moments.
    """

    def __init__(self, folder: Path, draws: random.Random) -> None:
        self.folder, self.draws = folder, draws
        self.whole = folder / "whole"
        begun = time.monotonic()
        measure(self.whole)
        self.seconds = time.monotonic() - begun
        self.other = folder / "other"
        measure(self.other, seed=1)

    def moment(self) -> float:
        """Return a random moment of the run, in seconds."""
        return self.draws.uniform(0.02, self.seconds)

    def broken_by(self, signal_sent: int, workers: int, whom: str) -> Callable[[Path], Outcome]:
        """Return a trial: a run whose driver or worker gets a signal at a random moment."""

        def trial(run: Path) -> Outcome:
            process = forked(lambda: measure(run, workers=workers))
            time.sleep(self.moment() / workers)
            target = process.pid
            if whom == "worker":
                children = descendants(process.pid)
                target = self.draws.choice(children) if children else None
            if target is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(target, signal_sent)
            process.join()
            wanted = (0,) if whom == "worker" else (0, -signal_sent)
            return Outcome(as_asked=process.exitcode in wanted)

        return trial

    def full_disk(self, run: Path) -> Outcome:
        """The disk is full at a random write, or files may not grow beyond a random size."""
        fail_at, limit = self.draws.randrange(1, 2 * PARTS), self.draws.randrange(300, 6000)
        real = self.draws.random() < 0.5

        def job() -> None:
            if real:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                measure(run)
                return
            write, count = Path.write_bytes, 0

            def full(path: Path, content: bytes) -> int:
                nonlocal count
                count += 1
                if count >= fail_at:
                    write(path, content[: len(content) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(path, content)

            Path.write_bytes = full  # type: ignore[method-assign]
            measure(run)

        process = forked(job)
        process.join()
        return Outcome(as_asked=process.exitcode in (0, 1) and not list(run.rglob(".*.part")))

    def share_away(self, run: Path) -> Outcome:
        """The folder is gone at a random moment, and back within two seconds."""
        process = forked(lambda: measure(run))
        time.sleep(self.moment())
        hidden = run.with_name(f"{run.name}-hidden")
        with contextlib.suppress(OSError):
            run.rename(hidden)
            time.sleep(self.draws.uniform(0.1, 2.0))
            with contextlib.suppress(OSError):
                hidden.rename(run)
        process.join()
        return Outcome(as_asked=process.exitcode == 0 and run.is_dir())

    def spoilt(self, how: str) -> Callable[[Path], Outcome]:
        """Return a trial: a finished run of which one file is spoilt."""

        def trial(run: Path) -> Outcome:
            shutil.copytree(self.whole, run)
            folder = self.draws.choice(["measurements", "witnesses"])
            file = self.draws.choice(sorted((run / folder).glob("part-*")))
            content = bytearray(file.read_bytes())
            if how == "empty":
                content = bytearray()
            elif how == "cut off":
                del content[self.draws.randrange(1, len(content)) :]
            elif how == "changed":
                content[self.draws.randrange(len(content))] ^= 1 << self.draws.randrange(8)
            else:
                content[:] = (self.other / folder / file.name).read_bytes()
            file.write_bytes(content)
            return Outcome()

        return trial

    def stray(self, run: Path) -> Outcome:
        """A file of a longer run lies in the folder: it is named, and removed by hand."""
        shutil.copytree(self.whole, run)
        folder = self.draws.choice(["measurements", "witnesses"])
        file = self.draws.choice(sorted((run / folder).glob("part-*")))
        name = file.with_name(file.name.replace("part-000", "part-001"))
        shutil.copy(file, name)
        try:
            measure(run)
        except RunError as error:
            name.unlink()
            return Outcome(as_asked=str(name) in str(error))
        return Outcome(as_asked=False)

    def twice(self, run: Path) -> Outcome:
        """A second process comes with the same folder while the first is at work."""
        first = forked(lambda: measure(run))
        while first.is_alive() and not (run / ".lock").exists():
            time.sleep(0.005)
        time.sleep(self.moment() / 2)
        was_there = first.is_alive()
        second = forked(lambda: measure(run))
        second.join()
        refused = second.exitcode == 1 or not (was_there and first.is_alive())
        first.join()
        return Outcome(as_asked=refused and first.exitcode == 0)

    def stopped(self, asked: int) -> Callable[[Path], Outcome]:
        """Return a trial: the command line gets a signal, finishes its part, and says so."""

        def trial(run: Path) -> Outcome:
            words = "audit --model digits --data digits --limit 20 --effort quick --norms 2 --out"
            process = forked(lambda: levelset([*words.split(), str(run)]))
            await_part(process, run)
            time.sleep(self.draws.uniform(0.0, 0.3))
            os.kill(process.pid, asked)
            process.join()
            # It may have been at its page already, which it finishes too, or leaves.
            as_asked = process.exitcode in (128 + asked, 0)
            again = forked(lambda: levelset([*words.split(), str(run), "--resume"]))
            again.join()
            whole = self.folder / "digits"
            if not whole.exists():
                forked(lambda: levelset([*words.split(), str(whole)])).join()
            return Outcome(as_asked=as_asked and again.exitcode == 0, counts=compare(run, whole))

        return trial

    def ray_killed(self, whom: str) -> Callable[[Path], Outcome]:
        """Return a trial: the head of a cluster, or a worker, is killed."""

        def trial(run: Path) -> Outcome:
            process = forked(lambda: measure(run, engine="ray", workers=2))
            await_part(process, run)
            time.sleep(self.draws.uniform(0.0, 0.2))
            mark = b"gcs_server" if whom == "head" else b"ray::Worker"
            victims = [p for p in descendants(process.pid) if mark in command(p)]
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.draws.choice(victims), signal.SIGKILL)
            process.join(90.0)
            ended = process.exitcode is not None
            for left in descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            process.kill()
            process.join()
            return Outcome(as_asked=ended)

        return trial


def compare(run: Path, whole: Path) -> tuple[int, int, int, int]:
    """Return rows lost, doubled and differing, and parts that are other than they should be."""
    names, there = (
        {path.relative_to(place) for path in place.glob("*/part-*")} for place in (whole, run)
    )
    files = len(names ^ there) + sum(
        (run / name).read_bytes() != (whole / name).read_bytes() for name in names & there
    )
    table, wanted = (pq.read_table(place / "measurements") for place in (run, whole))
    rows = table["index"].to_pylist()
    lost = len(set(wanted["index"].to_pylist()) - set(rows))
    doubled = len(rows) - len(set(rows))
    own = {row["index"]: repr(row) for row in table.to_pylist()}
    differing = sum(own.get(row["index"]) != repr(row) for row in wanted.to_pylist()) - lost
    return lost, doubled, differing, files


def command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def train_pair(out: Path | None, **options: Any) -> list[Any]:
    """Train in two processes; return the weights of each, or its exception in words."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pipes, processes = [], []
    for rank in range(2):
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_train, args=(theirs, rank, port, out, options))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    moment = options.get("kill")
    if moment is not None:
        time.sleep(moment)
        os.kill(random.choice(processes).pid, signal.SIGKILL)
    answers = []
    for pipe in pipes:
        try:
            answers.append(pipe.recv())
        except EOFError:
            answers.append(None)
    for process in processes:
        process.join()
    return answers


def _train(pipe: Any, rank: int, port: int, out: Path | None, options: dict[str, Any]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2",
    }  # fmt: skip
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = Images(points, (points.sum(1) > 1.0).long(), ("below", "above"), "halves")
    network = initialise(fc(2, 8, 2).double(), generator=torch.Generator().manual_seed(3))
    try:
        with joined("cpu"):
            train(
                network, data, epochs=6, batch_size=10, out=out,
                resume=options.get("resume", False),
                loss=lambda m, x, y: geometric_svm(m, x, y, weight=0.1, alpha=-2.0),
                generator=torch.Generator().manual_seed(5),
            )  # fmt: skip
        answer: Any = torch.cat([p.detach().flatten() for p in network.parameters()]).tolist()
    except Exception as error:  # the parent prints it, and counts it as wrong unless asked for
        answer = f"{type(error).__name__}: {error}"
    pipe.send(answer)


def rank_killed(times: int, folder: Path, draws: random.Random) -> tuple[int, int]:
    """Return how many resumed trainings differ, and how many trials went other than asked."""
    begun = time.monotonic()
    whole = train_pair(None)
    seconds = time.monotonic() - begun
    differing = wrong = 0
    for number in range(times):
        out = folder / f"training-{number}"
        first = train_pair(out, kill=draws.uniform(0.1, seconds))
        said = [answer for answer in first if answer is not None]
        wrong += not all(a in whole or str(a).startswith("RunError: train: ") for a in said)
        differing += train_pair(out, resume=True) != whole
    return differing, wrong


FIELDS = ("fault", "injected", "lost", "doubled", "differing", "other files", "again", "as asked")


def faults(bench: Bench) -> dict[str, tuple[Callable[[Path], Outcome], bool]]:
    """Return the trials by their names, and whether each is slow."""
    kill = signal.SIGKILL
    return {
        "kill -9 of the driver, 1 worker": (bench.broken_by(kill, 1, "driver"), False),
        "kill -9 of the driver, 2 workers": (bench.broken_by(kill, 2, "driver"), False),
        "kill -9 of a worker": (bench.broken_by(kill, 2, "worker"), False),
        "the disk is full": (bench.full_disk, False),
        "the folder is away for a moment": (bench.share_away, False),
        **{f"a part is {how}": (bench.spoilt(how), False)
           for how in ("empty", "cut off", "changed", "of another run")},
        "a part of a longer run": (bench.stray, False),
        "a second process": (bench.twice, False),
        "SIGINT": (bench.stopped(signal.SIGINT), True),
        "SIGTERM": (bench.stopped(signal.SIGTERM), True),
        "kill -9 of a worker of Ray": (bench.ray_killed("worker"), True),
        "kill -9 of Ray's head": (bench.ray_killed("head"), True),
    }  # fmt: skip


def inject(
    bench: Bench, name: str, trial: Callable[[Path], Outcome], times: int
) -> dict[str, int | str]:
    """Return the row of a fault in the table."""
    totals, again, as_asked = [0, 0, 0, 0], 0, 0
    for number in range(times):
        run = bench.folder / "run" / f"{number}"
        run.parent.mkdir(exist_ok=True)
        log = run.with_name("begun")
        log.write_bytes(b"")
        with counted(log):
            outcome = trial(run)
            as_asked, counts = as_asked + outcome.as_asked, outcome.counts
            if counts is None:
                before = len(log.read_bytes())
                measure(run)
                begun = len(log.read_bytes())
                spoilt = name.startswith("a part is")
                again = max(again, begun - before if spoilt else begun - PARTS)
                counts = compare(run, bench.whole)
            totals = [a + b for a, b in zip(totals, counts, strict=True)]
        shutil.rmtree(run.parent)
    # Workers of Ray do not write into the log; what a driver counts of its own parts is no word.
    most: int | str = "-" if "Ray" in name or name.startswith("SIG") else max(again, 0)
    return dict(zip(FIELDS, (name, times, *totals, most, as_asked), strict=True))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="trials of each fault")
    parser.add_argument("--slow-times", type=int, default=20, help="of those that take seconds")
    parser.add_argument("--only", nargs="*", help="faults whose names begin so")
    parser.add_argument("--without", default="", help="leave out faults with this in their names")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    _pieces._PART_ELEMENTS = 6 * ROWS
    _pieces._PART_LEAST = ROWS
    os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_worker_niceness": "0"}
    warnings.simplefilter("ignore")
    draws, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home), draws)
        print(f"an unbroken run takes {bench.seconds:.2f} s in {PARTS} parts", file=sys.stderr)
        for name, (trial, is_slow) in faults(bench).items():
            if options.only and not name.startswith(tuple(options.only)):
                continue
            if options.without and options.without in name:
                continue
            begun = time.monotonic()
            row = inject(bench, name, trial, options.slow_times if is_slow else options.times)
            rows.append(row)
            print(f"{json.dumps(row)} {time.monotonic() - begun:.0f} s", file=sys.stderr)
        if not options.only or "rank" in options.only:
            differing, wrong = rank_killed(options.slow_times, Path(home), draws)
            times = options.slow_times
            rows.append(dict(zip(
                FIELDS, ("kill -9 of a rank", times, 0, 0, differing, 0, "-", times - wrong),
                strict=True,
            )))  # fmt: skip
    print("| " + " | ".join(FIELDS) + " |\n" + "|---|" + "---:|" * (len(FIELDS) - 1))
    for row in rows:
        print("| " + " | ".join(str(row[field]) for field in FIELDS) + " |")
    bad = [
        r["fault"] for r in rows if any(r[f] for f in FIELDS[2:6]) or r["as asked"] != r["injected"]
    ]
    sys.exit(f"not as it should be: {', '.join(map(str, bad))}" if bad else 0)


if __name__ == "__main__":
    main()
