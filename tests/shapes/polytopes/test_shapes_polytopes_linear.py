"""Formulas through ReLUs: the same values, in the layers and units that are announced."""

import pytest
import torch
from solids import SOLIDS, cloud, l_block, on_faces, torus_of_blocks
from torch import nn

from levelset.errors import ParameterError
from levelset.reconstruction import exact_mesh
from levelset.shapes import polytope_network


@pytest.mark.parametrize("name", SOLIDS)
def test_it_is_the_same_function_in_linear_and_relu_alone(name):
    mesh = SOLIDS[name]()
    network, points = polytope_network(mesh), cloud(mesh, 200)
    layers = network.sequential()
    assert {type(layer) for layer in layers} == {nn.Linear, nn.ReLU}
    assert (layers(points).squeeze(1) - network(points)).abs().max() <= 1e-13
    assert layers(on_faces(mesh, 1)).abs().max() <= 1e-13
    widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    assert len(widths) == network.layers + 1
    assert sum(widths[:-1]) == network.units


@pytest.mark.parametrize("solid", [l_block, torus_of_blocks])
def test_its_level_set_is_the_polyhedron(solid):
    """Meshed by analytic marching, which knows nothing of how the network came about."""
    mesh = solid()
    box = ((-2.33,) * 3, (3.33,) * 3)
    level_set = exact_mesh(polytope_network(mesh).sequential(), bounds=box, seeds=17)
    assert level_set.watertight
    assert level_set.genus == mesh.genus
    assert level_set.area == pytest.approx(mesh.area, rel=1e-12)
    assert -level_set.volume == pytest.approx(mesh.volume, rel=1e-12)  # looks inwards, uphill


def test_a_gate_of_planes_alone_and_a_single_fold():
    square = (torch.cat([torch.eye(2), -torch.eye(2)]).double(), torch.ones(4).double())
    layers = polytope_network(square).sequential()
    assert layers(torch.tensor([[0.0, 0.0], [0.5, 0.2], [3.0, 0.0]]).double()).squeeze(
        1
    ).tolist() == pytest.approx([1.0, 0.5, -2.0])


def test_layers_too_large_are_refused_before_they_are_made():
    network = polytope_network(l_block())
    with pytest.raises(ParameterError, match=r"`max_weights` must be at least 1[0-9]+ for this"):
        network.sequential(max_weights=100)
