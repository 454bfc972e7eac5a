"""One epoch: shuffled batches, a step of AdamW each, mean loss and accuracy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn, optim

from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._typing import Progress
from levelset.errors import FieldError, NotConvergedError, ParameterError
from levelset.training._data import Examples
from levelset.training._schedule import Schedule, rate_factor

__all__ = ["Loop", "Loss", "in_training", "share_right"]

Loss: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""What training lowers: `(model, points (n, *d), labels (n,))` to one number with a gradient."""


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


def share_right(model: nn.Module, data: Examples) -> float:
    """Return the share of the points that the model classifies right, in evaluation mode."""
    with frozen(model):
        logits = Evaluator("train", model).outputs(data.points)
    return float((logits.argmax(1) == data.labels).double().mean())


@dataclass(eq=False)
class _FirstAnswer:
    """A forward hook that records the logits of the batch itself: accuracy at no cost."""

    batch: Tensor | None = None
    answer: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self.answer is None and inputs and inputs[0] is self.batch:
            self.answer = output.detach()


@dataclass(eq=False)
class Loop:
    """Trains one model on one set of points, epoch by epoch.

    Attributes:
        model: Changed in place.
        data: What it learns.
        loss: What is lowered.
        optimizer: Takes the steps.
        learning_rate: Before the schedule.
        schedule: See `rate_factor`.
        batch_size: Most points a step. Sizes differ by one at most: no epoch ends on a batch of a
            point or two, from which BatchNorm learns nothing.
        epochs: How many there will be.
        progress: Told the steps done and the steps of all epochs, after each.
    """

    model: nn.Module
    data: Examples
    loss: Loss
    optimizer: optim.Optimizer
    learning_rate: float
    schedule: Schedule
    batch_size: int
    epochs: int
    progress: Progress | None
    _watch: _FirstAnswer = field(default_factory=_FirstAnswer, init=False)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.data.points) // self.batch_size)

    def epoch(self, index: int) -> tuple[float, float]:
        """Train for epoch `index`, from 0; return mean loss and share right on its batches."""
        points, labels = self.data.points, self.data.labels
        order = torch.randperm(len(points)).to(points.device)
        total, right = 0.0, torch.zeros((), dtype=torch.int64, device=labels.device)
        hook = self.model.register_forward_hook(self._watch)
        try:
            for number, rows in enumerate(order.tensor_split(self.steps)):
                step = index * self.steps + number
                loss, answer = self._step(step, points[rows], labels[rows])
                total += loss * len(rows)
                right += (answer.argmax(1) == labels[rows]).sum()
                if self.progress is not None:
                    self.progress(step + 1, self.epochs * self.steps)
        finally:
            hook.remove()
        self._refuse_poison(index)
        return total / len(points), int(right) / len(points)

    def _step(self, step: int, points: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """Take one step; return the loss and the logits before it."""
        self._watch.batch, self._watch.answer = points, None
        with torch.enable_grad():
            value = self.loss(self.model, points, labels)
        number = self._checked(value, step)
        parameters = self.optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        answer = self._watch.answer
        if answer is None:  # the loss moves the points before it asks
            with frozen(self.model):
                answer = Evaluator("train", self.model).outputs(points)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        factor = rate_factor(self.schedule, step, self.epochs * self.steps)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * factor
        self.optimizer.step()
        return number, answer

    def _checked(self, value: Any, step: int) -> float:
        if not isinstance(value, Tensor) or value.dim() != 0:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            message = f"train: `loss` must return a tensor with one number, shape (), got {got}."
            raise FieldError(message)
        if not value.requires_grad:
            message = (
                "train: `loss` must depend on the parameters of the model, but what it returned "
                "carries no gradient. Does it detach the model's output?"
            )
            raise FieldError(message)
        number = float(value.detach())
        if not torch.isfinite(value):
            self._stop(step // self.steps, f"the loss became {number}")
        return number

    def _refuse_poison(self, index: int) -> None:
        """Refuse parameters that a gradient has spoilt, before they reach a checkpoint."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                self._stop(index, f"the parameter `{name}` became NaN or infinite")

    def _stop(self, index: int, what: str) -> None:
        message = (
            f"train: {what} in epoch {index + 1} of {self.epochs}. Lower `learning_rate` "
            f"({self.learning_rate:g}), or look for a 0 in a logarithm, root or quotient of `loss`."
            " Checkpoints of earlier epochs are whole."
        )
        raise NotConvergedError(message)
