"""What a step of training costs by each loss, beside a step by the plain cross-entropy.

Every loss trains its own copy of one network by `train` on the same images in the same order, one
after the other in one process; a step's cost is the CPU time of all epochs but the first over their
steps, so that losses that do more in some steps than in others are charged for all. The learning
rate falls to 0 along a cosine, which the rare and large steps of some rows need. Beside it what
was reached: accuracy on test images, and the L-infinity distance that Newton's iteration goes from
these to the boundary (median).

Three tables: large margins on `digits` and on `mnist` (ConvNet-2b; goal of the geometric SVM: 1.5
times a plain step, at the results of the exact one), and `robust` training on MNIST (ConvNet-4a;
goals: at most 4 times a plain step by robust distance, where the paper reports 8, and at most 1.15
times its own bare passes by Madry's seven steps).

A loss is one line of a table, as `levelset train --loss` takes it.
"""

import argparse
import copy
import math
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from levelset import Margin, frozen, project
from levelset.datasets import Images, read_images
from levelset.networks import convnet_2b, convnet_4a, digits
from levelset.training import build_loss, cross_entropy, initialise, train

Loss = Callable[..., Tensor]

PLAIN = "cross-entropy"
MARGINS: dict[str, Loss | str] = {
    PLAIN: "cross_entropy",
    "hinge": "hinge",
    "geometric SVM, as published": "geometric_svm(weight=0.1)",
    "geometric SVM, one Newton step": "geometric_svm(weight=0.1, max_iter=1)",
    "geometric SVM, output, one step": "geometric_svm(weight=0.1, max_iter=1, ratio='output')",
    "geometric SVM, a call in 16": (
        "geometric_svm(weight=0.1, max_iter=1, ratio='output', share=0.0625)"
    ),
    "geometric SVM, a call in 32": (
        "geometric_svm(weight=0.1, max_iter=1, ratio='output', share=0.03125)"
    ),
}


def bare_passes(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy, after seven passes for gradients in the points."""
    with frozen(model):
        for _ in range(7):
            places = points.clone().requires_grad_()
            torch.autograd.grad(cross_entropy(model, places, labels), places)
    return cross_entropy(model, points, labels)


# A radius that rises to that of the tests, for training from random weights.
_RISING = "radius=ramp({'0%': 0.02, '50%': 0.3})"
ROBUST: dict[str, Loss | str] = {
    PLAIN: "cross_entropy",
    "Madry's passes alone": bare_passes,
    "Madry, 7 steps": f"adversarial({_RISING}, steps=7)",
    "TRADES, 7 steps": f"trades({_RISING}, beta=6.0, steps=7)",
    "interval bounds": f"interval_bound({_RISING}, kappa=0.5)",
    "robust distance, 7 steps": f"cross_entropy + robust_distance({_RISING}, steps=7)",
    "robust distance, 2 from last ends": (
        f"cross_entropy + robust_distance({_RISING}, steps=2, starts='last', weight_wrong=0.0)"
    ),
    "the same, adversarial": (
        f"robust_distance({_RISING}, adversarial=1.0, steps=2, starts='last', weight_wrong=0.0)"
    ),
}
TABLES = {"digits": MARGINS, "mnist": MARGINS, "robust": ROBUST}


def step_seconds(
    network: nn.Module, data: Images, loss: Loss | str, options: argparse.Namespace
) -> float:
    """Train a network by a loss, and return the CPU seconds of a step after the first epoch."""
    times: list[float] = []
    train(
        network, data, loss=build_loss(loss) if isinstance(loss, str) else loss,
        epochs=options.epochs, optimizer="nesterov", learning_rate=options.learning_rate,
        weight_decay=0.0, batch_size=options.batch,
        generator=torch.Generator().manual_seed(options.seed),
        progress=lambda done, steps: times.append(time.process_time()),
    )  # fmt: skip
    first = len(times) // options.epochs - 1
    return (times[-1] - times[first]) / (len(times) - 1 - first)


def sets(name: str, quick: bool) -> tuple[nn.Module, Images, Images]:
    """Return a network, images to train it on, and others."""
    few = 128 if quick else 600
    if name == "digits":
        return digits(), read_images(name, split="train", limit=few), read_images(name)
    network = convnet_2b() if name == "mnist" else convnet_4a("relu")
    test = read_images("mnist", limit=200 if quick else 2_000)
    data = read_images("mnist", split="train", limit=few if name == "mnist" else 8 * few)
    return network.to(memory_format=torch.channels_last), data, test


def results(network: nn.Module, test: Images) -> tuple[float, float]:
    """Return the accuracy, and the median distance to the boundary of images that are right."""
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in test.points.split(500)])
    right = answers == test.labels
    points, labels = test.points[right][:200], test.labels[right][:200]
    moved = project(Margin(network), points, labels=labels, tol=1e-3).points
    distance = (points - moved).flatten(1).abs().amax(1)
    return float(right.double().mean()), float(distance.median())


def table(name: str, rows: dict[str, Loss | str], options: argparse.Namespace) -> None:
    """Train by every loss, and print a line for each."""
    start, data, test = sets(name, options.quick)
    initialise(start, generator=torch.Generator().manual_seed(options.seed))
    print(f"{name}, {len(data)} images, {options.epochs} epochs, batches of {options.batch}")
    print(f"{'loss':34} {'ms a step':>10} {'x plain':>8} {'right':>7} {'distance':>9}")
    plain = math.nan
    for row, loss in rows.items():
        network = copy.deepcopy(start)
        spent = step_seconds(network, data, loss, options)
        plain = spent if row == PLAIN else plain
        accuracy, distance = results(network.eval(), test)
        print(
            f"{row:34} {1e3 * spent:10.2f} {spent / plain:8.2f} {accuracy:7.1%} {distance:9.3f}",
            flush=True,
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=TABLES)
    parser.add_argument("--rows", nargs="*", default=[], help="parts of the names of rows to run")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two epochs on few images")
    options = parser.parse_args()
    if options.quick:
        options.epochs = 2
    torch.set_num_threads(1)
    for name in options.tables:
        if name != "digits" and "LEVELSET_DATA" not in os.environ:
            print(f"{name}: LEVELSET_DATA names no folder, left out")
            continue
        rows = {
            row: loss
            for row, loss in TABLES[name].items()
            if row == PLAIN or not options.rows or any(part in row for part in options.rows)
        }
        table(name, rows, options)


if __name__ == "__main__":
    main()
