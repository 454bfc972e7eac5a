"""Draws the picture of the first page from a demo: `python docs/_tools/picture.py demo`.

It takes what `levelset demo` left in its folder, so that the picture shows a real run.
"""

import json
import math
import sys
from pathlib import Path

import pyarrow.parquet as pq
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from safetensors.torch import load_file

from levelset import plots
from levelset.auditing import Audit

PICTURE = Path(__file__).parent.parent / "images" / "demo.svg"
NAMES = ("cross-entropy", "input margin")
# Text as paths, and no random names or times: the same demo gives the same bytes.
STYLE = {"font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "levelset"}


def read(folder: Path, name: str) -> Audit:
    """Return an audit from its folder, which must be one part long, as the demo's are."""
    table = pq.read_table(folder / "measurements")
    tensors = load_file(folder / "witnesses" / "part-00000.safetensors")
    options = json.loads((folder / "manifest.json").read_text())["options"]
    norms = {2.0: "witness_2", math.inf: "witness_inf"}
    return Audit(
        points=tensors["inputs"],
        columns={
            key: torch.tensor(table[key].to_pylist())
            for key in table.column_names
            if not key.startswith("attack_")  # by name on disk, and not drawn
        },
        witnesses={norm: tensors[key] for norm, key in norms.items()},
        norms=tuple(norms),
        classes=tuple(options["classes"]),
        name=name,
    )


def main(demo: Path) -> None:
    """Draw both robustness curves, and the closest digits of the first network."""
    audits = [read(demo / name.replace(" ", "-"), name) for name in NAMES]
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.4), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        plots.robustness(audits, left)
        left.spines[["top", "right"]].set_visible(False)
        plots.witnesses(audits[0], right)
        right.spines[:].set_visible(False)
        figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
