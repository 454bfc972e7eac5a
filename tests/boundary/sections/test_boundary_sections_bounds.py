"""What is said of cells of a plane holds at every point of them."""

import pytest
import torch
from torch import nn

from levelset._relaxation._piecewise import in_single, read_piecewise
from levelset.boundary._sections._bounds import CellBounds
from levelset.boundary._sections._plane import read_frame


class Residual(nn.Module):
    """Branches that are added, joined, and pooled in windows that overlap."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(4), nn.Linear(72, 3)

    def forward(self, x):
        first = torch.relu(self.one(x))
        second = self.norm(self.two(first)) + first
        pooled = nn.functional.max_pool2d(nn.functional.leaky_relu(second, 0.1), 2, 1)
        return self.out(torch.cat([pooled, nn.functional.hardtanh(pooled)], 1).flatten(1))


def plain():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 3)
    )


MODELS = {"plain": plain, "residual": Residual, "one layer": lambda: nn.Sequential(
    nn.Flatten(), nn.Linear(16, 3))}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_classes_and_slopes_are_as_they_are_said_to_be(name, settled, noise):
    model = settled(MODELS[name](), 3, torch.float64).eval()
    origin, u, v = 0.3 * noise(1, 4, 4), noise(1, 4, 4, seed=1), noise(1, 4, 4, seed=2)
    with torch.no_grad():
        frame = read_frame("test", model, origin, u, v, 1.0)
        program = read_piecewise("test", model, frame.origin, model(frame.origin), "")
        bounds = CellBounds(program, in_single("test", model, frame.origin), frame)
        side = 16
        ticks = torch.linspace(-1.0, 1.0, side + 1, dtype=torch.float64)
        low = torch.cartesian_prod(ticks[:-1], ticks[:-1])
        certain = bounds.bound(low, low + 2.0 / side)
        # Points on a lattice in each cell, its corners among them.
        inner = torch.linspace(0.0, 2.0 / side, 9, dtype=torch.float64)
        places = low[:, None] + torch.cartesian_prod(inner, inner)
        logits = model(frame.points(places.reshape(-1, 2))).view(len(low), 9, 9, -1)
    classes = logits.argmax(3).flatten(1)
    alone, two = certain.rival == -1, certain.rival >= 0
    assert (classes[alone] == certain.top[alone, None]).all()
    allowed = torch.stack([certain.top, certain.rival], 1)[two]
    assert (classes[two].unsqueeze(2) == allowed.unsqueeze(1)).any(2).all()
    pair = [logits.gather(3, allowed_.clamp(min=0).view(-1, 1, 1, 1).expand(-1, 9, 9, 1))
            for allowed_ in (certain.top, certain.rival)]  # fmt: skip
    score = (pair[0] - pair[1])[..., 0]
    for axis in (0, 1):
        change = score.diff(dim=1 + axis).flatten(1)[certain.steady[:, axis]]
        assert ((change > 0).all(1) | (change < 0).all(1)).all()
    # They are not only safe: most cells are decided, all of them where nothing bends.
    decided = alone | certain.steady.any(1)
    assert decided.double().mean() > (0.999 if name == "one layer" else 0.6)
    assert not certain.steady[~two].any()
    assert alone.any()
    assert certain.steady.any(1).any()


def test_planes_on_which_units_never_move_are_decided(noise):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight[:, 0] = 0.0
        model[0].weight[:2] = 0.0
        model[0].bias[:2] = 0.0  # exactly on their kinks everywhere
    origin, u, v = torch.zeros(3).double(), *torch.eye(3).double()[:2]
    with torch.no_grad():
        frame = read_frame("test", model, origin, u, v, 1.0)
        program = read_piecewise("test", model, frame.origin, model(frame.origin), "")
        bounds = CellBounds(program, in_single("test", model, frame.origin), frame)
        certain = bounds.bound(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    assert certain.top.shape == certain.rival.shape == (1,)
    assert certain.steady.shape == (1, 2)
