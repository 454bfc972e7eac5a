"""Jacobian-based saliency maps: the two most salient entries at a time, to the side of the box."""

import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._problem import Problem, runners_up
from levelset.errors import ParameterError

__all__ = ["jsma"]

# Pairs are searched among this many entries: those that raise the target most, and those that
# lower the others most.
_SHORTLIST = 64


@attack()
def jsma(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    bounds: Bounds | None = None,
    step: float = 1.0,
    share: float = 0.15,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Change few entries, by saliency: two at a time, until the target is reached (L0).

    With $\alpha_i = \partial f_t / \partial x_i$ and $\beta_i = \sum_{j \ne t} \partial f_j /
    \partial x_i$, the pair (p, q) is changed that maximises $-(\alpha_p + \alpha_q)(\beta_p +
    \beta_q)$ among those with $\alpha_p + \alpha_q > 0 > \beta_p + \beta_q$: raised by `step` of
    the box's width if that goes further, or lowered, with both signs turned. An entry at the side
    of the box that it would move to takes no part. Where there is no such pair, the logits less
    their mean are tried, which are the same classes: of (0, f) no entry raises one logit and lowers
    the other, of (-f/2, f/2) every entry does. Rows that are across, that have no such pair either,
    or that have used up their share leave the batch.

    Always targeted; without `targets` the target is the class of the second highest logit. Pairs
    are searched among the 64 entries with the largest $\alpha$ and the 64 with the smallest
    $\beta$, where the paper compares all pairs; and both signs, where the paper fixes one.

    Cost: a forward pass and two gradients a step; at most `share` / 2 of the entries steps.

    Args:
        targets: The classes to reach, `(n,)`; `None` for those of the second highest logits.
        bounds: Smallest and largest value of an input, finite; `None` for the classifier's own,
            or 0 to 1.
        step: Share of the box's width by which an entry changes, in (0, 1].
        share: Largest share of the entries that may change, in (0, 1].

    Returns:
        The points of the targets' classes; `distance` is the number of changed entries.

    Raises:
        ParameterError: If an option is out of range, the bounds are infinite, points lie outside
            them, or a target equals its label.
        FieldError: If the model is flat at every input.

    References:
        - N. Papernot et al., "The limitations of deep learning in adversarial settings", IEEE
          EuroS&P 2016: algorithms 2 and 3.
        - R. Wiyatno, A. Xu, "Maximal Jacobian-based saliency map attack", 2018: both signs.
    """
    for name, value in (("step", step), ("share", share)):
        if not 0.0 < value <= 1.0:
            message = f"jsma: `{name}` must lie in (0, 1], got {value}."
            raise ParameterError(message)
    if targets is None:
        targets = runners_up("jsma", model, points, labels, batch_size)
    problem = Problem("jsma", model, points, labels, targets, 0.0, bounds, batch_size)
    if not bool((problem.low.isfinite() & problem.high.isfinite()).all()):
        message = "jsma: `bounds` must be finite, for steps are shares of their width."
        raise ParameterError(message)
    most = int(share * problem.points[0:1].numel()) if len(points) else 0
    _change_pairs(problem, problem.open(), step, most, progress)
    return problem.result()


class _TargetAndOthers(nn.Module):
    """The logit of a class, and the sum of all others."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor, classes: Tensor) -> Tensor:
        """Return `(n, 2)` for classes `(n,)`."""
        logits = self.model(points)
        own = logits.gather(1, classes.unsqueeze(1))
        return torch.cat([own, logits.sum(1, keepdim=True) - own], 1)


def _change_pairs(
    problem: Problem, rows: Tensor, step: float, most: int, progress: Progress | None
) -> None:
    field = Evaluator(problem.function, _TargetAndOthers(problem.model), problem.batch_size)
    points = problem.points[rows]
    total = max(most // 2, 1)
    # Of the sum of all logits, what one of them and what the others are, on the mean.
    k = max(problem.logits.shape[1], 1)
    shares = points.new_tensor([1.0 / k, 1.0 - 1.0 / k]).view(1, 2, 1)
    width = step * (problem.high - problem.low)
    for done in range(total):
        if len(rows):
            problem.forwards[rows] += 1
            problem.gradients[rows] += 2
            _, slopes = field.value_and_jacobian(points, problem.anchors(rows))
            if done == 0 and not slopes.nan_to_num().any():
                problem.refuse_flat(rows, points)
            move, moved = _most_salient(problem, points, slopes)
            if not moved.all():
                centred = slopes[~moved] - slopes[~moved].sum(1, keepdim=True) * shares
                move[~moved], moved[~moved] = _most_salient(problem, points[~moved], centred)
            rows = rows[moved]
            points = problem.clip(points[moved] + move[moved] * width)
        if len(rows):
            margin = problem.margin(rows, points)
            problem.offer(rows, points, margin)
            left = ~problem.across(rows, margin)
            rows, points = rows[left], points[left]
        if progress is not None:
            progress(done + 1, total)


def _most_salient(problem: Problem, points: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the signs by which entries move, zero but for a pair, and which rows have a pair."""
    sound = slopes.isfinite().flatten(1).all(1)
    slopes = torch.where(column(sound, slopes), slopes, 0.0)
    best = points.new_zeros(len(points))
    move = torch.zeros_like(points).flatten(1)
    for sign, side in ((1.0, problem.high), (-1.0, problem.low)):
        free = (points != side).flatten(1)
        score, pair = _best_pair(sign * slopes[:, 0], sign * slopes[:, 1], free)
        better = score > best
        best = torch.where(better, score, best)
        step = torch.zeros_like(move).scatter(1, pair, sign)
        move = torch.where(better.unsqueeze(1), step, move)
    return move.view_as(points), best > 0


def _best_pair(alpha: Tensor, beta: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest saliency of two free entries, `(m,)`, 0 for none, and the two `(m, 2)`."""
    count = min(_SHORTLIST, alpha.shape[1])
    first = torch.where(free, alpha, -torch.inf).topk(count, 1).indices
    second = torch.where(free, -beta, -torch.inf).topk(count, 1).indices
    listed = torch.cat([first, second], 1)
    a, b, ok = (t.gather(1, listed) for t in (alpha, beta, free))
    rise, fall = a.unsqueeze(2) + a.unsqueeze(1), b.unsqueeze(2) + b.unsqueeze(1)
    distinct = listed.unsqueeze(2) != listed.unsqueeze(1)
    usable = distinct & (ok.unsqueeze(2) & ok.unsqueeze(1)) & (rise > 0) & (fall < 0)
    saliency = torch.where(usable, -rise * fall, 0.0).flatten(1)
    score, index = saliency.max(1)
    pair = torch.stack([index // listed.shape[1], index % listed.shape[1]], 1)
    return score, listed.gather(1, pair)
