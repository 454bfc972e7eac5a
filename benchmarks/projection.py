"""What `project` costs beside the bare network, on ConvNet-4a and 1,000 MNIST images.

Prints the cost of `project` as a multiple of (steps x one forward and input gradient), with that
unit taken (a) from the network called directly, batch by batch as `project` does it, and (b) at
the best rate that the bare network reaches in any layout and batch: the floor. Everything is
timed in one process, interleaved, and compared by medians. Then the share of converged points
against the iteration, for Newton and for gradient descent, beside the paper's.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from levelset import GradientDescent, Margin, Newton, project
from levelset.datasets import read_images
from levelset.networks import convnet_4a

TOL = 1e-4
LAYOUTS = ("default", "channels_last")
BATCHES = (25, 50, 100, 250)
PAPER = "80 to 90 % early, 20 to 30 % late in robust training, after ten iterations"


def network_and_images(count: int) -> tuple[torch.nn.Module, torch.Tensor, str]:
    """Return the released network and test images, or an untrained one and noise."""
    data = os.environ.get("LEVELSET_DATA")
    network = convnet_4a().eval().requires_grad_(False)
    if data is None:
        generator = torch.Generator().manual_seed(0)
        return network, torch.rand(count, 1, 28, 28, generator=generator), "untrained, on noise"
    weights = Path(data) / "networks" / "mnist-convnet4a-xent.safetensors"
    network.load_state_dict(load_file(weights))
    return network, read_images("mnist", limit=count).points, "released (xent), on MNIST"


def laid_out(points: torch.Tensor, layout: str) -> torch.Tensor:
    """Return a copy in the layout asked for; written out, since one channel is ambiguous."""
    _, c, h, w = points.shape
    strides = (c * h * w, h * w, w, 1) if layout == "default" else (c * h * w, 1, w * c, c)
    return torch.empty_strided(points.shape, strides).copy_(points)


def evaluations(
    network: torch.nn.Module, points: torch.Tensor, batch: int, layout: str
) -> Callable[[], None]:
    """Return a function that takes one forward and input gradient of every point."""

    def run() -> None:
        for start in range(0, len(points), batch):
            part = laid_out(points[start : start + batch], layout).requires_grad_()
            margin = network(part).topk(2).values
            torch.autograd.grad((margin[:, 0] - margin[:, 1]).sum(), part)

    return run


def medians(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the median wall and CPU seconds of each job, interleaved."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            job()
            seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
        for name, times in seen.items()
    }


def costs(network: torch.nn.Module, points: torch.Tensor, repeats: int) -> None:
    """Print what `project` costs as multiples of the network's own cost and of the floor."""
    field, labels = Margin(network), network(points).argmax(1)
    steps = int(project(field, points, labels=labels, tol=TOL).iterations.sum())
    compact = copy.deepcopy(network).to(memory_format=torch.channels_last)
    jobs: dict[str, Callable[[], object]] = {
        "project": lambda: project(field, points, labels=labels, tol=TOL)
    }
    for layout in LAYOUTS:
        for batch in BATCHES:
            model = network if layout == "default" else compact
            jobs[f"{layout}, batch {batch}"] = evaluations(model, points, batch, layout)
    jobs["as project does"] = evaluations(network, points, 50, "channels_last")
    found = medians(jobs, repeats)
    for clock, column in (("wall", 0), ("CPU", 1)):
        unit = {name: t[column] / len(points) for name, t in found.items() if name != "project"}
        best = min(unit, key=lambda name: unit[name])
        spent = found["project"][column] / steps
        print(
            f"{clock}: project {1e3 * spent:.3f} ms a step ({steps} steps of {len(points)} points)"
        )
        for name, seconds in unit.items():
            print(f"  forward + gradient, {name:<26} {1e3 * seconds:.3f} ms")
        print(f"  x own cost (goal 1.15): {spent / unit['as project does']:.3f}")
        print(f"  x floor    (goal 1.25): {spent / unit[best]:.3f}   floor: {best}")


def convergence(network: torch.nn.Module, points: torch.Tensor) -> None:
    """Print the share of points within the tolerance after each number of steps."""
    field, labels = Margin(network), network(points).argmax(1)
    newton = project(field, points, labels=labels, tol=TOL)
    print(f"Newton, share within {TOL:g} (the paper: {PAPER}):")
    for step in range(1, 21):
        share = float((newton.converged & (newton.iterations <= step)).double().mean())
        print(f"  {step:3d} {share:7.1%} {'#' * round(40 * share)}")
    few, few_labels = points[:100], labels[:100]
    base = project(field, few, labels=few_labels, method=Newton(), tol=TOL)
    print("Gradient descent on the same field, first 100 points, at most 2,000 steps:")
    for step in (1e-4, 3e-4, 1e-3, 3e-3):
        slow = project(
            field, few, labels=few_labels, tol=TOL,
            method=GradientDescent(max_iter=2000, step=step),
        )  # fmt: skip
        both = slow.converged & base.converged
        ratio = float((slow.iterations[both] / base.iterations[both]).median()) if both.any() else 0
        print(
            f"  step {step:g}: {int(slow.converged.sum())} of {len(few)} converged; "
            f"{ratio:.0f} times Newton's iterations where both did (median)"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="100 points, one repeat, no curve")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    count, repeats = (100, 1) if options.quick else (options.count, options.repeats)
    network, points, what = network_and_images(count)
    print(f"ConvNet-4a, {what}; {options.threads} threads, torch {torch.__version__}")
    costs(network, points, repeats)
    if not options.quick:
        convergence(network, points)


if __name__ == "__main__":
    main()
