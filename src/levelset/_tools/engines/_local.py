"""Work in this process, or in processes forked from it: each on one thread."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from levelset._tools.engines._crew import Done, Hook, Listen, Message, Results, Work, led
from levelset._tools.engines._parcels import failure, overheard, packed, unpacked
from levelset._tools.stops import finishing

__all__ = ["Local"]

# Seconds: between two reports of progress of a worker; that the driver waits for news; and for
# a forked process to say that it can compute.
_PACE, _PATIENCE, _START = 0.1, 1.0, 60.0


@dataclass(frozen=True)
class Local:
    """Work on this machine.

    With one worker the work runs in this process, one piece after the other. With several it runs
    in forked processes, which share the memory of models and data. Where processes cannot be
    forked (other systems, a daemon, after a backward pass with a CUDA device at hand) it runs in
    this one.

    Attributes:
        function: Name of the public function at work, for messages.
        workers: Most processes.
        threads: Threads of each; several processes have one each.
    """

    function: str
    workers: int = 1
    threads: int = 1

    def run(
        self,
        work: Work,
        piece_of: Callable[[int], Any],
        numbers: Sequence[int],
        listen: Listen,
        *,
        finish: bool = False,
    ) -> Results:
        """Yield the results of the pieces as they come.

        Args:
            work: What is done with a piece.
            piece_of: Returns a piece by its number.
            numbers: Of all pieces.
            listen: Takes what the work says of a piece, and `None` where it begins anew.
            finish: Whether a request to stop waits until the pieces in hand are finished, and what
                is done with them between two results too (see `finishing`).
        """
        count = min(self.workers, len(numbers))
        if count > 1 and _may_fork():
            crew = _Processes(self.function, work, count)
            with crew:
                if crew.fit():
                    yield from led(crew, piece_of, numbers, listen, finish=finish)
                    return
        # Where no processes can be had, threads take their place.
        threads = torch.get_num_threads() if count > 1 else self.threads
        alone = replace(self, workers=1, threads=threads)
        yield from alone._alone(work, piece_of, numbers, listen, finish=finish)

    def _alone(
        self,
        work: Work,
        piece_of: Callable[[int], Any],
        numbers: Sequence[int],
        listen: Listen,
        *,
        finish: bool,
    ) -> Results:
        for number in numbers:
            with finishing() if finish else nullcontext():
                with _threads(self.threads):
                    result = work(piece_of(number), partial(listen, number))
                yield Done(number, result)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with a number of processor threads while the block runs."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _may_fork() -> bool:
    """Return whether this process may have forked children; elsewhere libraries do not bear it."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


@dataclass(eq=False)
class _Worker:
    """A process, the end of its pipe that is ours, and the number of the piece that it has."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    number: int | None = None


@dataclass(eq=False)
class _Processes:
    """Forked processes, which end with the block and with this process."""

    function: str
    work: Work
    count: int
    _workers: list[_Worker] = field(default_factory=list)
    _lifeline: tuple[int, int] | None = None

    def __enter__(self) -> "_Processes":
        """Start the processes."""
        self._lifeline = os.pipe()
        self._workers = [self._started() for _ in range(self.count)]
        return self

    def __exit__(self, *reason: object) -> None:
        """End the processes, whatever they do."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
            worker.pipe.close()
        for end in self._lifeline or ():
            os.close(end)

    def fit(self) -> bool:
        """Return whether all processes can compute: with derivatives, for one."""
        for worker in self._workers:
            try:
                if not (worker.pipe.poll(_START) and unpacked(worker.pipe.recv_bytes()).content):
                    return False
            except (EOFError, OSError):
                return False
        return True

    @property
    def idle(self) -> bool:
        return any(worker.number is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        return any(worker.number is not None for worker in self._workers)

    def give(self, number: int, piece: Any) -> None:
        worker = next(worker for worker in self._workers if worker.number is None)
        worker.number = number
        with suppress(OSError):  # it has just died, as `messages` will see
            worker.pipe.send_bytes(packed((number, piece)))

    def messages(self) -> list[Message]:
        ready = wait([worker.pipe for worker in self._workers if worker.number is not None],
                     _PATIENCE)  # fmt: skip
        return [message for worker in list(self._workers) if worker.pipe in ready
                for message in self._heard(worker)]  # fmt: skip

    def _heard(self, worker: _Worker) -> list[Message]:
        try:
            message: Message = unpacked(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            return [self._replaced(worker)]
        if message.number < 0:
            return []  # a worker that took the place of another one can compute
        if message.kind in ("done", "failed"):
            worker.number = None
        return [message]

    def _replaced(self, worker: _Worker) -> Message:
        worker.process.join()
        worker.pipe.close()
        ending, number = _ending(worker.process.exitcode), worker.number
        worker.process.close()
        assert number is not None, "only a worker with a piece is listened to"
        self._workers[self._workers.index(worker)] = self._started()
        return Message(number, "died", ending)

    def _started(self) -> _Worker:
        assert self._lifeline is not None, "processes are started within the block"
        ours, theirs = multiprocessing.Pipe()
        pipes = [ours, *(w.pipe for w in self._workers if not w.pipe.closed)]
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs, self._lifeline, pipes, self.work), daemon=True
        )
        with warnings.catch_warnings():
            # Python 3.12 warns of threads; ours hold nothing that the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return _Worker(process, ours)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _serve(
    pipe: Connection, lifeline: tuple[int, int], others: list[Connection], work: Work
) -> None:
    """Do pieces until the driver closes the pipe or ends: the life of a forked process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()
    os.close(lifeline[1])
    threading.Thread(target=_end_with_driver, args=(lifeline[0],), daemon=True).start()
    torch.set_num_threads(1)
    pipe.send_bytes(packed(Message(-1, "told", _can_differentiate())))
    while True:
        try:
            number, piece = unpacked(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(packed(_answer(pipe, number, piece, work)))


def _answer(pipe: Connection, number: int, piece: Any, work: Work) -> Message:
    try:
        with overheard() as said:
            result = work(piece, _told(pipe, number))
        return Message(number, "done", result, tuple(said))
    except BaseException as error:
        return Message(number, "failed", failure(error))


def _told(pipe: Connection, number: int) -> Hook:
    """Return the hook of a piece, which passes on what is said, not more than is read."""
    last = 0.0

    def tell(said: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PACE:
            last = now
            pipe.send_bytes(packed(Message(number, "told", said)))

    return tell


def _can_differentiate() -> bool:
    """Return whether derivatives can be had here.

    After a backward pass where an accelerator is at hand, torch refuses them in forked processes.
    """
    point = torch.ones(1, requires_grad=True)
    try:
        torch.autograd.grad((point * point).sum(), point)
    except RuntimeError:
        return False
    return True


def _end_with_driver(lifeline: int) -> None:
    """End this process as soon as the driver has ended: then nothing writes to the line."""
    os.read(lifeline, 1)
    os._exit(1)
