"""The path kernel beside the paper's procedure and per-sample Jacobians, on the same recording.

784-100-10, full-batch gradient descent, on MNIST (or on noise, without LEVELSET_DATA), in one
process and one thread. What takes too long is timed on a part of the work and scaled:

- paper: section 15.2 of Bell 2023: the Jacobian of each input by itself, of the training inputs at
  the start of a step, of the test inputs at each of 100 times, and their products.
- torch.func: vmap of jacrev, the loss folded in, 4 Gauss-Legendre nodes; timed on one step.
- explaind: ExactPathKernelModel, 10 midpoint nodes a step (its default but for the first four
  steps, which have 1,000); its network ends in a log-softmax, as its loss wants. Timed on two.
- captum: TracInCP with a checkpoint a step: loss against loss, no identity. Timed on one.

The last two are left out where they are not installed. For none of the others do more nodes bring
the error to that of `secant`: `path_kernel_exactness.py` has it against the nodes.

Prints CPU seconds for all steps, the identity error, and the ratio to ours; then how ours grows
with steps and pairs, and what recording adds to the training.

    python benchmarks/path_kernel.py [--quick]
"""

import argparse
import contextlib
import importlib.util
import io
import os
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from levelset.datasets import read_images
from levelset.kernels import GaussLegendre, PathKernel
from levelset.networks import fc
from levelset.training import initialise, record

NODES = 100  # times a step in the paper


def data(count: int, tests: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    home = os.environ.get("LEVELSET_DATA")
    if home and (Path(home) / "mnist").is_dir():
        train = read_images(str(Path(home) / "mnist"), split="train", limit=count)
        test = read_images(str(Path(home) / "mnist"), split="test", limit=tests)
        return train.points, train.labels, test.points
    points = torch.rand(count + tests, 1, 28, 28, generator=generator)
    return points[:count], torch.randint(10, (count,), generator=generator), points[count:]


def cpu(call: object) -> tuple[float, object]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def states(kernel: PathKernel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    shard = next(kernel.recording.shards())
    return kernel.recording.named(shard.state(0)), kernel.recording.named(shard.state(1))


def jacobian(model: nn.Module, state: dict[str, Tensor], point: Tensor) -> Tensor:
    """Return the Jacobian of one input, `(k, p)`, as the paper takes it."""
    parts = jacrev(lambda w: functional_call(model, w, (point[None],))[0])(state)
    return torch.cat([part.flatten(1) for part in parts.values()], 1)


def paper(kernel: PathKernel, tests: Tensor, few: int) -> float:
    """Return the seconds of the paper's procedure for all steps.

    Scaled from a few training inputs, and from one of the times of a step, at each of which the
    Jacobians of the test inputs meet those of the training inputs, output by output.
    """
    model, (before, after) = kernel.recording.model, states(kernel)
    halfway = {name: torch.lerp(weight, after[name], 0.5) for name, weight in before.items()}

    def side(state: dict[str, Tensor], points: Tensor) -> Tensor:
        return torch.stack([jacobian(model, state, point) for point in points]).transpose(0, 1)

    ours, rows = cpu(lambda: side(before, kernel.points[:few]))
    theirs, now = cpu(lambda: side(halfway, tests))
    product, _ = cpu(lambda: now @ rows.transpose(1, 2))  # (k, m, n)
    share = len(kernel.points) / few
    return (ours * share + NODES * (theirs + product * share)) * kernel.recording.steps


def per_sample(kernel: PathKernel, tests: Tensor, few: int) -> float:
    """Return the seconds of vmap(jacrev) for all steps, scaled from a few training points."""
    model, (before, after) = kernel.recording.model, states(kernel)

    def one(state: dict[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(model, state, (point[None],))[0]

    def loss(state: dict[str, Tensor], point: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(one(state, point)[None], label[None])

    def train_side() -> dict[str, Tensor]:
        side = vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        return side(before, kernel.points[:few], kernel.labels[:few])

    def test_side() -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for node, weight in zip(*GaussLegendre(4).rule(), strict=True):
            state = {n: torch.lerp(w, after[n], node) for n, w in before.items()}
            side = vmap(jacrev(one), in_dims=(None, 0))(state, tests)
            total = {n: weight * j + total.get(n, 0.0) for n, j in side.items()}
        return total

    ours, left = cpu(train_side)
    theirs, right = cpu(test_side)
    product, _ = cpu(
        lambda: sum(left[n].flatten(1) @ right[n].flatten(2).flatten(0, 1).T for n in left)
    )
    scale = len(kernel.points) / few
    return ((ours + product) * scale + theirs) * kernel.recording.steps


def explaind(kernel: PathKernel, tests: Tensor) -> float | None:
    """Return the seconds of explaind's exact path kernel for all steps, scaled from two."""
    if importlib.util.find_spec("explaind") is None:
        return None
    from explaind.epk_model import ExactPathKernelModel
    from explaind.model_paths import ModelPath
    from explaind.modulo_model.loss import RegularizedCrossEntropyLoss
    from explaind.optimizer_paths import SGDOptimizerPath

    recording, shard = kernel.recording, next(kernel.recording.shards())
    model = nn.Sequential(recording.model, nn.LogSoftmax(1))
    states = [
        {f"0.{name}": w.clone() for name, w in recording.named(shard.state(step)).items()}
        for step in range(3)
    ]
    batch = {"X": kernel.points, "y": kernel.labels, "indices": torch.arange(len(kernel.points))}
    data = SimpleNamespace(
        dataloader=SimpleNamespace(dataset=kernel.points), get_checkpoint=lambda _: batch
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        path = ModelPath(model, device="cpu", checkpoints=states, output_dim=10)
        rates = [{"lr": shard.rate(0), "weight_decay": 0.0}] * len(states)
        rule = SGDOptimizerPath(
            path, lr=shard.rate(0), weight_decay=0.0, momentum=0.0, checkpoints=rates, device="cpu"
        )
        method = ExactPathKernelModel(
            path, rule, RegularizedCrossEntropyLoss(alpha=0.0), data, integral_eps=0.1,
            early_integral_eps=0.1, early_steps=0, device="cpu", evaluate_predictions=False,
            kernel_store_interval=10**6,
        )  # fmt: skip
        # Its first step writes into an evaluation that is not there yet.
        step = method.exact_path_kernel_step_test
        method.exact_path_kernel_step_test = lambda *given, prev_eval=None, **named: step(
            *given, prev_eval=prev_eval or {}, **named
        )
        seconds, _ = cpu(lambda: method.predict(tests, keep_kernel_matrices=True))
    model.load_state_dict(before)
    return seconds / 2 * recording.steps


def tracin(kernel: PathKernel, tests: Tensor, labels: Tensor) -> float | None:
    """Return the seconds of captum's TracInCP with a checkpoint a step, scaled from one."""
    if importlib.util.find_spec("captum") is None:
        return None
    from captum.influence import TracInCP

    model = kernel.recording.model
    train = torch.utils.data.TensorDataset(kernel.points, kernel.labels)
    tracer = TracInCP(
        model, train, [kernel.recording.end()], lambda *_: 1.0,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"), batch_size=500,
        sample_wise_grads_per_batch=True,
    )  # fmt: skip
    return cpu(lambda: tracer.influence((tests, labels)))[0] * kernel.recording.steps


def trained(
    count: int, tests: int, steps: int, folder: str, *, batch: int | None = None
) -> tuple[PathKernel, Tensor, float]:
    generator = torch.Generator().manual_seed(0)
    points, labels, test = data(count, tests, generator)
    network = initialise(fc(784, 100, 10), generator=generator)
    seconds, recording = cpu(
        lambda: record(
            network, points, labels, steps=steps, learning_rate=0.1, batch_size=batch,
            folder=folder,
        )
    )  # fmt: skip
    return PathKernel(recording, points, labels), test, seconds


def training_alone(count: int, steps: int, batch: int | None) -> float:
    generator = torch.Generator().manual_seed(0)
    points, labels, _ = data(count, 1, generator)
    network = initialise(fc(784, 100, 10), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    rows = torch.randperm(count, generator=generator).split(batch or count)

    def steps_of_torch() -> None:
        for step in range(steps):
            part = slice(None) if batch is None else rows[step % len(rows)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(points[part]), labels[part]).backward()
            optimizer.step()

    return cpu(steps_of_torch)[0]


def print_recording(count: int, steps: int, batch: int | None) -> None:
    """Print what recording adds to the training: the least of some runs of both in turn."""
    recorded, alone = float("inf"), float("inf")
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            recorded = min(recorded, trained(count, 1, steps, folder, batch=batch)[2])
        alone = min(alone, training_alone(count, steps, batch))
    words = f"all {count} points" if batch is None else f"batches of {batch}"
    print(
        f"recording {steps} steps, {words}: {recorded:.2f} s, training alone {alone:.2f} s: "
        f"{recorded / alone:.2f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    count, few = (200, 5) if quick else (1000, 20)
    with tempfile.TemporaryDirectory() as folder:
        kernel, tests, _ = trained(count, 10, 20 if quick else 100, folder)
        steps = kernel.recording.steps
        kernel.contributions(tests[:1])
        ours, result = cpu(lambda: kernel.contributions(tests))
        print(f"{len(tests)} inputs x {count} training points x {steps} steps, CPU seconds")
        print(
            f"  levelset, secant         {ours:10.2f}   identity error {result.identity_error:.1e}"
        )
        rows = {
            "paper (scaled)": paper(kernel, tests, few),
            "torch.func (scaled)": per_sample(kernel, tests, 10 * few),
            "explaind (scaled)": explaind(kernel, tests),
            "captum TracInCP (scaled)": tracin(kernel, tests, kernel.outputs(tests).argmax(1)),
        }
        for name, value in rows.items():
            words = "not installed" if value is None else f"{value:10.2f}   {value / ours:,.0f} x"
            print(f"  {name:<24} {words}")
    for batch in (None, 50):
        print_recording(count, 4 * steps if batch is None else 10 * steps, batch)
    for train, test, length in ((count, 100, 20), (count, 100, 40), (2 * count, 100, 40)):
        with tempfile.TemporaryDirectory() as folder:
            kernel, tests, _ = trained(train, test, length, folder)
            grown, _ = cpu(lambda kernel=kernel, tests=tests: kernel.contributions(tests))
            print(f"{test} x {train} pairs, {length} steps: {grown:.2f} s")
    if not quick:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with tempfile.TemporaryDirectory() as folder:
            kernel, tests, _ = trained(10_000, 1000, 100, folder)
            grown, _ = cpu(lambda: kernel.contributions(tests))
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
        print(f"1000 x 10000 pairs, 100 steps: {grown:.1f} s, {more:.0f} MB more than before")


if __name__ == "__main__":
    main()
