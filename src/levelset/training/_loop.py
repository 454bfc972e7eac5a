"""One epoch: shuffled batches, a step of the optimiser each, and the means of what they report."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn, optim

from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import batch_statistics, frozen
from levelset._typing import Progress
from levelset.errors import FieldError, NotConvergedError, ParameterError
from levelset.losses import Diagnostics
from levelset.training._augmentation import Augmentation, Moved
from levelset.training._data import Examples
from levelset.training._history import Epoch, Health, Watch
from levelset.training._objective import Objective
from levelset.training._precision import Precision, in_precision
from levelset.training._ranks import Ranks
from levelset.training._schedule import LearningRate, middle, rate_factor
from levelset.training._starts import Starts

__all__ = ["OPTIMIZERS", "Loop", "Optimizer", "Statistics", "in_training", "share_right"]

Optimizer: TypeAlias = Literal["adamw", "adam", "sgd", "momentum", "nesterov"]
"""Names of optimisers; `momentum` and `nesterov` are SGD with a momentum of 0.9."""

Statistics: TypeAlias = Literal["running", "batch"]
"""What BatchNorm normalises by in evaluation mode while a loss is evaluated."""

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adamw": optim.AdamW,
    "adam": optim.Adam,
    "sgd": optim.SGD,
    "momentum": lambda parameters, **options: optim.SGD(parameters, momentum=0.9, **options),
    "nesterov": lambda parameters, **options: optim.SGD(
        parameters, momentum=0.9, nesterov=True, **options
    ),
}


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """Hold a model in training mode; give each module its mode, each parameter its `.grad` back."""
    modes = [(m, m.training) for m in model.modules()]
    gradients = [(p, p.grad) for p in model.parameters()]
    try:
        model.train()
    except NotImplementedError as error:
        message = (
            "train: `model` must have a training mode, which an exported program has not. "
            "Train the module that it was exported from."
        )
        raise ParameterError(message) from error
    try:
        yield
    finally:
        model.train(modes[0][1])
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient


def share_right(model: nn.Module, data: Examples, ranks: Ranks) -> float:
    """Return the share of the points that the model classifies right, in evaluation mode."""
    rows = ranks.share(torch.arange(len(data.points), device=data.points.device))
    with frozen(model):
        logits = Evaluator("train", model).outputs(data.points[rows])
    right = int((logits.argmax(1) == data.labels[rows]).sum())
    return sum(ranks.gathered(right)) / len(data.points)


@dataclass(eq=False)
class _FirstAnswer:
    """A forward hook that records the logits of the batch itself: accuracy at no cost."""

    batch: Tensor | None = None
    answer: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self.answer is None and inputs and inputs[0] is self.batch:
            self.answer = output.detach()


@dataclass(frozen=True, eq=False)
class _Step:
    """What a step says of itself, or the share of it that one process takes.

    Attributes:
        count: Inputs.
        loss: Their mean.
        right: How many the model classified right.
        terms: Of the loss, by name.
        converged: Which samples are on their level set, if there are any.
        distance: From the inputs to the samples, on the CPU.
        ends: Where searches ended, by the name of the loss.
    """

    count: int
    loss: float
    right: int
    terms: dict[str, float]
    converged: Tensor | None
    distance: Tensor | None
    ends: dict[str, Tensor]

    @classmethod
    def of(cls, count: int, loss: Tensor, right: int, diagnostics: Diagnostics) -> "_Step":
        """Return the numbers of a loss that was evaluated."""
        converged, distance = diagnostics.converged, diagnostics.distance
        return cls(
            count=count,
            loss=float(loss.detach()),
            right=right,
            terms={name: float(term.detach()) for name, term in diagnostics.terms.items()},
            converged=None if converged is None else converged.cpu(),
            distance=None if distance is None else distance.detach().cpu(),
            ends={name: end.detach() for name, end in diagnostics.ends.items()},
        )

    @classmethod
    def joined(cls, shares: list["_Step"]) -> "_Step":
        """Return the step of which these are the shares, in the order of their rows."""
        shares = [share for share in shares if share.count]
        if len(shares) == 1:
            return shares[0]
        count = sum(share.count for share in shares)
        names = dict.fromkeys(name for share in shares for name in share.terms)
        return cls(
            count=count,
            loss=sum(share.loss * share.count for share in shares) / count,
            right=sum(share.right for share in shares),
            terms={
                name: sum(share.terms.get(name, 0.0) * share.count for share in shares) / count
                for name in names
            },
            converged=_joined([share.converged for share in shares]),
            distance=_joined([share.distance for share in shares]),
            ends={
                name: torch.cat([share.ends[name] for share in shares]) for name in shares[0].ends
            },
        )


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if tensors else None


@dataclass(eq=False)
class _Totals:
    """Sums over the steps of one epoch."""

    points: int = 0
    loss: float = 0.0
    right: int = 0
    terms: dict[str, float] = field(default_factory=dict)
    converged: int = 0
    samples: int = 0
    distances: list[Tensor] = field(default_factory=list)

    def add(self, step: _Step) -> None:
        """Add one step's numbers."""
        self.points += step.count
        self.loss += step.loss * step.count
        self.right += step.right
        for name, term in step.terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + term * step.count
        if step.converged is not None:
            self.converged += int(step.converged.sum())
            self.samples += len(step.converged)
        if step.distance is not None:
            self.distances.append(step.distance)

    @property
    def share_converged(self) -> float:
        """Share of the samples on their level set; NaN where there were none."""
        return self.converged / self.samples if self.samples else math.nan


@dataclass(eq=False)
class Loop:
    """Trains one model on one set of points, epoch by epoch.

    Attributes:
        model: Changed in place.
        data: What it learns.
        objective: What is lowered.
        optimizer: Takes the steps.
        learning_rate: Before the schedule.
        schedule: See `rate_factor`.
        clip_norm: Largest norm of a step's gradient; `None` for no limit.
        batch_size: Most points a step. Sizes differ by one at most: no epoch ends on a batch of a
            point or two, from which BatchNorm learns nothing.
        statistics: What BatchNorm normalises by in evaluation mode while the loss is evaluated.
        precision: In which the model is evaluated while it is trained.
        augmentation: How images are moved about; `None` for as they are.
        epochs: How many there will be.
        progress: Told the steps done and the steps of all epochs, after each.
        watch: Told the health after each step.
        ranks: This process among those that train together.
        steps_done: Steps that this call took.
        starts: Where the searches of losses ended that go on from there.
    """

    model: nn.Module
    data: Examples
    objective: Objective
    optimizer: optim.Optimizer
    learning_rate: float
    schedule: LearningRate
    clip_norm: float | None
    batch_size: int
    statistics: Statistics
    precision: Precision
    augmentation: Augmentation | None
    epochs: int
    progress: Progress | None
    watch: Watch | None
    ranks: Ranks = field(default_factory=Ranks)
    steps_done: int = field(default=0, init=False)
    starts: Starts = field(init=False)
    _first: _FirstAnswer = field(default_factory=_FirstAnswer, init=False)

    def __post_init__(self) -> None:
        """Begin with no search behind any input."""
        self.starts = Starts(self.objective.resuming, self.data.points)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.data.points) // self.batch_size)

    def epoch(self, index: int) -> Epoch:
        """Train for epoch `index`, from 0; return its numbers, all but time and held-out points."""
        count = len(self.data.points)
        order = torch.randperm(count).to(self.data.points.device)
        totals = _Totals()
        hook = self.model.register_forward_hook(self._first)
        try:
            for number, rows in enumerate(order.tensor_split(self.steps)):
                step = index * self.steps + number
                moved = self._moved(rows)
                said = self._step(step, rows, moved)
                totals.add(said)
                self.starts.keep(rows, said.ends, moved)
                self._tell(step, totals)
        finally:
            hook.remove()
        self.ranks.share_state(self.model)
        self._refuse_broken(index)
        terms = {name: total / count for name, total in totals.terms.items()}
        done = middle((index + 1) * self.steps - 1, self.epochs * self.steps, self.epochs)
        return Epoch(
            loss=totals.loss / count,
            accuracy=totals.right / count,
            seconds=math.nan,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            converged=totals.share_converged,
            distance=float(torch.cat(totals.distances).median()) if totals.samples else math.nan,
            details=terms | self.objective.scheduled(done, self.epochs),
        )

    def _moved(self, rows: Tensor) -> Moved | None:
        """Return how the images of a batch are moved, alike in all processes."""
        if self.augmentation is None:
            return None
        return Moved.drawn(self.augmentation, len(rows), self.data.points.device)

    def _step(self, step: int, rows: Tensor, moved: Moved | None) -> _Step:
        """Take one step on some inputs, and return its numbers."""
        steps, own = self.epochs * self.steps, self.ranks.share(rows)
        points, labels = self.data.points[own], self.data.labels[own]
        if moved is not None:
            moved = moved.rows(self.ranks.share)
            points = moved.of(points)
        objective = self.objective.at(middle(step, steps, self.epochs), self.epochs)
        starts = self.starts.at(own, moved)
        parameters = self.optimizer.param_groups[0]["params"]
        state = torch.get_rng_state()
        with self.ranks.together(), self.ranks.drawing(rows):
            said, mine = self._answered(step, objective, points, labels, starts)
        gradients = self.ranks.add_up(mine, parameters, len(own) / len(rows))
        if not _all_finite(gradients):
            torch.set_rng_state(state)
            self._stop(step, self._broken_gradient(objective, points, labels, starts))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        factor = rate_factor(self.schedule, step, steps, self.epochs)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * factor
        self.optimizer.step()
        self.steps_done += 1
        return _Step.joined(self.ranks.gathered(said))

    def _tell(self, step: int, totals: _Totals) -> None:
        steps = self.epochs * self.steps
        if self.watch is not None:
            near = totals.distances[-1] if totals.distances else torch.empty(0)
            self.watch(
                Health(
                    step=step + 1,
                    steps=steps,
                    epoch=step // self.steps + 1,
                    loss=totals.loss / totals.points,
                    converged=totals.share_converged,
                    distance=float(near.median()) if len(near) else math.nan,
                )
            )
        if self.progress is not None:
            self.progress(step + 1, steps)

    def _answered(
        self,
        step: int,
        objective: Objective,
        points: Tensor,
        labels: Tensor,
        starts: dict[str, Tensor],
    ) -> tuple[_Step, Sequence[Tensor | None]]:
        """Return the numbers of a step, or of this process's share of it, and the gradient."""
        parameters = self.optimizer.param_groups[0]["params"]
        if len(points) == 0:  # fewer inputs than processes
            return _Step(0, 0.0, 0, {}, None, None, {}), [None] * len(parameters)
        self._first.batch, self._first.answer = points, None
        loss, diagnostics = self._evaluated(step, objective, points, labels, starts)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        answer = self._first.answer
        if answer is None:  # the loss moves the points before it asks
            with frozen(self.model), in_precision(self.model, self.precision):
                answer = Evaluator("train", self.model).outputs(points)
        right = int((answer.argmax(1) == labels).sum())
        return _Step.of(len(points), loss, right, diagnostics), gradients

    def _evaluated(
        self,
        step: int,
        objective: Objective,
        points: Tensor,
        labels: Tensor,
        starts: dict[str, Tensor],
    ) -> tuple[Tensor, Diagnostics]:
        """Return the loss, which is finite and has a gradient, and what it says of itself."""
        reports: list[Diagnostics] = []
        try:
            with torch.enable_grad(), self._evaluating(points):
                loss = objective(self.model, points, labels, starts=starts, watch=reports.append)
        except FieldError:
            self._refuse_broken(step // self.steps)  # logits are NaN because a parameter is
            raise
        if not loss.requires_grad:
            message = (
                "train: `loss` must depend on the parameters of the model, but what it returned "
                "carries no gradient. Does it detach the model's output?"
            )
            raise FieldError(message)
        if not torch.isfinite(loss):
            self._refuse_broken(step // self.steps)
            values = {name: float(term.detach()) for name, term in reports[-1].terms.items()}
            broken = [f"its term `{n}` is {v}" for n, v in values.items() if not math.isfinite(v)]
            whole = [f"`{n}` is {v:.4g}" for n, v in values.items() if math.isfinite(v)]
            what = f"the loss became {float(loss.detach())}"
            self._stop(step, what, f": {', '.join(broken + whole)}")
        return loss, reports[-1]

    @contextmanager
    def _evaluating(self, points: Tensor) -> Iterator[None]:
        """Give BatchNorm its statistics, and the model its precision, while a loss asks it."""
        with in_precision(self.model, self.precision):
            batch = self.statistics == "batch"
            with batch_statistics(self.model, points) if batch else nullcontext():
                yield

    def _broken_gradient(
        self, objective: Objective, points: Tensor, labels: Tensor, starts: dict[str, Tensor]
    ) -> str:
        """Return which term's gradient is not finite, by evaluating the step once more."""
        reports: list[Diagnostics] = []
        parameters = self.optimizer.param_groups[0]["params"]
        with torch.enable_grad(), self._evaluating(points):
            objective(self.model, points, labels, starts=starts, watch=reports.append)
        for name, term in reports[-1].terms.items():
            if term.requires_grad and not _all_finite(
                torch.autograd.grad(term, parameters, allow_unused=True, retain_graph=True)
            ):
                return f"the gradient of the term `{name}` became NaN or infinite"
        return f"the gradient of {objective} became NaN or infinite"

    def _refuse_broken(self, index: int) -> None:
        """Refuse parameters that are no longer finite, before they reach a checkpoint."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                self._stop(index * self.steps, f"the parameter `{name}` became NaN or infinite")

    def _stop(self, step: int, what: str, detail: str = "") -> None:
        message = (
            f"train: {what} in epoch {step // self.steps + 1} of {self.epochs}{detail}. Lower "
            f"`learning_rate` ({self.learning_rate:g}), or look for a 0 in a logarithm, root or "
            "quotient of that term."
        )
        raise NotConvergedError(message)


def _all_finite(tensors: Any) -> bool:
    """Return whether every entry is finite; a missing gradient is."""
    largest = nn.utils.get_total_norm([t for t in tensors if t is not None], math.inf)
    return bool(largest.isfinite())
