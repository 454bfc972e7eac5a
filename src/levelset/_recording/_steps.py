"""The steps of a training, the same bits whether they are taken for the first time or again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from levelset._recording._rule import Rule

__all__ = ["Steps", "bits_of", "joined"]

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits_of(tensor: Tensor) -> Tensor:
    """Return the bits of floating-point numbers as integers of the same width; a view.

    Differences of them go back to the very numbers, which those of the numbers themselves, being
    rounded, do not always.
    """
    return tensor.view(_INTEGERS[tensor.dtype.itemsize])


@contextmanager
def joined(parameters: list[nn.Parameter], weights: Tensor) -> Iterator[None]:
    """Let parameters be views of one piece of memory; put them and `.grad` back at the end."""
    own = [(parameter.data, parameter.grad) for parameter in parameters]
    parts = torch.split(weights, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    try:
        yield
    finally:
        for parameter, (memory, gradient) in zip(parameters, own, strict=True):
            memory.copy_(parameter.data)
            parameter.data, parameter.grad = memory, gradient


class Steps:
    """Takes steps of an optimiser along a loss.

    Args:
        parameters: The weights, which the steps change.
        forward: Maps points to logits, `(n, k)`, by these weights.
        loss: What is lowered, of logits and labels.
        rule: The optimiser's.
    """

    def __init__(
        self, parameters: list[nn.Parameter], forward: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor], rule: Rule,
    ) -> None:  # fmt: skip
        self._parameters, self._forward, self._loss, self._rule = parameters, forward, loss, rule
        self.optimizer = rule.build(parameters, 1.0)

    def differentiate(self, points: Tensor, labels: Tensor, batch: Tensor | None) -> Tensor:
        """Take the gradients at a batch of the points, at all for `None`; return the loss."""
        if batch is not None:
            # Copies whole rows, where `points[batch]` goes number by number.
            points = points.index_select(0, batch.to(points.device))
            labels = labels.index_select(0, batch.to(labels.device))
        with torch.enable_grad():
            value = self._loss(self._forward(points), labels)
        gradients = torch.autograd.grad(value, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            # A weight that the loss does not reach decays all the same, as in `Shares`.
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        return value.detach()

    def move(self, rate: float) -> None:
        """Take the step."""
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()  # their memory serves the next gradients

    def memory(self) -> Tensor:
        """Return what the optimiser remembers, `(m, p)`: a copy; zeros before the first step."""
        size = sum(parameter.numel() for parameter in self._parameters)
        memory = self._parameters[0].new_zeros(len(self._rule.memories), size)
        for row, name in zip(memory, self._rule.memories, strict=True):
            parts = torch.split(row, [parameter.numel() for parameter in self._parameters])
            for part, parameter in zip(parts, self._parameters, strict=True):
                if name in (state := self.optimizer.state[parameter]):
                    part.copy_(state[name].reshape(-1))
        return memory

    def remember(self, step: int, memory: Tensor) -> None:
        """Put back what the optimiser remembered before a step, `(m, p)`."""
        self.optimizer.state.clear()
        if step == 0 or not len(memory):
            return
        sizes = [parameter.numel() for parameter in self._parameters]
        for name, row in zip(self._rule.memories, memory, strict=True):
            for part, parameter in zip(torch.split(row, sizes), self._parameters, strict=True):
                self.optimizer.state[parameter][name] = part.view(parameter.shape).clone()
        if self._rule.is_adaptive:
            for parameter in self._parameters:
                self.optimizer.state[parameter]["step"] = torch.tensor(float(step))
