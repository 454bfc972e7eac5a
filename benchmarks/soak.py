"""Whether memory or open files grow with the number of calls: small ones, thousands of times.

Each of three jobs is done many times in one process: a small audit into a folder, a small
reconstruction, a report of an audit. Memory is what the system counts for the process after
garbage is collected and free pages are given back. The first fifth of the calls warms caches up;
the growth a call is the slope of a line through the rest, with its standard error.

    python benchmarks/soak.py [--audits 10000] [--reconstructions 1000] [--reports 1000]

It fails where a job grows by more than a kilobyte a call, beyond three standard errors, or where it
leaves a file open.
"""

import argparse
import ctypes
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch

from levelset import audit, report
from levelset.networks import fc
from levelset.reconstruction import Fast, surface
from levelset.training import initialise

# Bytes a call that are no leak, and samples of memory along a job.
ALLOWED, SAMPLES = 1024, 60


def memory() -> int:
    """Return the bytes of this process that lie in memory, without what is free."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """Return how many files, pipes and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def soak(name: str, job: Callable[[int], None], count: int) -> bool:
    """Do a job many times; print how memory and open files grow, and return whether they do."""
    warm = max(count // 5, 2)
    begun = time.process_time()
    for number in range(warm):
        job(number)
    files, every = open_files(), max((count - warm) // SAMPLES, 1)
    calls, sizes = [0], [memory()]
    for number in range(warm, count):
        job(number)
        if (number - warm + 1) % every == 0:
            calls.append(number - warm + 1)
            sizes.append(memory())
    slope, error = fitted(np.array(calls, dtype=float), np.array(sizes, dtype=float))
    left = open_files() - files
    grows = slope - 3.0 * error > ALLOWED or left > 0
    each = (time.process_time() - begun) / count
    print(
        f"{name}: {count} calls of {each * 1e3:.0f} ms, {slope:+.0f} +- {error:.0f} bytes a call "
        f"(from {sizes[0] / 2**20:.0f} to {sizes[-1] / 2**20:.0f} MB), {left:+d} open files"
        f"{'  GROWS' if grows else ''}",
        flush=True,
    )
    return grows


def fitted(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the slope of a line through points, and its standard error."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    return slope, float(np.sqrt(rest @ rest / max(len(x) - 2, 1) / (centred @ centred)))


def main() -> None:
    """Soak each job in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audits", type=int, default=10_000)
    parser.add_argument("--reconstructions", type=int, default=1_000)
    parser.add_argument("--reports", type=int, default=1_000)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    model = initialise(fc(4, 8, 3), generator=generator).eval()
    points = torch.rand(6, 4, generator=generator)
    labels = model(points).argmax(1)
    ball = torch.nn.functional.normalize(torch.randn(80, 3, generator=generator).double(), dim=1)
    with tempfile.TemporaryDirectory() as home:
        folder, page = Path(home) / "run", Path(home) / "page.html"

        def small_audit(number: int) -> None:
            audit(model, points, labels, effort="quick", norms=[2.0], out=folder, seed=number)
            rmtree(folder)

        def small_reconstruction(number: int) -> None:
            surface(ball + 1e-6 * number, settings=Fast(grid=32), resolution=16)

        result = audit(model, points, labels, effort="quick", norms=[2.0])

        def small_report(number: int) -> None:
            report.write(page, report.audit(result), title=f"Report {number}")

        grows = [
            soak("audits", small_audit, options.audits),
            soak("reconstructions", small_reconstruction, options.reconstructions),
            soak("reports", small_report, options.reports),
        ]
    sys.exit(int(any(grows)))


if __name__ == "__main__":
    main()
