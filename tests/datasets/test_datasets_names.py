"""Networks by their names."""

import pytest
import torch

from levelset import networks
from levelset.datasets import build_network
from levelset.datasets._names import is_network_name, network_names
from levelset.errors import DataError


def shapes(model):
    return [tuple(p.shape) for p in model.parameters()]


@pytest.mark.parametrize("spec", ["convnet_4a", "convnet-4a", " convnet_4a ", "convnet_4a()"])
def test_every_spelling_of_a_name(spec):
    assert shapes(build_network(spec)) == shapes(networks.convnet_4a())


def test_plain_arguments_are_handed_on():
    assert shapes(build_network("fc(20, 7,3)")) == [(7, 20), (7,), (3, 7), (3,)]
    assert shapes(build_network("bell-cnn(8)")) == shapes(networks.bell_cnn(8))
    relu, affine = build_network('convnet-4a(head="relu")'), build_network("convnet_4a")
    count = [sum(isinstance(m, torch.nn.ReLU) for m in n.modules()) for n in (relu, affine)]
    assert count == [6, 4]


def test_every_public_function_has_its_name_and_no_class():
    functions = [name for name in networks.__all__ if name.islower()]
    assert network_names() == sorted(functions)
    assert all(is_network_name(name) for name in functions)
    assert not is_network_name("SplineGrid")


@pytest.mark.parametrize("spec", ["nope", "", "_layers", "nn", "fc(", "fc)", "fc 3", "os.system"])
def test_what_is_no_name(spec):
    assert not is_network_name(spec)
    with pytest.raises(DataError, match=r"is no network known here. Known are: bell_cnn, "):
        build_network(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "fc(__import__('os').abort())",
        "fc(x)",
        "fc(2) + fc(3)",
        "fc(2)(3)",
        "fc(1 2)",
        "fc(*[2, 3])",
        "fc(**{'a': 2})",
        "fc(2); (3)",
        "fc(lambda: 1)",
    ],
)
def test_nothing_but_literals_is_taken(spec):
    with pytest.raises(DataError, match=r"plain literals such as 32|does not fit|no network known"):
        build_network(spec)


@pytest.mark.parametrize("spec", ["fc(2, 3, colour=4)", "convnet_4a(1, 2, 3, 4)"])
def test_arguments_that_do_not_fit_show_the_signature(spec):
    with pytest.raises(DataError, match=r"does not fit (fc|convnet_4a)\(.*argument"):
        build_network(spec)
