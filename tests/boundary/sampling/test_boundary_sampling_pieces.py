"""Many points are measured in pieces: the rows are the same for any number of workers."""

import pytest
import torch
from torch import nn

from levelset._tools.random import draw_seed
from levelset.boundary import persistence
from levelset.boundary._sampling._pieces import pieces
from levelset.errors import FieldError, LevelSetWarning, ParameterError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def problem(monkeypatch):
    """A network on points of 140 coordinates, so that they share bases, 5 points a piece."""
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 5 * 140)
    model = nn.Sequential(nn.Linear(140, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=seeded(1))
    points = torch.rand(12, 140, generator=seeded(2))
    points[11] = points[0]  # a copy has a stream of its own, wherever it is
    return model, points


def numbers(result):
    return {name: value for name, value in vars(result).items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("method", ["probit", "quickselect", "bracketing"])
def test_the_rows_are_the_same_with_any_number_of_workers(problem, method, monkeypatch):
    model, points = problem
    options = {"method": method, "tolerance": 0.1}
    one = persistence(model, points, workers=1, generator=seeded(), **options)
    heard = []
    two = persistence(
        model, points, workers=2, generator=seeded(), **options,
        progress=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    assert heard == sorted(set(heard))
    assert heard[-1] == (12, 12)
    monkeypatch.undo()
    whole = persistence(model, points, generator=seeded(), **options)
    for name, values in numbers(one).items():
        assert torch.equal(values.nan_to_num(-1.0), numbers(two)[name].nan_to_num(-1.0)), name
        assert torch.equal(values.nan_to_num(-1.0), numbers(whole)[name].nan_to_num(-1.0)), name
    assert float(one.sigma[0]) != float(one.sigma[11])


def test_what_is_cheap_is_one_piece_and_what_is_not_has_one_thread(problem, monkeypatch):
    model, points = problem
    rows, threads = pieces(model, points)
    assert [(part.start, part.stop) for part in rows] == [(0, 5), (5, 10), (10, 12)]
    assert threads == 1
    assert pieces(model, points[:5]) == ([slice(0, 5)], torch.get_num_threads())
    assert pieces(model, points[:0])[0] == [slice(0, 0)]


def test_the_generator_is_moved_as_by_one_draw(problem):
    model, points = problem
    generator, other = seeded(3), seeded(3)
    persistence(model, points, workers=2, tolerance=0.1, generator=generator)
    draw_seed(other)
    assert torch.equal(generator.get_state(), other.get_state())


@pytest.mark.messages
def test_where_to_run_is_checked_and_failures_of_workers_are_those_of_the_call(problem):
    model, points = problem
    with pytest.raises(ParameterError, match="persistence: `workers` must be"):
        persistence(model, points, workers=0)
    with pytest.raises(ParameterError, match="persistence: `address` is for the engine ray"):
        persistence(model, points, address="auto")
    with pytest.warns(LevelSetWarning, match="persistence: `workers` is 9, but the work has only"):
        persistence(model, points, workers=9, tolerance=0.2)
    broken = nn.Sequential(model, nn.Threshold(0.0, float("nan")))
    with pytest.raises(FieldError, match="persistence: `model` must return numbers, got NaN"):
        persistence(broken, points, workers=2)
