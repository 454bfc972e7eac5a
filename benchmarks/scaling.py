"""How an audit scales: one process, several, and a Ray cluster; and what that says of a large one.

Audits MNIST (LEVELSET_DATA; else scikit-learn's digits) by distance and persistence on one machine
and prints, from runs that take turns:

- threads: one process of two threads against two processes of one;
- efficiency: the time of one worker over the work of several, `t(1) / (w t(w))`, of the local
  engine and of Ray, the start of Ray apart;
- overhead: what one worker of Ray takes more than one process, without the start;
- parts: seconds, bytes to and from a worker, and the driver's own seconds an input;
- model: what that makes of 50,000 ImageNet inputs on 100 GPUs, after the same model has predicted
  the runs with 1, 2 and 4 workers here.

Two processors are what efficiency is about; where others use them meanwhile, the load is printed
and the numbers are theirs too. Workers of Ray are niced by default: RAY_worker_niceness=0 here.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file

from levelset import audit
from levelset._tools.engines._parcels import packed, unpacked
from levelset._tools.engines._ray import Cluster
from levelset.datasets import read_images
from levelset.networks import convnet_4a, digits
from levelset.training import initialise, train

MEASURES = ("distance", "persistence")


def problem(n: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Return a trained network and n inputs with their labels."""
    home = os.environ.get("LEVELSET_DATA")
    if home is None:
        data = read_images("digits", split="test")
        network = initialise(digits(), generator=torch.Generator().manual_seed(0))
        train(network, read_images("digits", split="train"), epochs=10)
    else:
        data = read_images("mnist", split="test", limit=n)
        network = convnet_4a()
        network.load_state_dict(
            load_file(Path(home) / "networks" / "mnist-convnet4a-xent.safetensors")
        )
    return network.eval(), data.points[:n], data.labels[:n]


def seconds(job: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = job()
    return time.perf_counter() - start, result


def start_up(ray: Any) -> float:
    """Return how long Ray takes from nothing to the first answer of a worker."""

    def once() -> None:
        ray.init(num_cpus=os.cpu_count(), include_dashboard=False, logging_level="ERROR")
        one = Cluster("scaling", 1, None, 1, 1, "cpu").run(
            nothing, lambda k: k, range(1), lambda number, said: None
        )
        assert len(list(one)) == 1

    return seconds(once)[0]


def threaded(run: Callable[[], Any], threads: int) -> Any:
    """Run in one process of several threads."""
    with mock.patch("levelset.auditing._work.threads_of", return_value=threads):
        return run()


def nothing(piece: Any, tell: Any) -> Any:
    """Do nothing with a piece."""
    return piece


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2_000)
    parser.add_argument("--part", type=int, default=None, help="most inputs a part")
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gpu-seconds", type=float, default=5.0, help="of an ImageNet input")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    options = parser.parse_args()
    if options.part is not None:
        from levelset._tools.engines import _pieces

        _pieces._PART_ELEMENTS = options.part * (
            64 if os.environ.get("LEVELSET_DATA") is None else 784
        )
    os.environ |= {"RAY_worker_niceness": "0"}
    try:
        import ray
    except ImportError:
        print("Ray is not installed: pip install '.[ray]'")
        return
    model, points, labels = problem(options.inputs)

    def run(**where: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return audit(
                model, points, labels, measures=MEASURES, effort=options.effort,
                out=Path(folder) / "run", **where,
            )  # fmt: skip

    cores = os.cpu_count() or 1
    print(f"{len(points)} inputs, {cores} processors, load {os.getloadavg()[0]:.1f}")
    jobs: dict[str, Callable[[], Any]] = {
        "local 1": lambda: run(workers=1),
        f"local {cores}": lambda: run(workers=cores),
        f"threads {cores}": lambda: threaded(run, cores),
        **{
            f"ray {w}": lambda w=w: run(engine="ray", workers=w) for w in options.workers
        },
    }  # fmt: skip
    start = start_up(ray)
    print(f"start of Ray to its first answer: {start:.1f} s")
    times: dict[str, list[float]] = {name: [] for name in jobs}
    first = None
    for _ in range(options.repeats):
        for name, job in jobs.items():
            taken, result = seconds(job)
            times[name].append(taken)
            same = (
                name.startswith("threads")
                or first is None
                or all(
                    torch.equal(a.nan_to_num(-7.0), b.nan_to_num(-7.0))
                    for a, b in zip(first.columns.values(), result.columns.values(), strict=True)
                )
            )
            first = result if first is None else first
            print(
                f"  {name}: {taken:.1f} s, load {os.getloadavg()[0]:.1f}"
                f"{'' if same else '  OTHER ROWS'}",
                flush=True,
            )
    best = {name: min(each) for name, each in times.items()}
    alone = best["local 1"]
    workers_start = first_answer()
    print("engine      median s   best s  efficiency")
    for name, each in times.items():
        workers = int(name.split()[1])
        most = min(workers, cores)
        print(
            f"{name:<10} {statistics.median(each):>9.1f} {best[name]:>8.1f}  "
            f"{alone / (most * best[name]):>9.1%}"
        )
    over = best.get("ray 1", alone) - workers_start - alone
    print(f"start of a worker: {workers_start:.1f} s")
    print(f"overhead of one worker of Ray without its start: {over / alone:+.1%}")
    predict(model, points, labels, first, alone, best, workers_start, cores, options.gpu_seconds)
    ray.shutdown()


def first_answer() -> float:
    """Return how long a worker takes to start where Ray runs already."""
    run = Cluster("scaling", 1, None, 1, 1, "cpu").run(
        nothing, lambda k: k, range(1), lambda number, said: None
    )
    return seconds(lambda: list(run))[0]


def predict(
    model: torch.nn.Module, points: torch.Tensor, labels: torch.Tensor, result: Any, alone: float,
    best: dict[str, float], start: float, cores: int, input_seconds: float,
) -> None:  # fmt: skip
    """Print the measured parts, the model's times beside those here, and a large audit's."""
    n = len(points)
    logits = torch.zeros(n, 10)
    there = len(packed((points, labels, logits)))
    back = len(packed((result.columns, result.witnesses)))
    whole = (points, labels, logits, result.columns, result.witnesses)
    copying, _ = seconds(lambda: unpacked(packed(whole)))
    with tempfile.TemporaryDirectory() as folder:
        writing, _ = seconds(lambda: torch.save(whole, Path(folder) / "all.pt"))
    driver = (copying + writing) / n
    print(
        f"an input: {alone / n * 1e3:.1f} ms of a worker, {there / n / 1e3:.1f} kB there, "
        f"{back / n / 1e3:.1f} kB back, {driver * 1e6:.0f} us of the driver; no shuffle"
    )
    print("model: start + inputs x (ms of a worker / workers that have a processor), or the driver")
    for name, taken in best.items():
        engine, count = name.split()
        most = min(int(count), cores)
        predicted = (start if engine == "ray" else 0.0) + max(alone / most, n * driver)
        print(
            f"  {name}: predicted {predicted:.1f} s, taken {taken:.1f} s ({taken / predicted:.2f})"
        )
    size = 3 * 224 * 224 * 4
    inputs, gpus = 50_000, 100
    grown = driver * (there + back + 3 * size) / (there + back)
    compute = inputs * input_seconds / gpus
    part = 30.0
    print(
        f"{inputs:,} ImageNet inputs of {input_seconds} GPU seconds each on {gpus} GPUs: "
        f"{compute / 60:.0f} min of computing, {inputs * 3 * size / 1e9:.0f} GB through the driver "
        f"({inputs * grown / 60:.0f} min, beside it), at most {part:.0f} s for the last parts: "
        f"efficiency {compute / (max(compute, inputs * grown) + part + start):.1%}"
    )


if __name__ == "__main__":
    main()
