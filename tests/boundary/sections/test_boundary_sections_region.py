"""Maps of a network that follow a walk from region to region, against the network itself."""

import numpy as np
import pytest
import torch
from torch import nn

from levelset._relaxation._piecewise import read_piecewise
from levelset.boundary._sections._plane import read_frame
from levelset.boundary._sections._region import Region

NETWORKS = {
    "dense": (nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 7), nn.Hardtanh(-0.4, 0.6),
                            nn.Linear(7, 3)), (5,)),
    "strided": (nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.LeakyReLU(0.1),
                              nn.Conv2d(4, 4, 2, padding=1, groups=2), nn.ReLU(),
                              nn.MaxPool2d(3, stride=2, padding=1), nn.Conv2d(4, 3, 2, dilation=2),
                              nn.LeakyReLU(0.3), nn.Flatten(), nn.Linear(3, 3)), (2, 8, 8)),
    "bends at the end": (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU()),
                         (4,)),
}  # fmt: skip


def region_of(settled, noise, name):
    network, shape = NETWORKS[name]
    network = settled(network).double()
    origin, u, v = noise(3, *shape)
    frame = read_frame("test", network, origin, u, v, 2.0)
    program = read_piecewise("test", network, frame.origin, network(frame.origin), "")
    return network, frame, Region(program, frame)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@torch.no_grad()
def test_a_straight_walk_sees_the_network(settled, noise, name):
    network, frame, region = region_of(settled, noise, name)
    start, ahead = np.array([-1.9, -1.1]), np.array([0.8, 0.6])
    region.enter(start)
    passed, walls, changes = 0.0, 0, 0
    while True:
        far, wall = region.first(start + passed * ahead, ahead)
        stop = min(passed + far, 3.0)
        middle = start + (passed + stop) / 2 * ahead
        logits = np.array([1.0, *middle]) @ region.logits
        expected = network(frame.points(torch.from_numpy(middle)[None]))[0]
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-11, atol=1e-11)
        if stop == 3.0:
            break
        passed, walls = stop, walls + 1
        changes += region.cross(wall)
    assert walls > 2
    assert 0 < changes <= walls


@torch.no_grad()
def test_a_region_is_restored(settled, noise):
    _, _, region = region_of(settled, noise, "strided")
    region.enter(np.zeros(2))
    logits, state = region.logits.copy(), region.state()
    place, ahead = np.zeros(2), np.array([1.0, 0.0])
    for _ in range(25):
        far, wall = region.first(place, ahead)
        place = place + far * ahead
        region.cross(wall)
    assert np.abs(region.logits - logits).max() > 1e-3
    region.restore(state)
    np.testing.assert_allclose(region.logits, logits, atol=1e-12)
    assert region.first(np.zeros(2), ahead)[0] > 0


@torch.no_grad()
def test_no_walls(settled, noise):
    network = settled(nn.Linear(3, 2)).double()
    origin, u, v = noise(3, 3)
    frame = read_frame("test", network, origin, u, v, 1.0)
    program = read_piecewise("test", network, frame.origin, network(frame.origin), "")
    region = Region(program, frame)
    region.enter(np.zeros(2))
    assert region.first(np.zeros(2), np.array([1.0, 0.0])) == (float("inf"), -1)
    np.testing.assert_allclose(region.logits[0], network(frame.origin)[0].numpy())
