"""How an audit scales: one process, several, and a Ray cluster; and what that says of a large one.

Audits MNIST (LEVELSET_DATA; else scikit-learn's digits) by distance and persistence on one machine
and prints, from runs that take turns:

- threads: one process of two threads against two processes of one;
- efficiency: the time of one worker over the work of several, `t(1) / (w t(w))`, of the local
  engine and of Ray, the start of Ray apart;
- overhead: what one worker of Ray takes more than one process, without the start;
- parts: seconds and bytes of an input to and from a worker, and what a part and an input in it
  cost the driver;
- model: what that makes of 50,000 ImageNet inputs on 100 GPUs, after the same model has predicted
  the runs with 1, 2 and 4 workers here.

By default it takes as many inputs as fit into eight minutes, at most 2,000, in sixteen parts.

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
from levelset._tools.engines import _pieces
from levelset._tools.engines._parcels import packed, unpacked
from levelset._tools.engines._ray import Cluster
from levelset._tools.stores import Local
from levelset.datasets import read_images
from levelset.networks import convnet_4a, digits
from levelset.training import initialise, train

MEASURES = ("distance", "persistence")
# Most inputs, into how many parts they are cut, and how many are timed to choose their number.
MOST, PARTS, FEW = 2_000, 16, 8


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
    parser.add_argument("--inputs", type=int, default=None, help="by default what --minutes allow")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all runs, about")
    parser.add_argument("--part", type=int, default=None, help="most inputs a part")
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--gpu-seconds", type=float, default=5.0, help="of an ImageNet input")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    options = parser.parse_args()
    os.environ |= {"RAY_worker_niceness": "0"}
    try:
        import ray
    except ImportError:
        print("Ray is not installed: pip install '.[ray]'")
        return
    model, points, labels = problem(options.inputs or MOST)

    def run(n: int = MOST, **where: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return audit(
                model, points[:n], labels[:n], measures=MEASURES, effort=options.effort,
                out=Path(folder) / "run", **where,
            )  # fmt: skip

    if options.inputs is None:
        run(FEW, workers=1)
        taken, _ = seconds(lambda: run(FEW, workers=1))
        shares = 2 + 1.5 + len(options.workers)
        n = int(60 * options.minutes / (shares * options.repeats * taken / FEW))
        points, labels = points[: max(n, PARTS)], labels[: max(n, PARTS)]
    part = options.part or -(-len(points) // PARTS)
    _pieces._PART_ELEMENTS = part * points[0].numel()
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


def driver_seconds(whole: Any, n: int) -> tuple[float, float]:
    """Return what a part costs the driver, and what each input in it adds.

    Packing, unpacking and writing parts of two sizes tells the two apart: to take the whole for the
    cost of its inputs would multiply what a part costs in any case by a large audit's inputs.
    """

    def once(rows: int) -> float:
        points, labels, logits, columns, witnesses = whole
        part = (
            points[:rows], labels[:rows], logits[:rows],
            {name: values[:rows] for name, values in columns.items()},
            {norm: values[:rows] for norm, values in witnesses.items()},
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            store = Local(Path(folder))
            return seconds(lambda: store.write("part", packed(unpacked(packed(part)))))[0]

    few, many = max(n // 16, 1), n
    times = {rows: min(once(rows) for _ in range(7)) for rows in (few, many)}
    one = max(times[many] - times[few], 0.0) / max(many - few, 1)
    return max(times[few] - few * one, 0.0), one


def predict(
    model: torch.nn.Module, points: torch.Tensor, labels: torch.Tensor, result: Any, alone: float,
    best: dict[str, float], start: float, cores: int, input_seconds: float,
) -> None:  # fmt: skip
    """Print the measured parts, the model's times beside those here, and a large audit's."""
    n, parts = len(points), -(-len(points) * points[0].numel() // _pieces._PART_ELEMENTS)
    logits = torch.zeros(n, 10)
    there = len(packed((points, labels, logits)))
    back = len(packed((result.columns, result.witnesses)))
    fixed, one = driver_seconds((points, labels, logits, result.columns, result.witnesses), n)
    print(
        f"an input: {alone / n * 1e3:.1f} ms of a worker, {there / n / 1e3:.1f} kB there, "
        f"{back / n / 1e3:.1f} kB back; the driver: {fixed * 1e3:.1f} ms a part and "
        f"{one * 1e6:.0f} us an input; no shuffle"
    )
    print("model: start + inputs x (ms of a worker / workers that have a processor), or the driver")
    for name, taken in best.items():
        engine, count = name.split()
        most = min(int(count), cores)
        driver = parts * fixed + n * one
        predicted = (start if engine == "ray" else 0.0) + max(alone / most, driver)
        print(
            f"  {name}: predicted {predicted:.1f} s, taken {taken:.1f} s ({taken / predicted:.2f})"
        )
    # An input, its two witnesses: what an ImageNet input is larger by, the driver's work grows by.
    size = 3 * 224 * 224 * 4
    inputs, gpus, part = 50_000, 100, 30.0
    rows = max(int(part / input_seconds), 1)
    driver = inputs / rows * fixed + inputs * one * 3 * size / (there + back) * n
    compute = inputs * input_seconds / gpus
    print(
        f"{inputs:,} ImageNet inputs of {input_seconds} GPU seconds each on {gpus} GPUs: "
        f"{compute / 60:.0f} min of computing, {inputs * 3 * size / 1e9:.0f} GB through the driver "
        f"({driver / 60:.0f} min, beside it), at most {part:.0f} s for the last parts: "
        f"efficiency {compute / (max(compute, driver) + part + start):.1%}"
    )


if __name__ == "__main__":
    main()
