"""Random streams: numbers that depend on the seed, the point and the draw, and on nothing else."""

import torch

from levelset._tools.random import Streams, content_names, draw_seed


def streams(seed: int = 0, dtype: torch.dtype = torch.float64) -> Streams:
    return Streams(torch.Generator().manual_seed(seed), torch.zeros(1, dtype=dtype))


def test_a_points_numbers_are_its_own() -> None:
    whole = streams().uniform(torch.arange(50), (3, 4), 7)
    some = streams().uniform(torch.tensor([31, 2]), (3, 4), 7)
    assert torch.equal(some, whole[[31, 2]])
    normal = streams().normal(torch.arange(50), (5,))
    assert torch.equal(streams().normal(torch.tensor([49]), (5,)), normal[49:])


def test_seeds_points_and_draws_all_differ() -> None:
    rows = torch.arange(40)
    drawn = [streams(seed).uniform(rows, (6,), index) for seed in (0, 1) for index in (0, 1, 2**33)]
    numbers = torch.stack(drawn).flatten()
    assert len(numbers.unique()) == len(numbers)


def test_laws() -> None:
    uniform = streams().uniform(torch.arange(500), (100,))
    assert 0.0 <= float(uniform.min()) <= float(uniform.max()) <= 1.0
    assert abs(float(uniform.mean()) - 0.5) < 0.005
    assert abs(float(uniform.var()) - 1 / 12) < 0.002
    normal = streams().normal(torch.arange(500), (100,))
    assert abs(float(normal.mean())) < 0.015
    assert abs(float(normal.var()) - 1.0) < 0.03


def test_single_precision_draws_the_same_numbers() -> None:
    single = streams(dtype=torch.float32).normal(torch.arange(4), (9,))
    assert single.dtype == torch.float32
    assert torch.equal(single, streams().normal(torch.arange(4), (9,)).float())


def test_no_rows() -> None:
    assert streams().uniform(torch.arange(0), (2, 3)).shape == (0, 2, 3)


def test_one_draw_of_the_generator_makes_the_seed() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = draw_seed(generator), draw_seed(generator)
    assert first != second
    assert draw_seed(torch.Generator().manual_seed(3)) == first
    state = torch.get_rng_state()
    drawn = draw_seed(None)
    torch.set_rng_state(state)
    assert draw_seed(None) == drawn


def test_named_points_have_their_numbers_wherever_they_stand() -> None:
    points = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(1))
    names = content_names(points)
    assert len(set(names.tolist())) == 6
    assert torch.equal(content_names(points[[4, 1]]), names[[4, 1]])
    assert torch.equal(content_names(points.transpose(1, 2).contiguous().transpose(1, 2)), names)
    assert not torch.equal(content_names(points + 1e-6), names)
    whole, part = (
        Streams(torch.Generator().manual_seed(0), points[rows], names[rows])
        for rows in (torch.arange(6), torch.tensor([4, 1]))
    )
    one, other = whole.uniform(torch.tensor([4, 1]), (5,)), part.uniform(torch.arange(2), (5,))
    assert torch.equal(one, other)
    assert len(content_names(points[:0])) == 0
