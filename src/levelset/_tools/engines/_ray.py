"""Work on a Ray cluster: a worker is an actor that holds the model and takes a piece at a time.

Actors, not Ray Data: pieces last half a minute, nothing is shuffled, and a result is a bag of
tensors rather than a block of a table, so of `map_batches` only its pool of actors would be left,
without a say in which piece a dead one had.
"""

import importlib.metadata
import io
import pickle
import socket
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from levelset._tools.engines._addresses import address_to_join
from levelset._tools.engines._crew import Listen, Message, Results, Work, led
from levelset._tools.engines._parcels import failure, overheard, packed, unpacked
from levelset._tools.extras import optional
from levelset._tools.modes import modules_of
from levelset.errors import LevelSetWarning, ParameterError, RunError

__all__ = ["Cluster", "Worker", "build"]

# Seconds between two looks at requests to stop.
_PATIENCE = 0.5
# Workers that may fail to start in a row before the job is given up.
_MOST_STARTS = 3


@cache
def build() -> dict[str, str]:
    """Return what tells one build of this package from another: version and a hash of its files."""
    root = Path(__file__).parents[2]
    digest = sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    version = importlib.metadata.version("levelset")
    return {"levelset": version, "files": digest.hexdigest()[:8]}


@dataclass(frozen=True)
class _Surroundings:
    """Settings of torch that decide the last bits of a result."""

    threads: int
    dtype: torch.dtype
    convolutions_tf32: bool
    products: str

    @classmethod
    def here(cls, threads: int) -> "_Surroundings":
        precision = torch.get_float32_matmul_precision()
        tf32 = torch.backends.cudnn.allow_tf32
        return cls(threads, torch.get_default_dtype(), tf32, precision)

    def settle(self) -> None:
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)  # noqa: TID251
        torch.backends.cudnn.allow_tf32 = self.convolutions_tf32
        torch.set_float32_matmul_precision(self.products)


class Worker:
    """The actor: on another machine, with its own copy of the work."""

    _work: Work

    def build(self) -> dict[str, str]:
        """Return what stands for the package here, with Python, torch and the machine."""
        return build() | {
            "python": ".".join(map(str, sys.version_info[:2])),
            "torch": str(torch.__version__),
            "host": socket.gethostname(),
        }

    def prepare(self, content: bytes, surroundings: _Surroundings) -> bytes:
        """Take the work; return the failure to do so, if there is one."""
        surroundings.settle()
        try:
            self._work = pickle.loads(content)
        except Exception as error:  # whatever it is, the driver raises it
            return packed(failure(error))
        return packed(None)

    def do(self, number: int, content: bytes) -> bytes:
        """Do a piece."""
        try:
            with overheard() as said:
                result = self._work(unpacked(content), _unheard)
            return packed(Message(number, "done", result, tuple(said)))
        except Exception as error:  # whatever it is, the driver raises it
            return packed(Message(number, "failed", failure(error)))


def _unheard(said: Any) -> None:
    """Ignore progress within a piece: only finished pieces are reported."""
    del said


@dataclass(frozen=True)
class Cluster:
    """Work on the machines of a Ray cluster.

    Attributes:
        function: Name of the public function at work, for messages.
        workers: How many actors; `None` for as many as the cluster has processors or devices for.
        address: Of the cluster, as `ray.init` takes it; `None` for the one in use, or a new one on
            this machine.
        pieces: Of the job: no more workers are started.
        threads: Of each worker.
        device: Type of the device that the work computes on.
    """

    function: str
    workers: int | None
    address: str | None
    pieces: int
    threads: int
    device: str

    def run(
        self,
        work: Work,
        piece_of: Callable[[int], Any],
        numbers: Sequence[int],
        listen: Listen,
        *,
        finish: bool = False,
    ) -> Results:
        """Yield the results of the pieces as they come; as `Local.run`.

        Raises:
            MissingExtraError: If Ray is not installed.
            ParameterError: If the work cannot be sent: the message names what and the remedy.
            RunError: If no cluster answers, or workers have another build of this package.
        """
        ray = optional("ray", "ray", self.function)
        content = _sendable(self.function, ray, work)
        if not numbers:
            return
        crew = _Actors(self, ray, content, len(numbers))
        with crew:
            yield from led(crew, piece_of, numbers, listen, finish=finish)


def _sendable(function: str, ray: Any, work: Work) -> bytes:
    """Return the work as bytes, with the source of a model that is not installed on workers."""
    model = getattr(work, "model", work)
    try:
        with _by_value(ray, model):
            return _pickled(ray, work)
    except Exception as error:  # a model may hold anything, and each thing fails in its own way
        message = (
            f"{function}: `model` ({type(model).__name__}) cannot be sent to a worker: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}. Open "
            "files, locks and connections within it stay on this machine: make them where the "
            'model is first called, or use `engine="local"`.'
        )
        raise ParameterError(message) from error


def _pickled(ray: Any, work: Work) -> bytes:
    """Return the work as bytes, with programs of TorchScript, which pickle refuses."""

    class Pickler(ray.cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if not isinstance(value, torch.jit.ScriptModule):
                return super().reducer_override(value)
            buffer = io.BytesIO()
            torch.jit.save(value, buffer)
            return _script, (buffer.getvalue(),)

    buffer = io.BytesIO()
    Pickler(buffer).dump(work)
    return buffer.getvalue()


def _script(content: bytes) -> torch.jit.ScriptModule:
    """Return a program of TorchScript that was sent."""
    return torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]


@contextmanager
def _by_value(ray: Any, model: Any) -> Iterator[None]:
    """Let classes and functions of a model travel whole, where no package on a worker has them."""
    parts = [part for root in modules_of(model) for part in root.modules()]
    names = {getattr(type(part), "__module__", "") for part in parts}
    names |= {getattr(model, "__module__", None) or ""}
    modules = [sys.modules[name] for name in sorted(names) if name in sys.modules]
    own = [module for module in modules if _is_local(module)]
    for module in own:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            ray.cloudpickle.unregister_pickle_by_value(module)


def _is_local(module: ModuleType) -> bool:
    """Return whether a module is a file of the user, of no installed package."""
    path = getattr(module, "__file__", None)
    if path is None or module.__name__ == "__main__":  # that one always travels whole
        return False
    installed = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")]
    places = [*installed, Path(__file__).parents[2]]
    return not any(Path(path).resolve().is_relative_to(place.resolve()) for place in places)


@dataclass(eq=False)
class _Actor:
    """A worker, what is waited for, what it is, and the piece that it has."""

    handle: Any
    awaited: Any
    stage: str = "greeting"
    number: int | None = None


@dataclass(eq=False)
class _Actors:
    """The actors of one job, which end with the block."""

    cluster: Cluster
    ray: Any
    content: bytes
    pieces: int
    _actors: list[_Actor] = field(default_factory=list)
    _owns: bool = False
    _failed_starts: int = 0
    _payload: Any = None
    _options: dict[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> str:
        return self.cluster.function

    def __enter__(self) -> "_Actors":
        """Join the cluster and start the actors."""
        if self.ray.is_initialized():
            _check_joined(self.function, self.ray, self.cluster.address)
        else:
            _join(self.function, self.ray, self.cluster.address)
            self._owns = True
        try:
            count = self._plan()
            self._payload = self.ray.put(self.content)
            self._actors = [self._started() for _ in range(count)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        """End the actors, and leave the cluster if we joined it."""
        for actor in self._actors:
            self.ray.kill(actor.handle)
        self._actors = []
        if self._owns:
            self.ray.shutdown()

    def _plan(self) -> int:
        """Return how many actors to start; what they ask of the cluster goes into `_options`."""
        kind, unit = ("GPU", 1) if self.cluster.device == "cuda" else ("CPU", self.cluster.threads)
        there = float(self.ray.cluster_resources().get(kind, 0.0))
        if there <= 0:
            message = f"{self.function}: the Ray cluster has no {kind}. Add a machine that has one."
            raise RunError(message)
        wanted = self.cluster.workers or max(int(there / unit), 1)
        count = min(wanted, self.pieces)
        # More workers than processors share them; Ray would wait for processors to come.
        share = min(float(unit), int(there / count * 1000) / 1000)
        self._options = {f"num_{kind.lower()}s": share}
        if kind == "GPU":
            self._options["num_cpus"] = 0
        return count

    def _started(self) -> _Actor:
        handle = self.ray.remote(**self._options)(Worker).remote()
        return _Actor(handle, handle.build.remote())

    @property
    def idle(self) -> bool:
        return any(actor.stage == "idle" for actor in self._actors)

    @property
    def busy(self) -> bool:
        return any(actor.stage == "busy" for actor in self._actors)

    def give(self, number: int, piece: Any) -> None:
        actor = next(actor for actor in self._actors if actor.stage == "idle")
        actor.stage, actor.number = "busy", number
        actor.awaited = actor.handle.do.remote(number, packed(piece))

    def messages(self) -> list[Message]:
        by_ref = {actor.awaited: actor for actor in self._actors if actor.stage != "idle"}
        ready, _ = self.ray.wait(list(by_ref), num_returns=1, timeout=_PATIENCE)
        return [message for ref in ready for message in self._heard(by_ref[ref])]

    def _heard(self, actor: _Actor) -> list[Message]:
        """Take what an actor has answered, and say what comes next."""
        try:
            answer = self.ray.get(actor.awaited)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            return self._replaced(actor, error)
        if actor.stage == "greeting":
            _check_build(self.function, answer)
            surroundings = _Surroundings.here(self.cluster.threads)
            actor.stage = "preparing"
            actor.awaited = actor.handle.prepare.remote(self._payload, surroundings)
            return []
        message = unpacked(answer)
        if actor.stage == "preparing":
            if message is not None:
                text = (
                    f"{self.function}: `model` cannot be read by a worker: {message}. Install "
                    "there what it is made of."
                )
                raise RunError(text) from message
            self._failed_starts = 0
        actor.stage, actor.number = "idle", None
        return [message] if isinstance(message, Message) else []

    def _replaced(self, actor: _Actor, error: Exception) -> list[Message]:
        """Start another actor in the place of one that died; say which piece that had."""
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        if actor.number is None:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_STARTS:
                message = (
                    f"{self.function}: workers do not start: {error}. Install levelset "
                    f"{build()['levelset']} on every machine of the cluster."
                )
                raise RunError(message) from error
        self._actors[self._actors.index(actor)] = self._started()
        return [] if actor.number is None else [Message(actor.number, "died", f"by {reason}")]


def _check_build(function: str, theirs: dict[str, str]) -> None:
    """Refuse a worker with another build of the package; warn of another torch.

    Raises:
        RunError: If it has one: its rows could be others.
    """
    ours = build()
    if any(theirs.get(key) != ours[key] for key in ours):
        message = (
            f"{function}: the worker on {theirs.get('host')} has levelset "
            f"{theirs.get('levelset')} ({theirs.get('files')}), this machine "
            f"{ours['levelset']} ({ours['files']}). Install the same version on every machine."
        )
        raise RunError(message)
    if theirs["torch"] != str(torch.__version__):
        message = (
            f"{function}: the worker on {theirs['host']} has torch {theirs['torch']}, this machine "
            f"{torch.__version__}: rows may differ by rounding."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=2)


def _join(function: str, ray: Any, address: str | None) -> None:
    """Join a cluster, or start one here.

    Raises:
        RunError: If none answers.
    """
    address = address_to_join(function, address)
    try:
        ray.init(address=address, logging_level="WARNING")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "on this machine" if address is None else f"at {address}"
        message = (
            f"{function}: no Ray cluster {where}: {str(error).rstrip('.')}. Start one by "
            "`ray start --head`, or leave out `address`."
        )
        raise RunError(message) from error


def _check_joined(function: str, ray: Any, address: str | None) -> None:
    """Refuse an address while this process is connected to a cluster at another."""
    joined = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", joined):
        message = (
            f"{function}: `address` must be that of the Ray cluster in use, {joined}, got "
            f"{address}. Leave it out, or call `ray.shutdown()` first."
        )
        raise ParameterError(message)
