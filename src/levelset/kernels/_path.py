"""The path of a recording, step by step, with what each training point pulled at."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from levelset._recording._recording import Recording, Shard, logits_matrix
from levelset._tools.batches import row_batches, swift_batch
from levelset.kernels._blocks import Block
from levelset.kernels._integrals import Gradients, Integral, Part, Weights

__all__ = ["Path", "Step"]

# Bytes of logits' gradients that are kept from one walk along the path to the next.
_MOST_PULLS = 2**27
# Points whose gradients are summed at once: fewer spend their time on the weights.
_LEAST_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Step:
    """One step.

    Attributes:
        number: From 0.
        rate: Its learning rate.
        before: The weights before it, `(p,)`.
        after: The weights after it.
        rows: Its training points, `(b,)`.
        is_full: Whether they are all of them, in their order.
    """

    number: int
    rate: float
    before: Tensor
    after: Tensor
    rows: Tensor
    is_full: bool


class Path:
    """A recording with its training points.

    Attributes:
        recording: The path of the weights.
        points: The training points, `(n, *d)`, in the precision of the weights.
        labels: Theirs, `(n,)`.
        gradients: Takes gradients of the model.
        integral: Averages those of test points over a step.
    """

    def __init__(
        self, recording: Recording, points: Tensor, labels: Tensor, gradients: Gradients,
        integral: Integral,
    ) -> None:  # fmt: skip
        self.recording, self.points, self.labels = recording, points, labels
        self.gradients, self.integral = gradients, integral
        self._pulls: dict[int, Tensor] = {}
        self._every = torch.arange(len(points), device=points.device)

    def named(self, weights: Tensor) -> Weights:
        """Return a state by the names of the weights."""
        return self.recording.named(weights)

    def steps(self, *, stride: int = 1) -> Iterator[Step]:
        """Yield the steps in order, each `stride`-th of them."""
        for shard in self.recording.shards():
            for number in range(shard.numbers[0], shard.numbers[-1]):
                if number % stride == 0:
                    yield self.step(shard, number)

    def first(self) -> Step:
        """Return a step of no length at the start, which says what sizes there are."""
        start = self.recording.start()
        return Step(0, 0.0, start, start.clone(), self._every, is_full=True)

    def step(self, shard: Shard, number: int) -> Step:
        """Return a step of a shard."""
        rows = shard.batch(number)
        before, after = shard.state(number), shard.state(number + 1)
        every = self._every if rows is None else rows
        return Step(number, shard.rate(number), before, after, every, rows is None)

    def parts(self, step: Step, points: Tensor) -> list[Part]:
        """Return the gradients of the outputs of points, averaged over a step."""
        before, after = self.named(step.before), self.named(step.after)
        return self.integral.parts(self.gradients, before, after, points)

    def outputs(self, weights: Tensor, points: Tensor) -> Tensor:
        """Return the outputs of points at a state, `(n, k)`."""
        state, size = self.named(weights), swift_batch(self.gradients.model, points, gradient=False)
        with torch.no_grad():
            parts = [
                self.gradients.outputs(state, points[rows])
                for rows in row_batches(len(points), size)
            ]
        return torch.cat(parts)

    def now(self, points: Tensor) -> Tensor:
        """Return the outputs of the network as it is, `(n, k)`."""
        model = self.gradients.model
        size = swift_batch(model, points, gradient=False)
        with torch.no_grad():
            parts = [logits_matrix(model(points[rows])) for rows in row_batches(len(points), size)]
        return torch.cat(parts)

    def pulls(self, step: Step) -> Tensor:
        """Return the gradient of the loss in the outputs of the step's points, `(b, k)`.

        Times the negative learning rate these are Bell's coefficients, Eq. 12.
        """
        known = self._pulls.get(step.number)
        return self.pulls_at(step, self._outputs(step)) if known is None else known

    def pulls_at(self, step: Step, outputs: Tensor) -> Tensor:
        """Return the same from outputs that are known, `(b, k)`, and keep it for the next walk."""
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            value = self.recording.loss(leaf, self.labels[step.rows])
        (pulls,) = torch.autograd.grad(value, leaf)
        kept = sum(each.numel() * each.element_size() for each in self._pulls.values())
        if kept + pulls.numel() * pulls.element_size() <= _MOST_PULLS:
            self._pulls[step.number] = pulls
        return pulls

    def folded(self, step: Step, rows: Tensor | None) -> list[Block]:
        """Return the gradients of the loss at some points of a step, at all of them for `None`."""
        state, gradients = self.named(step.before), self.gradients
        if rows is not None:
            return gradients.folded(state, self.points[step.rows[rows]], self.pulls(step)[rows])
        points = self.points if step.is_full else self.points[step.rows]
        known = self._pulls.get(step.number)
        return gradients.folded(
            state, points, partial(self.pulls_at, step) if known is None else known
        )

    def _outputs(self, step: Step) -> Tensor:
        points = self.points if step.is_full else self.points[step.rows]
        return self.outputs(step.before, points)

    def gradient(self, step: Step) -> Tensor:
        """Return the gradient of the step's loss in the weights, `(p,)`."""
        points = self.points if step.is_full else self.points[step.rows]
        state = {n: w.detach().requires_grad_() for n, w in self.named(step.before).items()}
        total = torch.zeros_like(step.before)
        sums = self.named(total)
        size = max(swift_batch(self.gradients.model, points), _LEAST_ROWS)
        # One forward pass serves for the loss and for the weights where all points go at once.
        pulls = self.pulls(step) if len(points) > size else self._pulls.get(step.number)
        for rows in row_batches(len(points), size):
            with torch.enable_grad():
                outputs = self.gradients.outputs(state, points[rows])
            parts = torch.autograd.grad(
                outputs,
                list(state.values()),
                self.pulls_at(step, outputs) if pulls is None else pulls[rows],
                allow_unused=True,
                materialize_grads=True,
            )
            for name, part in zip(state, parts, strict=True):
                sums[name] += part
        return total
