"""Attacks made on one model, tried on all: the tables of black-box robustness."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.checks import check_callable, check_instance, check_labels
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Result
from levelset._typing import Labels, Model, Points, Progress, Summary
from levelset.attacks._search._attack import Attack
from levelset.errors import ParameterError

__all__ = ["Transfer", "transfer"]


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Result):
    """Accuracies of every model under attacks made on every model.

    Attributes:
        names: The models, in the order of rows and columns.
        accuracy: Share of the inputs that the model of the column gets right after the attack on
            the model of the row, `(sources, targets)`; the diagonal is the white box.
        clean: Share that each gets right before any attack, `(targets,)`.
    """

    _headline: ClassVar = ("accuracy", "clean_mean", "accuracy_mean")

    names: tuple[str, ...]
    accuracy: Float[Tensor, "sources targets"]
    clean: Float[Tensor, " targets"]

    def summary(self) -> Summary:
        """Return means, and every accuracy as `source -> target`, ready for JSON."""
        numbers: Summary = {
            "clean_mean": float(self.clean.mean()),
            "accuracy_mean": float(self.accuracy.mean()),
        }
        for name, share in zip(self.names, self.clean.tolist(), strict=True):
            numbers[f"clean -> {name}"] = share
        for source, row in zip(self.names, self.accuracy.tolist(), strict=True):
            for target, share in zip(self.names, row, strict=True):
                numbers[f"{source} -> {target}"] = share
        return numbers


@checked
def transfer(
    models: Mapping[str, Model],
    points: Points,
    labels: Labels,
    *,
    attack: Callable[..., Attack],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Transfer:
    """Attack every model, and evaluate every model on what came out.

    The points of an attack are used whether or not it succeeded on its own model; give methods of
    fixed radius, and `keep="last"` or `keep="best"`, as a point that has only just crossed one
    model's boundary rarely crosses another's. An input that its source gets wrong is not moved.

    Cost: one attack a model, and one forward pass an input for every pair of models.

    Args:
        models: The models by name, all on the same inputs and classes.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        attack: Called as `attack(model, points, labels)`; `functools.partial` fixes its options.
        batch_size: Most points an evaluation of a target; `None` for the number that runs
            fastest.
        progress: Called as `progress(done, total)` after each attack.

    Returns:
        The table of accuracies, one row a source and one column a target.

    Raises:
        ParameterError: If there is no model, no input, or a label out of range.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from levelset.attacks import fgsm, transfer
        >>> one = torch.nn.Linear(2, 2)
        >>> _ = one.weight.data.copy_(torch.eye(2))
        >>> _ = one.bias.data.zero_()
        >>> points, labels = torch.tensor([[0.7, 0.5], [1.0, 0.0]]), torch.tensor([0, 0])
        >>> transfer({"one": one}, points, labels, attack=partial(fgsm, radius=0.25))
        Transfer(accuracy=(1, 1), clean_mean=1, accuracy_mean=0.5)

    References:
        - Atzmon et al. 2019, supplement, Tables A3 and A4.
    """
    if not models or len(points) == 0:
        message = (
            f"transfer: `models` and `points` must hold one at least, got {len(models)} models "
            f"and {len(points)} inputs."
        )
        raise ParameterError(message)
    check_callable("transfer", "attack", attack, ("model", "points", "labels"))
    rows = []
    clean = _accuracies(models, points, labels, batch_size)
    for done, source in enumerate(models.values()):
        result = check_instance("transfer", "attack(...)", attack(source, points, labels), Attack)
        rows.append(_accuracies(models, result.points, labels, batch_size))
        if progress is not None:
            progress(done + 1, len(models))
    return Transfer(tuple(models), torch.stack(rows), clean)


def _accuracies(
    models: Mapping[str, Model], points: Tensor, labels: Tensor, batch_size: int | None
) -> Tensor:
    """Return the share of the points that each model gets right."""
    shares = []
    for model in models.values():
        with frozen(model):
            read = as_logits("transfer", model, points.detach())
            logits = Evaluator("transfer", read, batch_size).values(points)
        check_labels("transfer", labels, points, logits.shape[1])
        shares.append((logits.argmax(1) == labels).double().mean())
    return torch.stack(shares)
