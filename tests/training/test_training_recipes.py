"""Recipes: each can be read, and does what the supplement of the paper says."""

import dataclasses
from typing import Any

import pytest
import torch

from levelset.datasets import build_network
from levelset.errors import DataError
from levelset.training import RECIPES, recipe, train


@pytest.mark.parametrize("one", RECIPES, ids=lambda one: one.name)
def test_every_recipe_is_complete_and_its_texts_are_read(one: Any) -> None:
    options = one.options()
    assert str(options["loss"]) == one.loss
    assert str(options["schedule"]) == one.schedule
    assert one.source
    assert one.network.partition("(")[0].isidentifier()
    assert recipe(one.name) is one
    assert recipe(one.name.replace("-", "_")) is one


def test_names_are_different() -> None:
    assert len({one.name for one in RECIPES}) == len(RECIPES)


def test_numbers_of_table_a2() -> None:
    options = recipe("mnist-geometric-svm").options()
    (term,) = options["loss"].terms
    weight = term.options["weight"]
    assert [round(weight.at(epoch, 200), 9) for epoch in (0, 25, 50, 200)] == [
        0.01,
        0.105,
        0.2,
        0.2,
    ]
    factors = [options["schedule"].at(epoch, 200) for epoch in (49, 50, 100, 120, 140, 160, 180)]
    assert factors == [0.5**k for k in range(7)]
    kept = ("optimizer", "learning_rate", "weight_decay", "epochs", "batch_size")
    assert [options[name] for name in kept] == ["nesterov", 0.02, 1e-4, 200, 256]


@pytest.mark.parametrize(
    "name",
    [
        "mnist-geometric-svm",
        "mnist-robust-distance",
        "mnist-madry",
        "mnist-level-sets",
        "mnist-certified",
    ],
)
def test_a_recipe_trains(name: str, toy: Any) -> None:
    small = dataclasses.replace(recipe(name), epochs=1, batch_size=25)
    net = build_network("fc(2, 8, 3)")
    data = type(toy)(toy.points.sigmoid(), toy.labels)
    history = train(net, data, generator=torch.Generator().manual_seed(0), **small.options())
    assert history.loss.isfinite().all()
    assert history.names


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({one.network for one in RECIPES}))
def test_the_networks_can_be_built(name: str) -> None:
    assert build_network(name)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        DataError, match=r"no 'mnist'\. Known are: figure-1-geometric-svm, mnist-geom"
    ):
        recipe("mnist")
