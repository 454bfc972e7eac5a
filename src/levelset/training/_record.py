"""Training that keeps the path of the weights, for the kernel that the path makes."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from levelset._recording._files import (
    RowsFile,
    packed,
    read_tensors,
    shard_path,
    unpacked,
    write_tensors,
)  # fmt: skip
from levelset._recording._recording import (
    FORMAT,
    LOSSES,
    MANIFEST,
    Loss,
    Plan,
    Recording,
    fingerprint,
    identify,
    layout_of,
    logits_matrix,
    read_manifest,
)  # fmt: skip
from levelset._recording._rule import Optimizer, Rule
from levelset._recording._steps import Steps, bits_of, joined
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_labels,
    check_positive,
    check_same_rows,
)  # fmt: skip
from levelset._tools.files import make_folder, remove_leftovers, write_json, write_whole
from levelset._tools.locks import sole_user
from levelset._tools.modes import evaluating
from levelset._tools.random import draw_seed, mixed_seed
from levelset._tools.stops import finishing
from levelset._typing import Labels, Points, Progress
from levelset.errors import DataError, FieldError, NotConvergedError, ParameterError, RunError
from levelset.training._checkpoint import Checkpoint
from levelset.training._schedule import LearningRate, Schedule, rate_factor

__all__ = ["record"]

# Bytes of differences in one file: a training that is killed goes on from the last whole one.
_SHARD = 2**26
# Points of the steps for which one state is written. Writing a state takes as long as a step of
# some ten points: at 512 it is 2 % of the training.
_POINTS = 512
# Bytes of a state below which writing it takes no time beside the step.
_SMALL = 2**16
# Most steps that are taken again from one state.
_MOST_STRIDE = 32


@checked
def record(
    model: nn.Module,
    points: Points,
    labels: Labels,
    *,
    steps: int,
    learning_rate: float,
    schedule: LearningRate = "constant",
    folder: str | Path,
    loss: str | Callable[..., Tensor] = "cross_entropy",
    optimizer: Optimizer = "sgd",
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    batch_size: int | None = None,
    every: int = 1,
    precision: Literal["full", "half"] = "full",
    resume: bool = False,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Recording:
    r"""Train a network in place, and keep the path that its weights take.

    From the path follows, without approximation, which training point moved which prediction how
    far: see [`PathKernel`][levelset.kernels.PathKernel].

    Unlike [`train`][levelset.training.train] it trains in evaluation mode: dropout is off,
    BatchNorm uses its running statistics as they are, so that each point's output depends on that
    point alone. Each step lowers the `loss` of one batch: all points, or `batch_size` of them
    in an order drawn anew each epoch.

    In `folder` are `recording.json`, shards of at most 64 MiB with the weights as differences from
    state to state, each whole or not at all, and `state.safetensors`, from which a run that was
    stopped goes on (`resume=True`) to the same weights bit for bit.

    What is kept is exact. A state is written after every step with 512 points or more, or if it has
    less than 64 KiB. For smaller batches of larger networks writing the weights would take long
    beside the steps: there a state is written, with what the optimiser remembers, after as many
    steps as have 512 points together, 32 at most, and the steps between are taken again whenever
    the path is read: to the same bits on the same processor with as many threads, elsewhere to
    rounding.

    Size: one number a weight and state. Less on request, at a cost: `every=k` takes the path to be
    straight between each k-th state and the next; `precision="half"` keeps differences in 16 bits,
    scaled tensor by tensor, where an error is made up for in the next difference. `rounding` of the
    result says how much of the path that costs, `PathKernel.predict` what it does to the outputs.

    Cost: that of the training, and a few percent.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, or to one output a point. Weights that require a
            gradient are trained.
        points: The training points, `(n, *d)`.
        labels: The class of each, `(n,)`.
        steps: How many steps.
        learning_rate: Of each step, before the schedule.
        schedule: What it is multiplied by, as in [`train`][levelset.training.train]: `"constant"`,
            `"cosine"`, or a `Ramp` or `Steps` over the epochs.
        folder: Where to write.
        loss: `"cross_entropy"`, `"squared_error"` (to the label's unit vector, halved), or
            `"binary_cross_entropy"` (of one output); or a function of
            `(logits (n, k), labels (n,))` that returns one number. All are means over the batch.
        optimizer: `"sgd"`, `"adam"` or `"adamw"`.
        momentum: Of SGD.
        nesterov: Whether SGD's momentum is Nesterov's.
        weight_decay: Pull of the weights to 0; by AdamW apart from the gradient.
        batch_size: Points a step; `None` for all.
        every: Take the path to be straight between each `every`-th state and the next.
        precision: `"full"` or `"half"`.
        resume: Go on with the recording in `folder`; from the start if there is none.
        generator: Draws the seed of the order of the points; `None` for torch's global generator,
            or on resuming for the run's own seed.
        progress: Called as `progress(step, steps)` after each step.

    Returns:
        The recording; the model has the weights at its end.

    Raises:
        DataError: If there are no points, or they hold NaN or infinity.
        ShapeError: If points and labels do not fit together.
        ParameterError: If an option is out of range.
        FieldError: If the model is random in evaluation mode, returns something else than `(n, k)`,
            or the loss cannot be differentiated in the logits.
        NotConvergedError: If the loss is no longer finite.
        RunError: If `folder` cannot be written, or holds another recording.

    Example:
        >>> import tempfile, torch
        >>> from levelset.networks import fc
        >>> from levelset.training import initialise, record
        >>> generator = torch.Generator().manual_seed(0)
        >>> points = torch.rand(20, 2, generator=generator)
        >>> network = initialise(fc(2, 8, 2), generator=generator)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record(
        ...         network,
        ...         points,
        ...         (points[:, 0] > 0.5).long(),
        ...         steps=10,
        ...         learning_rate=0.1,
        ...         folder=folder,
        ...     )
        Recording(steps=10, parameters=42, points=20, shards=1, rounding=0)

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: Definition 14.3
          and section 15.2, where the state is saved after every step.
    """
    check_at_least_one("record", "steps", steps)
    check_at_least_one("record", "every", every)
    check_positive("record", "learning_rate", learning_rate)
    _check_examples(model, points, labels)
    rule = Rule(optimizer, momentum, nesterov, weight_decay)
    function, name = _loss_of(loss)
    if batch_size is not None and batch_size >= len(points):
        batch_size = None
    folder = Path(folder)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        _check_model(model, points, labels, function)
        stack.enter_context(sole_user("record", folder))
        seed, done = _begin(folder, generator, resume=resume)
        plan = Plan(
            steps, learning_rate, str(schedule), rule, batch_size, name, every,
            _stride(model, batch_size or len(points), lossy=every > 1 or precision == "half"),
            precision == "half",
            seed, identify(model), fingerprint(points, labels), len(points),
        )  # fmt: skip
        trainer = _Trainer(
            folder, model, points, labels, function, plan,
            _rates_of(learning_rate, schedule, plan),
        )  # fmt: skip
        with joined(trainer.parameters, trainer.weights):
            trainer.begin(done)
            seconds = trainer.run(progress)
        content = {"format": FORMAT, "plan": plan.to_json(), "rounding": trainer.rounding}
        write_json(folder / MANIFEST, content | {"seconds": seconds})
    layout = layout_of(model)
    return Recording(folder, model, function, plan, trainer.rounding, layout, (points, labels))


def _stride(model: nn.Module, batch_size: int, *, lossy: bool) -> int:
    """Return after how many steps a state is written."""
    size = sum(p.numel() * p.dtype.itemsize for p in model.parameters() if p.requires_grad)
    if lossy or size < _SMALL:
        return 1
    return max(min(_POINTS // batch_size, _MOST_STRIDE, _SHARD // size), 1)


@dataclass
class _Trainer:
    """Takes the steps of a plan, and writes what is recorded of them.

    Meanwhile the weights lie in one piece of memory, so that a difference is one subtraction.

    Attributes:
        rounding: Largest distance so far between the weights and their record, as a share
            of the way from the start; at the end of the training that of its whole way.
    """

    folder: Path
    model: nn.Module
    points: Tensor
    labels: Tensor
    loss: Loss
    plan: Plan
    rates: Callable[[int], float]

    def __post_init__(self) -> None:
        """Build the optimiser, and see how much one file holds."""
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.weights = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self.steps = Steps(
            self.parameters, lambda points: logits_matrix(self.model(points)), self.loss,
            self.plan.rule,
        )  # fmt: skip
        self.sizes = [shape.numel() for shape in layout_of(self.model).values()]
        self.step, self.lost = 0, 0.0
        self.recorded, self.start = self.weights.clone(), self.weights.clone()
        self.between: list[Tensor] = []
        self.dtype = torch.float16 if self.plan.half else bits_of(self.recorded).dtype
        # Steps from one state to the next, and most states of a file, whose steps fit in memory.
        self.stride = max(self.plan.every, self.plan.stride)
        each = self.recorded.numel() * self.dtype.itemsize * self.plan.stride
        self.most = max(_SHARD // max(each, 1), 1)

    @property
    def rounding(self) -> float:
        """What is lost of the path by keeping a part of it, as a share of the whole way."""
        way = float((self.weights - self.start).norm())
        return self.lost / way if way > 0.0 else 0.0

    def begin(self, plan: dict[str, Any] | None) -> None:
        """Write the plan, or go on where the run in the folder stopped."""
        path = self.folder / "state.safetensors"
        if plan is not None:
            _refuse_others(self.folder, plan, self.plan)
        if plan is None or not path.exists():
            for shard in self.folder.glob("shard-*.safetensors"):
                shard.unlink()
            content = {"format": FORMAT, "plan": self.plan.to_json()}
            write_json(self.folder / MANIFEST, content)
            self._write_state()
            return
        metadata, tensors = read_tensors(path)
        self.step, self.lost = int(metadata["step"]), float(metadata["lost"])
        device = self.points.device
        self.recorded, self.start = (tensors.pop(name).to(device) for name in ("kept", "start"))
        Checkpoint({}, self.plan.seed, (), tensors).restore(self.model, self.steps.optimizer)
        for shard in self.folder.glob("shard-*.safetensors"):
            if int(shard.stem.split("-")[1]) >= self.step:
                shard.unlink()

    def run(self, progress: Progress | None) -> float:
        """Take the steps that are left; return the seconds that they took."""
        begin = time.perf_counter()
        batches = _batches(self.plan, self.step)
        while self.step < self.plan.steps:
            # A stretch ends where a state is kept.
            last = min((self.step // self.stride + self.most) * self.stride, self.plan.steps)
            with finishing():
                write_whole(
                    shard_path(self.folder, self.step, last),
                    partial(self._stretch, last, batches, progress),
                    repeatable=False,  # the steps are taken while the file is written
                )
                self._write_state()
        return time.perf_counter() - begin

    def _stretch(
        self, last: int, batches: Iterator[Tensor | None], progress: Progress | None, path: Path
    ) -> None:
        """Take the steps up to `last`, and write them."""
        plan, first, start = self.plan, self.step, self.recorded.clone()
        count, memory = -(-(last - first) // self.stride), self._memory()
        scales, rows, rates = [], [], []
        with RowsFile(path, count, (1 + len(memory)) * len(start), self.dtype) as file:
            while self.step < last:
                batch = next(batches)
                rates.append(self._take(batch))
                if batch is not None:
                    rows.append(batch)
                if progress is not None:
                    progress(self.step, plan.steps)
                if self.step % self.stride and self.step < plan.steps:
                    if plan.every > 1:
                        self.between.append(self.weights.clone())
                else:
                    scales.append(self._keep(file.row()))
            tensors = {"start": start, "rates": torch.tensor(rates, dtype=torch.float64)}
            if len(memory):
                tensors["memory"] = memory
            if plan.half:
                tensors["scales"] = torch.stack(scales)
            if rows:
                joined = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
                tensors["rows"] = joined.int()
            numbers = {"first": first, "every": self.stride, "last": last}
            file.finish("differences", tensors, {k: str(v) for k, v in numbers.items()})

    def _take(self, batch: Tensor | None) -> float:
        """Take one step; return its learning rate."""
        value = self.steps.differentiate(self.points, self.labels, batch)
        if not math.isfinite(number := value.item()):
            message = (
                f"record: the loss became {number} at step {self.step}. Lower `learning_rate` "
                f"({self.plan.learning_rate:g})."
            )
            raise NotConvergedError(message)
        rate = self.rates(self.step)
        self.steps.move(rate)
        self.step += 1
        return rate

    def _memory(self) -> Tensor:
        """Return what of the optimiser's memory goes with a state, `(m, p)`."""
        return self.steps.memory() if self.plan.stride > 1 else self.recorded.new_zeros(0, 0)

    def _keep(self, row: Tensor) -> Tensor:
        """Write the difference to the state recorded last into a row; return its scales."""
        before = self.recorded.clone() if self.between else self.recorded
        scales = before.new_ones(0)
        if self.plan.half:
            small, scales = packed(self.weights - before, self.sizes)
            row.copy_(small)
            self.recorded = before + unpacked(small, scales, self.sizes, before)
            self.lost = max(self.lost, float((self.recorded - self.weights).norm()))
        else:
            now = bits_of(self.weights)
            torch.sub(now, bits_of(before), out=row[: len(now)])
            if len(row) > len(now):
                row[len(now) :] = bits_of(self._memory()).reshape(-1)
            self.recorded.copy_(self.weights)
        for index, between in enumerate(self.between):
            share = (index + 1) / (len(self.between) + 1)
            off = between - torch.lerp(before, self.recorded, share)
            self.lost = max(self.lost, float(off.norm()))
        self.between.clear()
        return scales

    def _write_state(self) -> None:
        state = Checkpoint.of(self.model, self.steps.optimizer, settings={}, seed=self.plan.seed)
        metadata = {"step": str(self.step), "lost": repr(self.lost)}
        tensors = state.tensors | {"kept": self.recorded, "start": self.start}
        write_tensors(self.folder / "state.safetensors", tensors, metadata)


def _rates_of(rate: float, schedule: LearningRate, plan: Plan) -> Callable[[int], float]:
    """Return the learning rate as a function of the step."""
    each = 1 if plan.batch_size is None else -(-plan.points // plan.batch_size)
    epochs = -(-plan.steps // each)
    # A name is a shape over the steps; other schedules follow the epochs, the last one broken off.
    steps = epochs * each if isinstance(schedule, Schedule) else plan.steps
    return lambda step: rate * rate_factor(schedule, step, steps, epochs)


def _batches(plan: Plan, step: int) -> Iterator[Tensor | None]:
    """Yield the points of each step from `step` on; `None` for all of them."""
    while plan.batch_size is None:
        yield None
    parts = -(-plan.points // plan.batch_size)
    epoch, first = divmod(step, parts)
    while True:
        generator = torch.Generator().manual_seed(mixed_seed(plan.seed, epoch))
        order = torch.randperm(plan.points, generator=generator)
        yield from order.tensor_split(parts)[first:]
        epoch, first = epoch + 1, 0


def _begin(
    folder: Path, generator: torch.Generator | None, *, resume: bool
) -> tuple[int, dict[str, Any] | None]:
    """Return the seed, and the plan of the run in the folder, if it goes on."""
    make_folder(folder)
    remove_leftovers(folder)
    if not (folder / MANIFEST).exists():
        return draw_seed(generator), None
    if not resume:
        message = (
            f"record: {folder} holds a recording already. Give `resume=True` to go on with it, or "
            "choose another `folder`."
        )
        raise RunError(message)
    plan = read_manifest(folder)["plan"]
    return plan["seed"] if generator is None else draw_seed(generator), plan


def _refuse_others(folder: Path, old: dict[str, Any], new: Plan) -> None:
    now = dataclasses.asdict(Plan.from_json(new.to_json()))
    before = dataclasses.asdict(Plan.from_json(old))
    differing = [f"`{k}` was {before[k]} and is now {v}" for k, v in now.items() if before[k] != v]
    if differing:
        message = (
            f"record: the recording in {folder} cannot be resumed: {'; '.join(differing)}. Give "
            "what was given before, or choose another `folder`."
        )
        raise RunError(message)


def _loss_of(loss: str | Callable[..., Tensor]) -> tuple[Loss, str]:
    if not isinstance(loss, str):
        return loss, f"function {getattr(loss, '__qualname__', type(loss).__qualname__)}"
    if loss not in LOSSES:
        message = (
            f"record: `loss` must be one of {', '.join(LOSSES)}, or a function of logits and "
            f"labels, got {loss!r}."
        )
        raise ParameterError(message)
    return LOSSES[loss], loss


def _check_examples(model: nn.Module, points: Tensor, labels: Tensor) -> None:
    check_same_rows("record", points, labels, "labels")
    if len(points) == 0:
        message = "record: `points` must hold at least one training point, got none."
        raise DataError(message)
    check_finite("record", points)
    if not layout_of(model):
        message = (
            "record: `model` must have a parameter that requires a gradient, got none. Thaw it "
            "with `model.requires_grad_()`."
        )
        raise ParameterError(message)
    kinds = sorted({f"{p.dtype} on {p.device}" for p in model.parameters() if p.requires_grad})
    if len(kinds) > 1:
        message = (
            "record: the weights of `model` that are trained must be of one dtype and on one "
            f"device, got {', '.join(kinds)}. Move them with `model.to(...)`."
        )
        raise ParameterError(message)


def _check_model(model: nn.Module, points: Tensor, labels: Tensor, loss: Loss) -> None:
    """Refuse a model that is random, and a loss that has no gradient in the logits."""
    first = points[:2]
    with torch.no_grad():
        logits, again = logits_matrix(model(first)), logits_matrix(model(first))
    if not torch.equal(logits, again):
        message = (
            "record: `model` must return the same for the same points, but two evaluations differ. "
            "It draws random numbers in evaluation mode: take that out."
        )
        raise FieldError(message)
    if logits.shape[1] > 1:
        check_labels("record", labels, points, logits.shape[1])
    with torch.enable_grad():
        # Not the logits themselves, which may be where the loss is flat.
        generator = torch.Generator().manual_seed(0)
        leaf = (logits + torch.randn(logits.shape, generator=generator).to(logits)).requires_grad_()
        try:
            value = loss(leaf, labels[:2])
        except (RuntimeError, IndexError, ValueError) as error:
            message = (
                f"record: `loss` failed on logits {tuple(logits.shape)} and labels "
                f"{labels[:2].tolist()}: {str(error).splitlines()[0]}"
            )
            raise FieldError(message) from error
    if not isinstance(value, Tensor) or value.dim() != 0:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        message = f"record: `loss` must return a tensor with one number, shape (), got {got}."
        raise FieldError(message)
    reason = "what it returned carries no gradient" if not value.requires_grad else ""
    if not reason and not torch.autograd.grad(value, leaf, materialize_grads=True)[0].any():
        reason = "its gradient in them is 0"
    if reason:
        message = (
            f"record: `loss` must be differentiable in the logits, but {reason}. Does it take "
            "argmax, round, compare or detach?"
        )
        raise FieldError(message)
