"""Runs whose files lie at an address of fsspec, and not in a folder."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from levelset import audit
from levelset.auditing import read
from levelset.errors import RunError
from levelset.networks import fc

pytestmark = pytest.mark.same_shapes


@pytest.mark.parametrize("address", ["memory://runs/one", "file://{}/one"])
def test_a_run_at_an_address_is_that_of_a_folder(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * 5)
    generator = torch.Generator().manual_seed(2)
    model, points = fc(6, 12, 3).eval(), torch.rand(13, 6, generator=generator)
    labels = model(points).argmax(1)
    out, whole = address.format(tmp_path), tmp_path / "whole"
    audit(model, points, labels, norms=[2.0], effort="quick", out=whole)
    options: dict[str, Any] = {"norms": [2.0], "effort": "quick", "out": out}
    result = audit(model, points, labels, **options)
    system, root = fsspec.core.url_to_fs(out)
    files = {path.relative_to(whole).as_posix() for path in whole.rglob("*.*")}
    assert {path.removeprefix(f"{root}/") for path in system.find(root)} == files
    for name in files:
        assert system.cat_file(f"{root}/{name}") == (whole / name).read_bytes()
    again = read(out)
    assert torch.equal(again.witnesses[2.0].nan_to_num(), result.witnesses[2.0].nan_to_num())
    assert again.name == "one"
    with pytest.raises(RunError, match=r"/one already holds an audit"):
        audit(model, points, labels, **options)
    # A part that is gone, and one that is cut off, are measured again.
    part = f"{root}/measurements/part-00001.parquet"
    system.pipe_file(part, system.cat_file(part)[:50])
    system.rm(f"{root}/witnesses/part-00002.safetensors")
    audit(model, points, labels, **options, resume=True)
    for name in files:
        assert system.cat_file(f"{root}/{name}") == (whole / name).read_bytes()
    system.pipe_file(f"{root}/measurements/part-00099.parquet", b"")
    with pytest.raises(RunError, match=r"part-00099.parquet is no part of this run, which has"):
        audit(model, points, labels, **options, resume=True)
    system.rm(root, recursive=True)
