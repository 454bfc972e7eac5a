"""Projected gradient descent from random starts, with a fixed or an adaptive step."""

import math

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._ascent import Ascent, Keep, straight
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import Ball, column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import LossName
from levelset.attacks._search._problem import Problem

__all__ = ["AutoStep", "pgd"]

# Croce & Hein 2020, section 3: share of the steps that must raise the loss, first interval
# between checks, by how much each is shorter than the one before, and the shortest, as shares of
# all steps.
_MUST_RISE = 0.75
_FIRST_CHECK, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06
_INERTIA = 0.75
# Croce & Hein 2021, section 4: the same for L1.
_L1_CHECK, _L1_FIRST_SHARE, _L1_SPARSER, _L1_SHRINK, _L1_LEAST = 0.04, 0.2, 1.5, 1.5, 0.1
_L1_STEADY = 0.95


@attack(math.inf, 2.0, 1.0)
def pgd(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    steps: int = 40,
    step_size: float | None = None,
    loss: LossName = "cross_entropy",
    keep: Keep = "first",
    restarts: int = 1,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Climb a loss within a ball about each input, from a random start.

    $$x_{m+1} = P\bigl(x_m + \alpha\, s(\nabla_x \ell(f(x_m), y))\bigr),$$

    where s is the step of norm 1 along which the linearised loss grows fastest (the sign for
    L-infinity, the normalised gradient for L2, the sign on the largest twentieth of the entries
    for L1), and P brings the point back into the ball and the box. The start is uniform in the
    ball, clipped to the box.

    With `step_size=None` the step adapts as Auto-PGD's does: it begins at twice the radius, has
    momentum, and is halved, going on from the best point so far, where the loss stops growing;
    for L1 the number of entries a step changes adapts too.

    Cross-entropy saturates: on a confident float32 network its gradient vanishes at inputs that
    the margin loss takes easily. Report the margin loss beside it.

    A failed attack proves nothing; the share of inputs that withstand is an upper bound of the
    robust accuracy. It is a number about the *protocol* too: papers that judge the last of 40
    iterates need `steps=40, step_size=..., keep="last"`.

    Cost: `steps` times `restarts` gradients and as many forward passes, and three more forward
    passes; with `keep="first"` an input leaves once it is
    misclassified.

    Args:
        steps: Steps a start.
        step_size: Length of each; `None` for the adaptive schedule.
        restarts: Number of random starts; an input misclassified at the end of one takes
            part in the next only with `keep="best"`.
        batch_size: Most points an evaluation; `None` for the number that runs fastest. It does
            not change what is drawn.

    Example:
        >>> import torch
        >>> from levelset.attacks import pgd
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> _ = model.bias.data.zero_()
        >>> pgd(model, torch.tensor([[0.7, 0.5], [1.0, 0.0]]), radius=0.25, norm=2.0).success
        tensor([ True, False])

    References:
        - A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR
          2018; the margin loss as in Atzmon et al. 2019, section 5.2.
        - F. Croce, M. Hein, "Reliable evaluation of adversarial robustness", ICML 2020: the
          adaptive step and the ratio loss; "Mind the box", ICML 2021: both for L1.
    """
    problem = Problem("pgd", model, points, labels, targets, norm, bounds, batch_size)
    ascent = Ascent(problem, radius, loss, keep)
    streams, ball = Streams(generator, points), ascent.ball
    for start in range(restarts):
        rows = ascent.open()
        advance = AutoStep(ball, steps) if step_size is None else straight(ball, step_size)
        of_start = None if progress is None else _later(progress, start, restarts)
        ascent.climb(rows, ball.start(rows, streams, start), steps, advance, of_start)
    return ascent.result()


def _later(progress: Progress, start: int, restarts: int) -> Progress:
    """Return the hook of one start among several."""

    def told(done: int, total: int, /) -> None:
        progress(start * total + done, restarts * total)

    return told


class AutoStep:
    """The rule by which points advance, and its memory, one row an input.

    Args:
        ball: Where the points may go.
        steps: How many will be taken.
    """

    def __init__(self, ball: Ball, steps: int) -> None:
        self.ball, self.steps, self.taken = ball, steps, 0
        self.sparse = ball.norm == 1.0
        centres = ball.centres
        n = len(centres)
        self.longest = ball.radius * (1.0 if self.sparse else 2.0)
        self.size = centres.new_full((n,), self.longest)
        if ball.radii is not None:
            self.size = 2.0 * ball.radii
        self.share = centres.new_full((n,), _L1_FIRST_SHARE)
        self.changed = centres.new_full((n,), float(centres[0:1].numel()))
        self.before = torch.empty_like(centres)
        self.best, self.best_gradient = torch.empty_like(centres), torch.empty_like(centres)
        self.best_loss = centres.new_full((n,), -torch.inf)
        self.last_loss = centres.new_full((n,), torch.inf)
        self.checked_loss = self.best_loss.clone()
        self.risen = torch.zeros_like(self.size)
        self.halved = torch.ones_like(self.size, dtype=torch.bool)
        self.interval = self._first_interval()
        self.next_check = self.interval

    def __call__(self, rows: Tensor, points: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        """Return the next points of the inputs `rows`."""
        self._remember(rows, points, loss, gradient)
        if self.taken == self.next_check:
            points, gradient = self._check(rows, points, gradient)
        # The first step has nothing to keep up with.
        inertia = 1.0 if self.taken == 0 or self.sparse else _INERTIA
        direction = self.ball.steepest(rows, points, gradient, self.share)
        there = self.ball.project(rows, points + column(self.size[rows], points) * direction)
        if inertia < 1.0:
            drift = inertia * (there - points) + (1.0 - inertia) * (points - self.before[rows])
            there = self.ball.project(rows, points + drift)
        self.before[rows] = points
        self.taken += 1
        return there

    def _remember(self, rows: Tensor, points: Tensor, loss: Tensor, gradient: Tensor) -> None:
        self.risen[rows] += loss > self.last_loss[rows]
        self.last_loss[rows] = loss
        higher = loss > self.best_loss[rows]
        better = rows[higher]
        self.best[better], self.best_gradient[better] = points[higher], gradient[higher]
        self.best_loss[better] = loss[higher]
        if self.taken == 0:
            self.checked_loss[rows] = loss

    def _check(self, rows: Tensor, points: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Adapt the steps, and take the rows that change theirs back to their best points."""
        back = self._sparser(rows) if self.sparse else self._shorter(rows)
        if not self.sparse:
            least = max(int(_SHORTEST * self.steps), 1)
            self.interval = max(self.interval - max(int(_SHORTER * self.steps), 1), least)
        self.next_check += self.interval
        self.risen[rows] = 0.0
        choice = column(back, points)
        known = column(self.best_loss[rows].isfinite(), points) & choice
        points = torch.where(known, self.best[rows], points)
        return points, torch.where(known, self.best_gradient[rows], gradient)

    def _shorter(self, rows: Tensor) -> Tensor:
        """Halve the steps that oscillate or stall, and return which."""
        few = self.risen[rows] <= _MUST_RISE * self.interval
        stalled = ~self.halved[rows] & (self.best_loss[rows] <= self.checked_loss[rows])
        halve = few | stalled
        self.size[rows] *= torch.where(halve, 0.5, 1.0)
        self.halved[rows] = halve
        self.checked_loss[rows] = self.best_loss[rows]
        return halve

    def _sparser(self, rows: Tensor) -> Tensor:
        """Set the number of entries by the best point's; return where that fell."""
        changed = norm_of(self.best[rows] - self.ball.centres[rows], 0.0)
        fell = changed < _L1_STEADY * self.changed[rows]
        self.share[rows] = changed / max(self.best[0:1].numel(), 1) / _L1_SPARSER
        shrunk = (self.size[rows] / _L1_SHRINK).clamp(min=_L1_LEAST * self.longest)
        self.size[rows] = torch.where(fell, self.longest, shrunk)
        self.changed[rows] = changed
        return fell

    def _first_interval(self) -> int:
        return max(int((_L1_CHECK if self.sparse else _FIRST_CHECK) * self.steps), 1)
