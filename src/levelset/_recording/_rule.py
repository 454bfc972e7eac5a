"""How an optimiser turns gradients into steps, written so that each gradient's share is known."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn, optim

from levelset.errors import ParameterError

__all__ = ["Optimizer", "Rule", "Shares"]

Optimizer: TypeAlias = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True)
class Rule:
    r"""The update rule of an optimiser.

    With the gradient g, the memory m (the moving sum of gradients) and a scale D,

    $$m_s = \mu m_{s-1} + \nu g_s, \qquad w_{s+1} = w_s - \eta_s D_s (p\, g_s + q_s m_s).$$

    SGD has D = 1; Adam's D is one number a weight, made of the squares of all gradients so far. As
    the step is linear in the gradients once D is known, each training point has its share of it.

    Attributes:
        optimizer: Which one.
        momentum: Of SGD.
        nesterov: Whether SGD looks ahead.
        weight_decay: Added to the gradient times the weights, or by AdamW to the step.
        betas: Of Adam and AdamW, for the mean of the gradients and of their squares.
        eps: Of Adam and AdamW, added to the root of the mean square.
    """

    optimizer: Optimizer = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        if not 0.0 <= self.momentum < 1.0:
            message = f"record: `momentum` must be at least 0 and below 1, got {self.momentum}."
            raise ParameterError(message)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0.0):
            message = f"record: `weight_decay` must be 0 or positive, got {self.weight_decay}."
            raise ParameterError(message)
        if self.optimizer != "sgd" and (self.momentum or self.nesterov):
            message = (
                "record: `momentum` and `nesterov` are options of optimizer='sgd', got "
                f"{self.optimizer!r}, which has a memory of its own. Leave them out."
            )
            raise ParameterError(message)
        if self.nesterov and self.momentum == 0.0:
            message = "record: `nesterov` needs `momentum`, got momentum=0."
            raise ParameterError(message)

    @property
    def is_adaptive(self) -> bool:
        """Whether each weight has a scale of its own."""
        return self.optimizer != "sgd"

    @property
    def has_memory(self) -> bool:
        """Whether a gradient acts on later steps than its own."""
        return self.is_adaptive or self.momentum > 0.0

    @property
    def memories(self) -> tuple[str, ...]:
        """The names of what torch's optimiser remembers of each weight."""
        if self.is_adaptive:
            return ("exp_avg", "exp_avg_sq")
        return ("momentum_buffer",) if self.momentum > 0.0 else ()

    @property
    def decays_apart(self) -> bool:
        """Whether weight decay acts on the step and not through the gradient."""
        return self.optimizer == "adamw"

    @property
    def keep(self) -> float:
        """The factor of the memory from one step to the next."""
        return self.betas[0] if self.is_adaptive else self.momentum

    @property
    def take(self) -> float:
        """The factor of a gradient that enters the memory."""
        return 1.0 - self.betas[0] if self.is_adaptive else 1.0

    def weights_of(self, step: int) -> tuple[float, float]:
        """Return the factors of the gradient and of the memory in the step of this number."""
        if self.is_adaptive:
            return 0.0, 1.0 / (1.0 - self.betas[0] ** (step + 1))
        if self.momentum == 0.0:
            return 1.0, 0.0
        return (1.0, self.momentum) if self.nesterov else (0.0, 1.0)

    def squares(self, before: Tensor | None, gradient: Tensor) -> Tensor:
        """Return the moving mean of the squared gradients after one more."""
        new = (1.0 - self.betas[1]) * gradient.square()
        return new if before is None else new.add_(before, alpha=self.betas[1])

    def scale(self, step: int, squares: Tensor) -> Tensor:
        """Return what a step is multiplied by, weight by weight."""
        correction = math.sqrt(1.0 - self.betas[1] ** (step + 1))
        return 1.0 / (squares.sqrt() / correction + self.eps)

    def build(self, parameters: list[nn.Parameter], learning_rate: float) -> optim.Optimizer:
        """Return torch's own optimiser of this rule."""
        if self.optimizer == "sgd":
            return optim.SGD(
                parameters, lr=learning_rate, momentum=self.momentum, nesterov=self.nesterov,
                weight_decay=self.weight_decay,
            )  # fmt: skip
        kind = optim.AdamW if self.decays_apart else optim.Adam
        return kind(
            parameters, lr=learning_rate, betas=self.betas, eps=self.eps,
            weight_decay=self.weight_decay,
        )  # fmt: skip


class Shares:
    """The parts of each step, in order: what the training points did, and what the weight decay.

    Args:
        rule: The optimiser's, whose memory is empty before the first step.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._memories: list[Tensor | None] = [None, None]
        self._squares: Tensor | None = None

    def step(
        self, number: int, rate: float, gradient: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the parts of one step, `(p,)` each: of the points, and of the decay if any."""
        rule, decay = self.rule, self.rule.weight_decay
        pull = decay * weights if decay and not rule.decays_apart else None
        scale: Tensor | float = 1.0
        if rule.is_adaptive:
            total = gradient if pull is None else gradient + pull
            self._squares = rule.squares(self._squares, total)
            scale = rule.scale(number, self._squares)
        direct, through = rule.weights_of(number)
        parts: list[Tensor | None] = []
        for index, source in enumerate((gradient, pull)):
            memory = self._memories[index]
            if rule.has_memory:
                memory = _sum(_times(rule.keep, memory), _times(rule.take, source))
                self._memories[index] = memory
            change = _sum(_times(direct, source), _times(through, memory))
            parts.append(None if change is None else -rate * scale * change)
        points, lost = parts
        if decay and rule.decays_apart:
            lost = -rate * decay * weights
        return torch.zeros_like(gradient) if points is None else points, lost


def _times(factor: float, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None or factor == 0.0 else factor * tensor


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
