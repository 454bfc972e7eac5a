"""What every experiment needs at its start and leaves at its end: data, settings, results."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

__all__ = ["data_folder", "write_results", "write_settings"]


def data_folder(*needed: str) -> Path:
    """Return the folder that LEVELSET_DATA names, or end with what must be in it.

    Args:
        needed: Names of its folders.
    """
    home = os.environ.get("LEVELSET_DATA")
    names = " and ".join(f"{name}/" for name in needed)
    if home is None or not all((Path(home) / name).is_dir() for name in needed):
        sys.exit(f"LEVELSET_DATA must name the folder with {names}.")
    return Path(home)


def write_settings(config: Any) -> None:
    """Write the settings of a run into config.json of the folder `config.out`."""
    config.out.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(config), "torch": torch.__version__}
    (config.out / "config.json").write_text(json.dumps(settings, indent=2, default=str))


def write_results(config: Any, results: Any) -> None:
    """Write the settings of a run, and its results into result.json beside them."""
    write_settings(config)
    (config.out / "result.json").write_text(json.dumps(results, indent=2))
