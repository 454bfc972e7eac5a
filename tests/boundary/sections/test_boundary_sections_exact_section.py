"""Exact sections: regions against formulas and patterns, classes against the network itself."""

import os
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset import Classifier
from levelset.boundary import exact_section
from levelset.errors import DataError, FieldError, ParameterError, ShapeError

X, Y = torch.eye(2, dtype=torch.float64)
ZERO = torch.zeros(2, dtype=torch.float64)


def lines(rows, *, head=None):
    """Return a layer of ReLUs, one a line (a, b, c) of a x + b y + c = 0, and a linear head."""
    rows = torch.as_tensor(rows, dtype=torch.float64)
    first = nn.Linear(2, len(rows)).double()
    last = nn.Linear(len(rows), 2).double()
    with torch.no_grad():
        first.weight.copy_(rows[:, :2])
        first.bias.copy_(rows[:, 2])
        last.weight.copy_(torch.zeros_like(last.weight) if head is None else head)
        last.bias.copy_(torch.tensor([0.0, 5.0]))
    return nn.Sequential(first, nn.ReLU(), last)


def section(model, *, origin=ZERO, u=X, v=Y, extent=1.0, **more):
    return exact_section(model, origin, u, v, extent=extent, **more)


def check(found, area=4.0):
    """Polygons that fill the rectangle, without gap or overlap."""
    assert found.regions.euler == 1
    assert float(found.areas.min()) >= -1e-18
    assert abs(float(found.areas.sum()) - area) <= 1e-14 * area
    torch.testing.assert_close(found.regions.areas, found.areas, rtol=1e-12, atol=1e-15)
    assert found.complete


def middles(found):
    corners = found.regions.vertices[found.regions.corners]
    sizes = found.regions.offsets.diff().tolist()
    return torch.stack([each.mean(0) for each in corners.split(sizes)])


def check_against(model, found, points):
    """The network is affine on each region, and has its class there."""
    centres = middles(found)
    logits = model(points(centres))
    regions = found.regions
    means = [each.mean(0) for each in model(points(regions.vertices))[regions.corners].split(
        regions.offsets.diff().tolist())]  # fmt: skip
    torch.testing.assert_close(torch.stack(means), logits, rtol=1e-9, atol=1e-9)
    sizes = found.areas > 1e-9
    near = logits >= logits.amax(1, keepdim=True) - 1e-12
    assert torch.equal(near.long().argmax(1)[sizes], found.classes[sizes])


def random_network(kind, seed=0):
    generator = torch.Generator().manual_seed(seed)
    networks = {
        "linear": lambda: nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(),
                                        nn.Linear(8, 4)),
        "leaky": lambda: nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(0.2), nn.Linear(9, 3)),
        "hardtanh": lambda: nn.Sequential(nn.Linear(6, 9), nn.Hardtanh(-0.5, 0.8),
                                          nn.Linear(9, 5), nn.ReLU6(), nn.Linear(5, 3)),
        "batch norm": lambda: nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(),
                                            nn.Linear(9, 3)),
        "convolution": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)), nn.ReflectionPad2d(1), nn.Conv2d(1, 2, 2), nn.ReLU(),
            nn.MaxPool2d(2, stride=1), nn.AvgPool2d((1, 2), stride=1), nn.Flatten(),
            nn.Linear(8, 3)),
        "pool first": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)), nn.ZeroPad2d(1), nn.Conv2d(1, 3, 2), nn.MaxPool2d(2),
            nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)),
        "residual": Residual,
        "softmax": lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3),
                                         nn.Softmax(1)),
    }  # fmt: skip
    model = networks[kind]().double().eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return model, torch.randn(3, 6, generator=generator, dtype=torch.float64)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last = nn.Linear(12, 3)

    def forward(self, x):
        inner = x + functional.relu(self.first(x))
        other = functional.hardtanh(inner - self.second(functional.relu(inner)))
        return self.last(torch.cat([inner, other], dim=1))


KINDS = (
    "linear", "leaky", "hardtanh", "batch norm", "convolution", "pool first", "residual",
    "softmax",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_network_is_affine_on_each_region(kind):
    model, (origin, u, v) = random_network(kind)
    taken = Classifier(model, outputs="probabilities") if kind == "softmax" else model
    found = section(taken, origin=origin, u=u, v=v, extent=((-1.0, 2.0), (-1.5, 1.0)))
    check(found, 7.5)
    assert found.linear_regions > 5
    logits = model[:-1] if kind == "softmax" else model
    check_against(logits, found, lambda p: origin + p @ torch.stack([u, v]))
    assert found.extent == ((-1.0, 2.0), (-1.5, 1.0))


def patterns(model, points):
    """Return which units are active at points, a row each."""
    signs = []
    for layer in model:
        if isinstance(layer, nn.ReLU):
            signs.append(points > 0)
        points = layer(points)
    return torch.cat([sign.flatten(1) for sign in signs], 1)


@torch.no_grad()
def test_regions_are_those_of_the_patterns():
    """Each pattern of active units has one convex region, so no two regions share one."""
    model, (origin, u, v) = random_network("linear", 3)
    found = section(model, origin=origin, u=u, v=v, extent=2.0)
    centres = origin + middles(found) @ torch.stack([u, v])
    rows = patterns(model, centres)
    assert len(torch.unique(rows, dim=0)) == found.linear_regions
    by_region = {int(i): rows[k] for k, i in enumerate(found.linear)}
    assert all(torch.equal(rows[k], by_region[int(i)]) for k, i in enumerate(found.linear))
    grid = torch.linspace(-2, 2, 301, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    sampled = patterns(model, origin + places @ torch.stack([u, v]))
    regions = {tuple(row.tolist()) for row in rows}
    assert {tuple(row.tolist()) for row in torch.unique(sampled, dim=0)} <= regions


@torch.no_grad()
def test_the_boundary_is_where_two_logits_tie():
    model, (origin, u, v) = random_network("linear", 5)
    found = section(model, origin=origin, u=u, v=v, extent=3.0)
    assert len(found.boundary) > 5
    axes = torch.stack([u, v])
    for share in (0.0, 0.3, 1.0):
        places = torch.lerp(found.boundary[:, 0], found.boundary[:, 1], share)
        logits = model(origin + places @ axes)
        pair = logits.gather(1, found.sides)
        assert float((pair[:, 0] - pair[:, 1]).abs().max()) < 1e-12 * float(logits.abs().max())
        assert bool((pair[:, 0] >= logits.amax(1) - 1e-10).all())
    step = (found.boundary[:, 1] - found.boundary[:, 0]) @ axes
    torch.testing.assert_close(found.lengths, step.norm(dim=1))
    # A quarter turn from the direction of a segment lies its left side.
    long = (found.boundary[:, 1] - found.boundary[:, 0]).norm(dim=1) > 1e-3
    along = found.boundary[long, 1] - found.boundary[long, 0]
    left = found.boundary[long].mean(1) + 1e-7 * torch.stack([-along[:, 1], along[:, 0]], 1)
    assert torch.equal(model(origin + left @ axes).argmax(1), found.sides[long, 0])


def test_generic_lines_make_as_many_regions_as_euler_says():
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    rows[:, 2] *= 0.3
    found = section(lines(rows))
    check(found)
    crossings, inside = 0, 0
    for a, b, c in rows.tolist():
        inside += max(abs(a) + abs(b) - abs(c), 0.0) > 0
    for i in range(30):
        for j in range(i):
            place = torch.linalg.solve(rows[[i, j], :2], -rows[[i, j], 2])
            crossings += bool(place.abs().max() < 1)
    assert found.linear_regions == 1 + inside + crossings


def fan(count, through=(0.1, -0.2), turn=0.01):
    angles = torch.arange(count, dtype=torch.float64) * torch.pi / count + turn
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    return torch.cat([rows, -(rows @ torch.tensor(through).double()).unsqueeze(1)], 1)


def lattice(times=1):
    ticks = torch.linspace(-0.9, 0.9, 9, dtype=torch.float64)
    one, nought = torch.ones(9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    rows = torch.cat([torch.stack([one, nought, -ticks], 1), torch.stack([nought, one, -ticks], 1)])
    return rows.repeat(times, 1)


DEGENERATE = {
    "40 lines through a point": (fan(40), 80),
    "40 lines through a corner": (fan(40, (1.0, 1.0), 0.013), None),
    "a lattice": (lattice(), 100),
    "a lattice five times": (lattice(5), 100),
    "a lattice and its diagonals": (
        torch.cat([lattice(), torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]).double()]), 120
    ),
    "negated": (torch.cat([fan(7), -fan(7)]), 14),
    "proportional": (torch.cat([fan(7) * s for s in (1.0, 1e-6, 3e5, -7.0)]), 14),
    "dead": (torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]), 2),
    "along the sides": (torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0], [1.0, 1.0, 0.0]]), 2),
    "through the corners": (torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]), 4),
    "none": (torch.tensor([[1.0, 0.0, 9.0]]), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(DEGENERATE))
def test_degenerate_lines(name):
    rows, regions = DEGENERATE[name]
    found = section(lines(rows))
    check(found)
    if regions is not None:
        assert found.linear_regions == regions


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_degenerate_networks_of_several_layers(seed):
    """Units twice, negated and scaled in each layer: the walls of one are those of the next."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(-2, 3, (6, 3), generator=generator).double()
    rows = torch.cat([small, small, -small, 4 * small])
    model = lines(rows)
    second = nn.Linear(24, 12).double()
    block = torch.randint(-1, 2, (6, 24), generator=generator).double()
    second.weight.data.copy_(torch.cat([block, block]))
    second.bias.data.zero_()
    last = nn.Linear(12, 4).double()
    last.weight.data.copy_(torch.randint(-1, 2, (4, 12), generator=generator))
    last.bias.data.zero_()
    model = nn.Sequential(*model[:2], second, nn.ReLU(), last)
    found = section(model)
    check(found)
    check_against(model, found, lambda p: p)


def test_a_wall_of_one_layer_along_those_of_another():
    first = lines(lattice())[0]
    second = nn.Linear(18, 18).double()
    second.weight.data.copy_(torch.eye(18))  # bends where the first did, too
    second.bias.data.zero_()
    last = nn.Linear(18, 2).double()
    found = section(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last))
    check(found)
    assert found.linear_regions == 100


def test_near_coincident_units_make_slivers_unless_merged():
    rows = torch.tensor(
        [[1.0, 0.3, 0.1], [1.0, 0.3, 0.1 + 1e-9], [0.2, 1.0, 0.0]], dtype=torch.float64
    )
    assert section(lines(rows)).linear_regions == 6
    found = section(lines(rows), merge=1e-7)
    assert found.linear_regions == 4
    check(found)


def test_equal_logits_leave_one_class():
    found = section(lines(fan(5), head=torch.zeros(2, 5)))
    assert found.classes.unique().tolist() == [1]
    same = nn.Linear(2, 4).double()
    same.weight.data.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    same.bias.data.zero_()
    found = section(same)
    check(found)
    assert found.class_areas.tolist() == [2.0, 0.0, 2.0, 0.0]
    assert found.sides.tolist() in ([[0, 2]], [[2, 0]])


def test_a_class_inside_without_a_corner():
    """The largest logit in the middle is nowhere the largest at a corner."""
    model = nn.Linear(2, 5).double()
    model.weight.data.copy_(
        torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
    )
    model.bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5]))
    found = section(model)
    check(found)
    torch.testing.assert_close(found.class_areas, torch.tensor([0.75] * 4 + [1.0]).double())
    assert len(found.regions) == 5
    assert len(found.boundary) == 8
    assert abs(float(found.lengths.sum()) - (4 + 4 * 0.5 * 2**0.5)) < 1e-14


def test_a_logit_of_one_output_and_normalisation():
    model = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()).double()
    model[0].weight.data.copy_(torch.tensor([[2.0, 0.0]]))
    model[0].bias.data.zero_()
    classifier = Classifier(model, mean=0.25, std=2.0, outputs="probability")
    found = section(classifier)
    torch.testing.assert_close(found.class_areas, torch.tensor([2.5, 1.5]).double())


def test_images_and_flat_planes():
    """Units of a convolution tie everywhere on flat images, and on the lattice of pixels."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ).double()
    for value in model.parameters():
        value.data.copy_(torch.randn(value.shape, generator=generator))
    flat = torch.ones(1, 8, 8, dtype=torch.float64)
    half = flat.clone()
    half[:, :4] = 0.0
    pixel = torch.zeros_like(flat)
    pixel[0, 3, 3] = 1.0
    for origin, u, v in ((0 * flat, flat, half), (flat, pixel, pixel.roll(1, 2))):
        found = section(model, origin=origin, u=u, v=v, extent=2.0)
        check(found, 16.0)
        with torch.no_grad():
            axes = torch.stack([u, v]).flatten(1)
            check_against(
                model, found,
                lambda p, o=origin, a=axes: (o.flatten() + p @ a).view(-1, 1, 8, 8),
            )  # fmt: skip


TRACED = ("linear", "leaky", "hardtanh", "convolution", "pool first", "residual")


@pytest.mark.parametrize("kind", TRACED)
@pytest.mark.parametrize("seed", range(3))
def test_the_traced_boundary_is_that_of_the_subdivision(kind, seed):
    model, (origin, u, v) = random_network(kind, seed)
    u, v = u / u.norm(), v / v.norm()
    more = {"origin": origin, "u": u, "v": v, "extent": ((-3.0, 2.0), (-1.5, 2.5))}
    whole = section(model, **more)
    traced = section(model, **more, route="tracing", seeds=40)
    assert traced.route == "tracing"
    assert not traced.complete
    assert len(traced.regions) == len(traced.classes) == 0
    assert float(traced.lengths.sum()) == pytest.approx(float(whole.lengths.sum()), rel=1e-9)
    assert len(traced.triple_points) == len(whole.triple_points)
    if len(whole.triple_points):
        apart = torch.cdist(traced.triple_points, whole.triple_points)
        assert float(apart.amin(1).max()) < 1e-9
    with torch.no_grad():
        for share in (0.0, 0.4, 1.0):
            places = torch.lerp(traced.boundary[:, 0], traced.boundary[:, 1], share)
            logits = model(origin + places @ torch.stack([u, v]))
            pair = logits.gather(1, traced.sides)
            top = logits.amax(1, keepdim=True)
            assert len(pair) == 0 or float((pair - top).abs().max()) < 1e-10
    with pytest.raises(ParameterError, match="the boundary was traced"):
        traced.raster(5)


@pytest.mark.parametrize("name", sorted(DEGENERATE))
@pytest.mark.parametrize("integers", [False, True])
def test_the_boundary_is_traced_through_degenerate_corners(name, integers):
    rows, _ = DEGENERATE[name]
    generator = torch.Generator().manual_seed(1)
    head = torch.randn(2, len(rows), generator=generator, dtype=torch.float64)
    if integers:  # the boundary runs through corners, too
        head = torch.randint(-2, 3, head.shape, generator=generator).double()
    whole = section(lines(rows, head=head), route="subdivision")
    traced = section(lines(rows, head=head), route="tracing", seeds=20)
    length = float(whole.lengths.sum())
    assert float(traced.lengths.sum()) == pytest.approx(length, rel=1e-12, abs=1e-12)
    counts = [int((found.lengths > 1e-8).sum()) for found in (whole, traced)]
    assert counts[1] <= counts[0] + 3  # curves begin inside of regions


def test_the_route_is_chosen_by_the_number_of_regions():
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    rows[:, 2] *= 0.3
    head = torch.randn(2, 60, generator=generator, dtype=torch.float64)
    whole = section(lines(rows, head=head))
    traced = section(lines(rows, head=head), max_regions=300)
    assert (whole.route, traced.route) == ("subdivision", "tracing")
    # The probe is within a factor of three.
    assert whole.linear_regions / 3 < traced.linear_regions < 3 * whole.linear_regions
    assert float(traced.lengths.sum()) == pytest.approx(float(whole.lengths.sum()), rel=1e-9)


def test_a_plane_without_a_boundary_shows_one_class():
    model = nn.Linear(2, 3).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([0.0, 2.0, 0.0]))
    for route in ("subdivision", "tracing", "certified"):
        assert section(model, route=route).summary()["classes_seen"] == 1


def test_the_boundary_is_traced_where_the_estimate_was_too_low():
    """Lines that meet in one corner, off all three lines that the estimate looks along."""
    generator = torch.Generator().manual_seed(4)
    slopes = torch.linspace(0.7, 1.4, 20, dtype=torch.float64)
    x, y = 0.1 * torch.rand(2, 20, generator=generator, dtype=torch.float64) - 0.75
    rows = torch.stack([-slopes, torch.ones(20).double(), slopes * x + y], dim=1)
    head = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    model = lines(rows, head=head)
    assert section(model, route="tracing").linear_regions < 10
    assert section(model).linear_regions > 100
    assert section(model, max_regions=50).route == "tracing"
    with pytest.raises(ParameterError, match="more than `max_regions`"):
        section(model, max_regions=50, route="subdivision")


def test_any_form_of_points(settled):
    model = settled(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    image = torch.rand(1, 2, 2)
    one = section(model, origin=image, u=image.flip(1), v=image.flip(2))
    two = section(model, origin=image[None], u=image.flip(1)[None], v=image.flip(2)[None])
    torch.testing.assert_close(one.areas, two.areas)
    assert "linear_regions=1" in repr(one)
    assert one.area_unit == pytest.approx(two.area_unit)


def test_bad_input():
    model = lines(fan(3))
    with pytest.raises(ParameterError, match=r"`u` and `v` must span a plane, got parallel"):
        section(model, v=2 * X)
    with pytest.raises(ParameterError, match="`v` must not be zero"):
        section(model, v=ZERO)
    with pytest.raises(ShapeError, match=r"`u` must have the shape of `origin`, \(2,\)"):
        section(model, u=torch.ones(3))
    with pytest.raises(DataError, match="`origin` must be finite"):
        section(model, origin=X * torch.nan)
    for extent in (0.0, -1.0, torch.inf):
        with pytest.raises(ParameterError, match="`extent` must be positive"):
            section(model, extent=extent)
    with pytest.raises(ParameterError, match="each pair in order"):
        section(model, extent=((1.0, 0.0), (0.0, 1.0)))
    with pytest.raises(ParameterError, match="`merge` must be at least 0"):
        section(model, merge=-1.0)
    with pytest.raises(ParameterError, match="`seeds` must be an integer of at least 2"):
        section(model, seeds=1)
    with pytest.raises(ParameterError, match=r"more than `max_regions`=50 .*route='tracing'"):
        section(lines(lattice()), max_regions=50, route="subdivision")


class Odd(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real


def test_what_is_not_piecewise_linear_is_named():
    tail = [nn.Linear(2, 2)]
    with pytest.raises(FieldError, match=r"has the layer `model.1` \(GELU\), which is not"):
        section(nn.Sequential(nn.Linear(2, 2), nn.GELU(), *tail).double())
    with pytest.raises(FieldError, match=r"\(Tanh\), which is smooth.*`levelset.boundary.section`"):
        section(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), *tail).double())
    with pytest.raises(FieldError, match=r"levelset\.boundary\.section"):
        section(nn.Sequential(Odd(), *tail).double())
    hooked = nn.Sequential(*tail).double()
    hooked[0].register_forward_hook(lambda module, taken, out: out + torch.tensor([9.0, 0.0]))
    with pytest.raises(FieldError, match="something else than its layers"):
        section(hooked)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif("LEVELSET_DATA" not in os.environ, reason="LEVELSET_DATA is not set")
@torch.no_grad()
def test_a_plane_of_three_digits():
    """784-100-100-10, trained: no pixel of 192 x 192 has another class than the network says."""
    from levelset.datasets import read_images

    points = read_images("mnist", limit=2000)
    images = points.points.flatten(1)
    generator = torch.Generator().manual_seed(0)
    widths = (784, 100, 100, 10)
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) / value.shape[-1] ** 0.5)
    with torch.enable_grad():
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for step in range(150):
            rows = slice(100 * (step % 20), 100 * (step % 20) + 100)
            loss = functional.cross_entropy(model(images[rows]), points.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    a, b, c = images[:3].double()
    u = (b - a) / (b - a).norm()
    v = (c - a) - ((c - a) @ u) * u
    v = v / v.norm()
    found = exact_section(model, (a + b + c) / 3, u, v, extent=8.45)
    check(found, 16.9**2)
    assert found.linear_regions > 3000
    raster = found.raster(192)
    ticks = (torch.arange(192, dtype=torch.float64) + 0.5) / 192 * 16.9 - 8.45
    places = torch.cartesian_prod(ticks, ticks).flip(1)
    model = model.double()
    answers = model((a + b + c) / 3 + places @ torch.stack([u, v])).argmax(1)
    assert torch.equal(raster, answers.view(192, 192))
