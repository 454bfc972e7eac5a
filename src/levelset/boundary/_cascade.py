"""Attacks within a radius, one after another, each on the inputs that the others left standing."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset._tools.norms import norm_of
from levelset._tools.random import Streams, content_names
from levelset._typing import Progress
from levelset.attacks import direct_boundary
from levelset.attacks._pgd import AutoStep
from levelset.attacks._search._ball import Ball
from levelset.attacks._search._objective import LossName, Objective
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._windows import windows
from levelset.errors import LevelSetWarning, NoGradientError

__all__ = ["Cascade", "Stage", "warn_if_flat", "warn_if_random"]

Kind: TypeAlias = Literal["step", "climb", "walk", "square"]

_NAMES: dict[Kind, str] = {
    "step": "fgsm",
    "climb": "pgd",
    "walk": "direct_boundary",
    "square": "square",
}
# Inputs that are asked twice, to see whether the model answers at random; and how far two answers
# of one that does not may differ, as a share of the largest logit.
_ASKED_TWICE, _NOISE = 32, 1e-3
# Where more than this share of the inputs falls at a step, a forward pass first tells which ones,
# and only the others cost a gradient.
_MANY = 0.15


@dataclass(frozen=True)
class Stage:
    """One attack of a cascade.

    Attributes:
        kind: A single `step` along the gradient at the input; a `climb` of a loss by adaptive
            steps; a `walk` along the boundary; or windows without any gradient, `square`.
        steps: How many.
        loss: What is climbed.
        rival: The rank of the class it goes towards, by the logits at the input, where rank 1 is
            the runner-up; `None` for whichever is highest.
        near: It takes inputs whose lowest margin is at most this share of the margin at the input.
        resumes: Whether a climb starts from the points of lowest margin; windows always do.
        goes_on: After how many windows an input goes on only if its lowest margin is at most which
            share of the margin at the input.
    """

    kind: Kind
    steps: int = 1
    loss: LossName = "margin"
    rival: int | None = None
    near: float = 1.0
    resumes: bool = False
    goes_on: tuple[tuple[int, float], ...] = ()

    @property
    def name(self) -> str:
        """The name of the attack in `levelset.attacks`."""
        return _NAMES[self.kind]


class Cascade:
    """Which inputs still stand, and the point of the lowest margin that each was brought to.

    An input draws its random numbers by its own content. So what becomes of it does not depend on
    which other inputs there are, nor in what order.

    Args:
        problem: What is attacked; `problem.best` holds the points of lowest margin.
        radius: Largest norm of a perturbation: one for all, or, L-infinity alone, one each, `(n,)`.
        seed: Of everything random.

    Attributes:
        correct: Whether an input is classified right to begin with, `(n,)`.
        stands: Whether an input is classified right and was not moved into another class, `(n,)`.
        lowest: The lowest margin met, `(n,)`.
        broken_by: The number of the stage that broke an input, `(n,)`; -1 for none.
        falling: The share of inputs that fell at the last single step.
        flat: Whether the margin has no gradient at the input, `(n,)`.
    """

    def __init__(self, problem: Problem, radius: float | Tensor, seed: int) -> None:
        assert problem.looked, "a cascade begins with the gradients at the inputs"
        self.problem, self.ball, self.seed = problem, Ball(problem, radius), seed
        self.names = content_names(problem.points)
        self.correct = problem.distance > 0
        self.stands = self.correct.clone()
        self.lowest = problem.margins.clone()
        self.broken_by = torch.full_like(problem.labels, -1)
        own = problem.labels.unsqueeze(1)
        ranked = problem.logits.scatter(1, own, math.inf) if problem.logits.shape[1] else own
        self.ranked = ranked.argsort(dim=1, descending=True, stable=True)
        self.differentiable = problem.slope is not None
        self.slope = torch.zeros_like(problem.points)
        self.flat = self._look()
        self.falling = 0.0

    def run(self, number: int, stage: Stage, progress: Progress | None = None) -> None:
        """Make one attack on the inputs that stand and that it is for."""
        rows = self.stands.nonzero().flatten()
        rows = rows[self._near(rows, stage.near)]
        steps: dict[Kind, Callable[..., None]] = {
            "step": self._step,
            "climb": self._climb,
            "walk": self._walk,
            "square": self._square,
        }
        # The windows take every input of a model that has no gradients.
        if len(rows) and (self.differentiable or stage.kind == "square"):
            steps[stage.kind](number, rows, stage, progress)
        if progress is not None:
            progress(1, 1)

    def begin_from(self, rows: Tensor, points: Tensor) -> None:
        """Take points of `rows` within their radius for those of lowest margin so far."""
        margins = self.problem.margin(rows, points)
        lower = margins < self.lowest[rows]
        changed = rows[lower]
        self.problem.best[changed], self.lowest[changed] = points[lower], margins[lower]

    def judge(self) -> None:
        """Evaluate the witnesses once more, in other batches; those that do not hold stand."""
        problem, rows = self.problem, (self.broken_by >= 0).nonzero().flatten()
        points = problem.best[rows]
        reached, _, finite = problem.judge(rows, points)
        inside = (problem.clip(points) == points).flatten(1).all(1)
        within = self.ball.within(rows, norm_of(points - problem.points[rows], problem.norm))
        lost = rows[~(reached & finite & inside & within)]
        self.broken_by[lost] = -1
        self.stands[lost] = True

    def _look(self) -> Tensor:
        """Take the gradient at the inputs that stand; return where there is none."""
        if self.problem.slope is None:
            return self.stands.clone()
        self.slope = -torch.where(self.problem.slope.isfinite(), self.problem.slope, 0.0)
        rows = torch.arange(len(self.slope), device=self.slope.device)
        self.problem.note_rounding(rows, self.problem.points, self.slope)
        return self.stands & ~(self.slope.flatten(1) != 0).any(1)

    def _note(self, number: int, rows: Tensor, points: Tensor, margins: Tensor) -> Tensor:
        """Keep points of a lower margin; return which rows still stand, a mask `(m,)`."""
        across = self.problem.across(rows, margins)
        lower = across | (margins < self.lowest[rows])
        changed = rows[lower]
        self.problem.best[changed], self.lowest[changed] = points[lower], margins[lower]
        self.stands[rows[across]] = False
        self.broken_by[rows[across]] = number
        return ~across

    def _streams(self, number: int) -> Streams:
        generator = torch.Generator().manual_seed(self.seed + number)
        return Streams(generator, self.problem.points, self.names)

    def _step(self, number: int, rows: Tensor, stage: Stage, progress: Progress | None) -> None:
        """Go the whole radius along the gradient at the input."""
        del stage, progress
        points, ball = self.problem.points[rows], self.ball
        way = ball.steepest(rows, points, self.slope[rows])
        there = ball.project(rows, points + ball.reach(rows) * way)
        left = self._note(number, rows, there, self.problem.margin(rows, there))
        self.falling = _share(~left)

    def _climb(self, number: int, rows: Tensor, stage: Stage, progress: Progress | None) -> None:
        rivals = None if stage.rival is None else self.ranked[:, stage.rival]
        objective = Objective(self.problem, stage.loss, rivals=rivals)
        advance = AutoStep(self.ball, stage.steps)
        if stage.resumes:
            points = self.problem.best[rows]
        else:
            points = self.ball.start(rows, self._streams(number), 0)
        falling = self.falling
        for step in range(stage.steps):
            # The points of lowest margin are known to stand.
            fresh = step > 0 or not stage.resumes
            first = fresh and falling > _MANY
            if first:
                left = self._note(number, rows, points, self.problem.margin(rows, points))
                falling = _share(~left)
                rows, points = rows[left], points[left]
            if len(rows) == 0:
                return
            loss, gradient, margins = objective.value_and_gradient(rows, points)
            left = self._note(number, rows, points, margins)
            if fresh and not first:
                falling = _share(~left)
            rows = rows[left]
            points = advance(rows, points[left], loss[left], gradient[left])
            if progress is not None:
                progress(step + 1, stage.steps)
        if len(rows):
            self._note(number, rows, points, self.problem.margin(rows, points))

    def _walk(self, number: int, rows: Tensor, stage: Stage, progress: Progress | None) -> None:
        """Walk along the boundary; witnesses beyond the radius are dropped."""
        problem = self.problem
        try:
            made = direct_boundary(
                problem.model,
                problem.points[rows],
                problem.labels[rows],
                norm=problem.norm,
                bounds=(problem.low, problem.high),
                steps=stage.steps,
                batch_size=problem.batch_size,
                progress=progress,
            )
        except NoGradientError:
            return
        problem.forwards[rows] += made.evaluations
        problem.gradients[rows] += made.gradients
        within = made.success & self.ball.within(rows, made.distance)
        if within.any():
            rows, there = rows[within], made.points[within]
            self._note(number, rows, there, problem.margin(rows, there))

    def _square(self, number: int, rows: Tensor, stage: Stage, progress: Progress | None) -> None:
        search = windows(self.problem, self.ball, stage.steps, self._streams(number))
        search.lowest = self.lowest
        goes_on = dict(stage.goes_on)
        for step in range(stage.steps):
            if step in goes_on:
                rows = rows[self._near(rows, goes_on[step])]
            if len(rows) == 0:
                break
            left = search.step(rows, step)
            if len(left) < len(rows):
                through = rows[~torch.isin(rows, left)]
                self.stands[through], self.broken_by[through] = False, number
            rows = left
            if progress is not None:
                progress(step + 1, stage.steps)

    def _near(self, rows: Tensor, share: float) -> Tensor:
        """Return which rows come near enough, or have no gradient that would bring them there."""
        return (self.lowest[rows] <= share * self.problem.margins[rows]) | self.flat[rows]


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def warn_if_random(function: str, problem: Problem) -> None:
    """Warn of a model that answers otherwise when it is asked again."""
    first = problem.points[:_ASKED_TWICE]
    if len(first) == 0 or not problem.logits.shape[1]:
        return
    problem.forwards[: len(first)] += 1
    again = Evaluator(function, problem.model, problem.batch_size).values(first)
    before = problem.logits[: len(first)]
    differs = ((before - again).abs() > _NOISE * before.abs().amax()).any(1)
    if bool(differs.any()):
        asked = f"{len(first)} inputs" if len(first) == len(problem.points) else (
            f"the first {len(first)} inputs"
        )  # fmt: skip
        message = (
            f"{function}: `model` answers {int(differs.sum())} of {asked} otherwise when it is "
            "asked again, so a witness may be lost and the number means little. Give a model that "
            "draws no random numbers, or the average of its answers."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=5)


def warn_if_flat(function: str, cascade: Cascade) -> None:
    """Warn of inputs at which attacks by gradients have nothing to follow."""
    flat = cascade.flat
    if bool(flat.any()):
        message = (
            f"{function}: the margin of `model` has no gradient at {int(flat.sum())} of "
            f"{len(flat)} inputs, so attacks by gradients fail there whether or not the model is "
            "robust. Searches without gradients take those inputs; give effort='thorough'."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=5)
