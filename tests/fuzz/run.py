"""Fuzz families of targets: `python tests/fuzz/run.py --seconds 60 [--seed 1] [family ...]`.

A family is a module beside this one, `fuzz_*.py`, with `targets(folder)`, which returns callables
by name: each takes a `random.Random`, does one thing with wrong input, and raises our own errors or
none. Each family runs in a process of its own, so that a crash or a hang counts too.
"""

import argparse
import faulthandler
import importlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from levelset.errors import LevelSetError

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))
MEMORY = 12 << 30  # bytes of addresses that a family may take
LONGEST = 60  # seconds for one input


def work(family: str, seed: int, seconds: float, log: Path) -> None:
    """Run the targets of a family in turn; the seed of each input is written down first."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        targets = importlib.import_module(family).targets(Path(folder))
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            name = list(targets)[count % len(targets)]
            own = f"{seed}.{count}"
            log.write_text(f"{family} {name} {own}")
            signal.alarm(LONGEST)
            try:
                targets[name](random.Random(f"{family} {name} {own}"))
            except LevelSetError:
                pass
            except Exception:
                print(f"FOUND {family} {name} {own}", flush=True)
                traceback.print_exc()
                sys.exit(1)
            finally:
                signal.alarm(0)
            count += 1
    print(f"{family}: {count} inputs, no exception but our own", flush=True)


def once(case: str) -> None:
    """Run one case again, as printed."""
    family, name, _ = case.split(" ")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        importlib.import_module(family).targets(Path(folder))[name](random.Random(case))


def main() -> int:
    """Return 0 if nothing but our own errors was raised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=FAMILIES)
    parser.add_argument("--seconds", type=float, default=600, help="for all families together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--case", help="one case to run again, such as 'fuzz_readers ply 7.123'")
    options = parser.parse_args()
    if options.case:
        once(options.case)
        return 0
    print(f"seed {options.seed}, {options.seconds:g} seconds, {', '.join(options.families)}")
    failed = 0
    for family in options.families:
        log = Path(tempfile.mkstemp()[1])
        share = options.seconds / len(options.families)
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(family, options.seed, share, log)
        )
        process.start()
        process.join()
        if process.exitcode:
            failed += 1
            print(f"exit code {process.exitcode}; again: --case {log.read_text()!r}")
        log.unlink()
    return int(failed > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
