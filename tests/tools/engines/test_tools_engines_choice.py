"""The engine that a name stands for, and what does not fit it."""

from typing import Any

import pytest

from levelset._tools.engines import Local, Place, engine_of
from levelset._tools.engines._ray import Cluster
from levelset.errors import LevelSetWarning, ParameterError


def chosen(name: Any = "local", **options: Any) -> Any:
    place = Place(name, options.pop("workers", None), options.pop("address", None))
    settings = {"pieces": 4, "threads": 1, "device": "cpu"}
    return engine_of("audit", place, **(settings | options))


def test_processes_are_as_many_as_threads_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert chosen() == Local("audit", 3, 1)
    assert chosen(pieces=2) == Local("audit", 2, 1)
    assert chosen(workers=1) == Local("audit", 1, 1)
    assert chosen(threads=3) == Local("audit", 1, 3)
    assert chosen(device="cuda") == Local("audit", 1, 1)
    assert chosen("ray", workers=3) == Cluster("audit", 3, None, 4, 1, "cpu")


def test_what_does_not_fit_is_refused_or_said() -> None:
    with pytest.raises(ParameterError, match="audit: `address` is for the engine ray, got 'auto'"):
        chosen(address="auto")
    with pytest.raises(ParameterError, match="audit: `workers` must be"):
        chosen(workers=0)
    with pytest.warns(LevelSetWarning, match="audit: `workers` is 9, but the work has only 4"):
        assert chosen(workers=9) == Local("audit", 4, 1)
    with pytest.warns(LevelSetWarning, match="has only 1 part: no more are started"):
        assert chosen("ray", workers=2, pieces=1) == Cluster("audit", 2, None, 1, 1, "cpu")
