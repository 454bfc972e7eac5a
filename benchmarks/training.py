"""What a step of training costs by each loss, beside a step by the plain cross-entropy.

Every loss trains its own copy of one network on the same images in the same order, an epoch of each
in turn, in one process; a step's cost is the CPU time of all epochs but the first over their steps,
so that losses that do more in some steps than in others are charged for all. The learning rate
falls to 0 along a cosine, which the rare and large steps of the last rows need.
Beside it what was reached: accuracy on test images, and the L-infinity distance that Newton's
iteration goes from these to the boundary (median). Goal of the geometric SVM: 1.5 times a plain
step, at the results of the exact one. The paper reports 8 times for its robust training.

A loss is one line of ROWS, as `levelset train --loss` takes it.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from levelset import Margin, project
from levelset.datasets import Images, read_images
from levelset.networks import convnet_2b, digits
from levelset.training import build_loss, initialise

PLAIN = "cross-entropy"
ROWS = {
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


@dataclass
class Run:
    """One network that one loss trains."""

    loss: Callable[..., torch.Tensor]
    network: nn.Module
    optimizer: torch.optim.Optimizer
    falling: torch.optim.lr_scheduler.LRScheduler
    seconds: list[float] = field(default_factory=list)

    def epoch(self, data: Images, order: torch.Tensor, batch: int) -> None:
        """Train for an epoch, and note the CPU seconds of a step."""
        parts = order.split(batch)
        began = time.process_time()
        for rows in parts:
            self.optimizer.zero_grad()
            self.loss(self.network, data.points[rows], data.labels[rows]).backward()
            self.optimizer.step()
        self.falling.step()
        self.seconds.append((time.process_time() - began) / len(parts))


def sets(name: str, quick: bool) -> tuple[nn.Module, Images, Images]:
    """Return a network, images to train it on, and others."""
    few = 128 if quick else 600
    if name == "digits":
        return digits(), read_images(name, split="train", limit=few), read_images(name)
    network = convnet_2b().to(memory_format=torch.channels_last)
    test = read_images(name, limit=200 if quick else 2_000)
    return network, read_images(name, split="train", limit=few), test


def results(network: nn.Module, test: Images) -> tuple[float, float]:
    """Return the accuracy, and the median distance to the boundary of images that are right."""
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in test.points.split(500)])
    right = answers == test.labels
    points, labels = test.points[right][:200], test.labels[right][:200]
    moved = project(Margin(network), points, labels=labels, tol=1e-3).points
    distance = (points - moved).flatten(1).abs().amax(1)
    return float(right.double().mean()), float(distance.median())


def table(name: str, rows: dict[str, str], options: argparse.Namespace) -> None:
    """Train by every loss, and print a line for each."""
    start, data, test = sets(name, options.quick)
    epochs = 2 if options.quick else options.epochs
    generator = torch.Generator().manual_seed(options.seed)
    initialise(start, generator=generator)
    runs = {}
    for row, spec in rows.items():
        network = copy.deepcopy(start)
        optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9, nesterov=True)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        runs[row] = Run(build_loss(spec), network, optimizer, falling)
    torch.manual_seed(options.seed)  # of the losses that draw
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator)
        for run in runs.values():
            run.epoch(data, order, options.batch)
    plain = statistics.fmean(runs[PLAIN].seconds[1:])
    print(f"{name}, {len(data)} images, {epochs} epochs, batches of {options.batch}")
    print(f"{'loss':34} {'ms a step':>10} {'x plain':>8} {'right':>7} {'distance':>9}")
    for row, run in runs.items():
        spent = statistics.fmean(run.seconds[1:])
        accuracy, distance = results(run.network, test)
        print(f"{row:34} {1e3 * spent:10.2f} {spent / plain:8.2f} {accuracy:7.1%} {distance:9.3f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["digits", "mnist"])
    parser.add_argument("--rows", nargs="*", default=[], help="parts of the names of rows to run")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two epochs on few images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {
        name: spec
        for name, spec in ROWS.items()
        if name == PLAIN or not options.rows or any(part in name for part in options.rows)
    }
    for name in options.data:
        if name == "mnist" and "LEVELSET_DATA" not in os.environ:
            print("mnist: LEVELSET_DATA names no folder, left out")
            continue
        table(name, rows, options)


if __name__ == "__main__":
    main()
