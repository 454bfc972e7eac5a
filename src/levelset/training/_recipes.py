"""Trainings by name: loss, optimiser, schedules, epochs and batch size of published experiments.

A new recipe is one `Recipe` in the list below; `train --recipe` and `recipe` know it from then on.
"""

from dataclasses import dataclass, fields
from typing import Any

from levelset._tools.arguments import checked
from levelset._tools.checks import shown
from levelset._tools.results import Result
from levelset.errors import DataError
from levelset.training._augmentation import Augmentation
from levelset.training._loop import Optimizer
from levelset.training._losses import build_loss, build_schedule

__all__ = ["RECIPES", "Recipe", "recipe"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe(Result):
    """The options of one training, as text and numbers.

    Attributes:
        name: Data and loss.
        source: Where the numbers are from, and where they depart from it.
        network: The network of the experiment, as `datasets.build_network` reads it.
        loss: As [`build_loss`][levelset.training.build_loss] reads it: a loss, or a sum of losses
            with weights; numbers may follow schedules.
        optimizer: As `train` takes it.
        learning_rate: Before the schedule.
        weight_decay: On all parameters.
        schedule: As [`build_schedule`][levelset.training.build_schedule] reads it.
        clip_norm: As `train` takes it.
        epochs: How often each input is seen. Shares in schedules scale with it.
        batch_size: Inputs a step.
        shift: As [`Augmentation`][levelset.training.Augmentation] takes it.
        flip: As `Augmentation` takes it.
    """

    name: str
    source: str
    network: str
    loss: str
    optimizer: Optimizer = "adam"
    learning_rate: float
    weight_decay: float = 0.0
    schedule: str = "constant"
    clip_norm: float | None = None
    epochs: int
    batch_size: int
    shift: int = 0
    flip: bool = False

    def options(self) -> dict[str, Any]:
        """Return the options for [`train`][levelset.training.train]."""
        named = ("optimizer", "learning_rate", "weight_decay", "clip_norm", "epochs", "batch_size")
        plain = {name: getattr(self, name) for name in named}
        schedule = build_schedule(self.schedule)
        moves = Augmentation(shift=self.shift, flip=self.flip) if self.shift or self.flip else None
        objects = {"loss": build_loss(self.loss), "schedule": schedule, "augmentation": moves}
        return {**plain, **objects}

    def summary(self) -> dict[str, int | float | str | bool | None]:
        """Return every option by its name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@checked
def recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Args:
        name: Such as `mnist-robust-distance`; `_` may stand for `-`.

    Raises:
        DataError: If there is none of that name; the message lists those there are.

    Example:
        >>> from levelset.training import recipe
        >>> recipe("mnist-geometric-svm").loss
        "geometric_svm(weight=ramp({0: 0.01, 50: 0.2}), ratio='output', max_iter=20)"
        >>> sorted(recipe("mnist-geometric-svm").options())[:3]
        ['augmentation', 'batch_size', 'clip_norm']

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, supplement, table A2 and
          section 2.3.
    """
    known = {one.name: one for one in RECIPES}
    if name.replace("_", "-") not in known:
        message = f"recipe: there is no {shown(name)}. Known are: {', '.join(known)}."
        raise DataError(message)
    return known[name.replace("_", "-")]


# Halved at epochs 100 and 150.
_HALVED = "steps({100: 0.5, 150: 0.25})"
_GENERALIZATION = (
    "Atzmon et al. 2019, table A2 (B2), but for the ratio of the first term: as published it "
    "hardly learns from random weights"
)
_ROBUSTNESS = (
    "Atzmon et al. 2019, supplement 2.3; the learning rate, left open there, of their code"
)
_CIFAR = f"{_ROBUSTNESS}, as are the random crops and flips"

RECIPES = (
    Recipe(
        name="figure-1-geometric-svm",
        source="Atzmon et al. 2019, supplement 2.1; the norm L2 of the figure's second panel",
        network="fc(2, 512, 512, 512, 2)",
        loss="geometric_svm(weight=0.001, norm=2, max_iter=20)",
        learning_rate=1e-3,
        epochs=1000,
        batch_size=1,
    ),
    Recipe(
        name="mnist-geometric-svm",
        source=f"{_GENERALIZATION}; batches of 32 for fractions of at most 0.3 %",
        network="convnet_2b",
        loss="geometric_svm(weight=ramp({0: 0.01, 50: 0.2}), ratio='output', max_iter=20)",
        optimizer="nesterov",
        learning_rate=0.02,
        weight_decay=1e-4,
        schedule=(
            "steps({50: 0.5, 100: 0.25, 120: 0.125, 140: 0.0625, 160: 0.03125, 180: 0.015625})"
        ),
        epochs=200,
        batch_size=256,
    ),
    Recipe(
        name="fashion-mnist-geometric-svm",
        source=_GENERALIZATION,
        network="convnet_2b",
        loss="geometric_svm(weight=ramp({0: 0.01, 50: 0.2}), ratio='output', max_iter=20)",
        optimizer="nesterov",
        learning_rate=0.02,
        weight_decay=1e-4,
        schedule="steps({50: 0.5, 100: 0.25, 120: 0.125})",
        epochs=200,
        batch_size=32,
    ),
    Recipe(
        name="few-images-geometric-svm",
        source=(
            f"our experiments/large_margin_figure_2.py, for up to 1 % of MNIST or Fashion-MNIST; "
            f"{_GENERALIZATION}, but for the weight, how the level sets are sampled, and 100 epochs"
        ),
        network="convnet_2b",
        loss="geometric_svm(weight=0.1, ratio='output', share=0.0625, max_iter=1)",
        optimizer="nesterov",
        learning_rate=0.02,
        weight_decay=1e-4,
        schedule=("steps({25: 0.5, 50: 0.25, 60: 0.125, 70: 0.0625, 80: 0.03125, 90: 0.015625})"),
        epochs=100,
        batch_size=32,
    ),
    Recipe(
        name="cifar10-geometric-svm",
        source=_GENERALIZATION,
        network="convnet_4b",
        loss="geometric_svm(weight=ramp({0: 0.0, 50: 0.01}), ratio='output', max_iter=20)",
        optimizer="nesterov",
        learning_rate=0.01,
        weight_decay=1e-4,
        schedule="steps({50: 0.5})",
        epochs=100,
        batch_size=32,
    ),
    Recipe(
        name="mnist-cross-entropy",
        source=_ROBUSTNESS,
        network="convnet_4a",
        loss="cross_entropy",
        learning_rate=1e-3,
        schedule=_HALVED,
        epochs=200,
        batch_size=128,
    ),
    Recipe(
        name="mnist-madry",
        source=_ROBUSTNESS,
        network="convnet_4a",
        loss="adversarial(radius=0.3, steps=40, step_size=0.01)",
        learning_rate=1e-4,
        weight_decay=1e-6,
        epochs=200,
        batch_size=128,
    ),
    Recipe(
        name="mnist-trades",
        source=_ROBUSTNESS,
        network="convnet_4a",
        loss="trades(radius=0.3, beta=6.0, steps=40, step_size=0.01)",
        learning_rate=1e-4,
        epochs=200,
        batch_size=128,
    ),
    Recipe(
        name="mnist-robust-distance",
        source=_ROBUSTNESS,
        network="convnet_4a",
        loss=(
            "robust_distance(radius=0.4, radius_wrong=0.5, steps=40, step_size=0.01, max_iter=40)"
        ),
        learning_rate=1e-3,
        schedule=_HALVED,
        epochs=200,
        batch_size=128,
    ),
    Recipe(
        name="mnist-level-sets",
        source=(
            "This library, experiments/robust_training.py: Atzmon et al. 2019, Eq. 12, and the "
            "cross-entropy where its search ends, which goes on from there an epoch later; more "
            "epochs fit the training images only"
        ),
        network="convnet_4a('relu')",
        loss=(
            "robust_distance(radius=ramp({'0%': 0.02, '30%': 0.3}), weight_wrong=0.0, "
            "adversarial=1.0, steps=2, step_size=ramp({'0%': 0.008, '30%': 0.12}), starts='last')"
        ),
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        clip_norm=1.0,
        epochs=7,
        batch_size=128,
    ),
    Recipe(
        name="mnist-certified",
        source=(
            "This library, experiments/robust_training.py: mnist-level-sets beside interval bounds "
            "(Gowal et al. 2019), for a network whose robustness can be proved"
        ),
        network="convnet_4a('relu')",
        loss=(
            "robust_distance(radius=ramp({'0%': 0.02, '30%': 0.3}), weight_wrong=0.0, "
            "adversarial=1.0, steps=2, step_size=ramp({'0%': 0.008, '30%': 0.12}), starts='last') "
            "+ ramp({'5%': 0.0, '40%': 0.1}) * "
            "interval_bound(radius=ramp({'5%': 0.001, '70%': 0.3}), kappa=0.0)"
        ),
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        clip_norm=1.0,
        epochs=19,
        batch_size=128,
    ),
    Recipe(
        name="mnist-interval-bound",
        source="Gowal et al. 2019, trained at 0.4 to withstand 0.3; their steps as epochs",
        network="convnet_4a",
        loss=(
            "interval_bound(radius=ramp({0: 0.001, 3: 0.001, 20: 0.4}), "
            "kappa=ramp({3: 1.0, 20: 0.5}))"
        ),
        learning_rate=5e-4,
        schedule="steps({25: 0.1, 42: 0.01})",
        epochs=100,
        batch_size=100,
    ),
    Recipe(
        name="cifar10-cross-entropy",
        source=_CIFAR,
        network="convnet_4b",
        loss="cross_entropy",
        learning_rate=3e-4,
        weight_decay=1e-6,
        schedule=_HALVED,
        epochs=200,
        batch_size=128,
        shift=4,
        flip=True,
    ),
    Recipe(
        name="cifar10-madry",
        source=_CIFAR,
        network="convnet_4b",
        loss="adversarial(radius=0.031, steps=10, step_size=0.007)",
        learning_rate=3e-4,
        weight_decay=1e-6,
        epochs=200,
        batch_size=128,
        shift=4,
        flip=True,
    ),
    Recipe(
        name="cifar10-trades",
        source=f"{_CIFAR}; radius and weight as in Zhang et al. 2019",
        network="convnet_4b",
        loss="trades(radius=0.031, beta=6.0, steps=10, step_size=0.007)",
        optimizer="momentum",
        learning_rate=0.1,
        weight_decay=2e-4,
        schedule="steps({75: 0.1, 90: 0.01, 100: 0.001})",
        epochs=200,
        batch_size=128,
        shift=4,
        flip=True,
    ),
    Recipe(
        name="cifar10-robust-distance",
        source=_CIFAR,
        network="convnet_4b",
        loss=(
            "robust_distance(radius=ramp({0: 0.001, 50: 0.045}), radius_wrong=0.05, "
            "weight_right=10.0, steps=20, step_size=0.007, max_iter=40)"
        ),
        learning_rate=3e-4,
        weight_decay=1e-6,
        schedule=_HALVED,
        epochs=200,
        batch_size=128,
        shift=4,
        flip=True,
    ),
    Recipe(
        name="cifar10-resnet-madry",
        source=f"{_CIFAR}; evaluated at epoch 50 there",
        network="resnet18_cifar",
        loss="adversarial(radius=0.031, steps=10, step_size=0.007)",
        learning_rate=1e-4,
        weight_decay=1e-6,
        epochs=50,
        batch_size=128,
        shift=4,
        flip=True,
    ),
    Recipe(
        name="cifar10-resnet-trades",
        source=f"{_CIFAR}; radius and weight as in Zhang et al. 2019",
        network="resnet18_cifar",
        loss="trades(radius=0.031, beta=6.0, steps=10, step_size=0.007)",
        optimizer="momentum",
        learning_rate=0.1,
        weight_decay=2e-4,
        schedule="steps({75: 0.1, 90: 0.01, 100: 0.001})",
        epochs=200,
        batch_size=128,
        shift=4,
        flip=True,
    ),
    Recipe(
        name="cifar10-resnet-robust-distance",
        source=_CIFAR,
        network="resnet18_cifar",
        loss=(
            "robust_distance(radius=ramp({0: 0.001, 50: 0.045}), radius_wrong=0.05, "
            "weight_right=10.0, steps=20, step_size=0.007, max_iter=40)"
        ),
        learning_rate=1e-4,
        weight_decay=1e-6,
        schedule=_HALVED,
        epochs=200,
        batch_size=128,
        shift=4,
        flip=True,
    ),
)
