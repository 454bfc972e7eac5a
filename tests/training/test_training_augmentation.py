"""Images that are moved about while a network is trained on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levelset.datasets import Images
from levelset.errors import LevelSetWarning, ParameterError, RunError, ShapeError
from levelset.losses import Diagnostics, adversarial
from levelset.networks import fc
from levelset.training import Augmentation, Objective, Term, train
from levelset.training._augmentation import Moved
from levelset.training._starts import Starts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moves(by: list[tuple[int, int]], flipped: list[bool]) -> Moved:
    return Moved(torch.tensor(by), torch.tensor(flipped))


@pytest.fixture
def squares() -> Images:
    """Images of 6 x 6 pixels, all 0 but a block of four in the middle, brighter in one class."""
    labels = torch.arange(12) % 2
    points = torch.zeros(12, 1, 6, 6)
    points[:, :, 2:4, 2:4] = 0.4 + 0.5 * labels.view(-1, 1, 1, 1)
    points[:, :, 2, 2] += torch.arange(12).view(-1, 1) * 0.001  # every image is another one
    return Images(points, labels, ("dark", "bright"), "squares")


def test_images_are_reflected_then_shifted_down_and_right_and_zeros_come_in() -> None:
    image = torch.arange(1.0, 10.0).view(1, 1, 3, 3).repeat(3, 2, 1, 1)
    moved = moves([(0, 0), (1, -1), (0, 1)], [False, False, True]).of(image)
    torch.testing.assert_close(moved[0], image[0])
    shifted = torch.tensor([[0.0, 0, 0], [2, 3, 0], [5, 6, 0]])
    reflected = torch.tensor([[0.0, 3, 2], [0, 6, 5], [0, 9, 8]])
    for channel in (0, 1):
        torch.testing.assert_close(moved[1, channel], shifted)
        torch.testing.assert_close(moved[2, channel], reflected)


def test_moving_back_undoes_all_but_what_left_the_image() -> None:
    images = torch.rand(40, 3, 7, 9, generator=seeded()) + 1.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = Moved.drawn(Augmentation(shift=2, flip=True), 40, images.device)
    back = moved.back(moved.of(images), outside=torch.nan)
    seen = ~back.isnan()
    assert torch.equal(back[seen], images[seen])
    assert seen[:, :, 2:-2, 2:-2].all()
    lost = (~seen).flatten(1).sum(1) / 3
    down, right = moved.by.abs().T
    assert torch.equal(lost, (63 - (7 - down) * (9 - right)).to(lost.dtype))


def test_moves_are_drawn_evenly() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = Moved.drawn(Augmentation(shift=1, flip=True), 9_000, torch.device("cpu"))
        still = Moved.drawn(Augmentation(), 100, torch.device("cpu"))
    shares = torch.bincount((moved.by + 1) @ torch.tensor([3, 1]), minlength=9) / 9_000
    assert float((shares - 1 / 9).abs().max()) < 0.015
    assert abs(float(moved.flipped.double().mean()) - 0.5) < 0.02
    assert not still.by.any()
    assert not still.flipped.any()


def test_ends_of_searches_move_with_their_images_and_come_back() -> None:
    points = torch.rand(5, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    starts, rows = Starts(["one"], points), torch.tensor([3, 1])
    moved = moves([(2, -1), (0, 1)], [True, False])
    steps = torch.randn(2, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    starts.keep(rows, {"one": moved.of(points[rows] + steps)}, moved)
    plain = starts.at(rows)["one"] - points[rows]
    seen = ~plain.isnan()
    torch.testing.assert_close(plain[seen], steps[seen], rtol=1 / 256, atol=1e-9)
    assert seen[:, :, 2:-2, 2:-2].all()
    other = moves([(-1, 2), (1, 1)], [False, True])
    again = starts.at(rows, other)["one"] - other.of(points[rows])
    torch.testing.assert_close(again, other.of(plain, outside=torch.nan), equal_nan=True)


def test_each_epoch_sees_other_moves_of_the_images(squares: Images) -> None:
    visits: list[Tensor] = []

    def loss(
        model: nn.Module,
        points: Tensor,
        labels: Tensor,
        *,
        starts: Any = "last",
        watch: Callable[[Diagnostics], None],
    ) -> Tensor:
        visits.append(points)
        if len(visits) > 1:
            known = ~starts.isnan()
            assert float(known.double().mean()) > 0.3
            assert float((starts - points)[known].abs().max()) <= 0.1 * 257 / 256
        return adversarial(model, points, labels, radius=0.1, steps=1, starts=starts, watch=watch)

    before = squares.points.clone()
    options: Any = {"epochs": 3, "batch_size": 12, "augmentation": Augmentation(shift=2)}
    objective = Objective(Term(loss, {"starts": "last"}))
    network = nn.Sequential(nn.Flatten(), fc(36, 2))
    with pytest.warns(LevelSetWarning, match=r"train: .*loss searches on.* few steps may miss"):
        train(network, squares, loss=objective, generator=seeded(), **options)
    assert torch.equal(squares.points, before)
    brightest = [points.flatten(1).sum(1).sort().values for points in visits]
    for sums in brightest[1:]:  # nothing bright leaves: the same images, elsewhere
        torch.testing.assert_close(sums, brightest[0])
    places = torch.stack([points.sum((0, 1)) for points in visits])
    assert len(places.unique(dim=0)) == 3
    assert int((places[0] > 0).sum()) > 4


def test_a_run_is_resumed_with_the_same_moves_only(squares: Images, tmp_path: Path) -> None:
    options: Any = {"epochs": 2, "batch_size": 5, "learning_rate": 0.1}
    networks = [nn.Sequential(nn.Flatten(), fc(36, 2)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    moving = options | {"augmentation": Augmentation(shift=1, flip=True)}
    train(networks[0], squares, generator=seeded(), **moving)
    train(networks[1], squares, generator=seeded(), out=tmp_path, **moving)
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RunError, match="`augmentation` was 'shift 1, flip' and is now None"):
        train(networks[1], squares, out=tmp_path, resume=True, **options)


@pytest.mark.parametrize("shift", [-1, 1.5, True, "2", None])
def test_shifts_that_cannot_be_are_refused(shift: Any) -> None:
    with pytest.raises(ParameterError, match=r"Augmentation: `shift` must be an integer.*, got"):
        Augmentation(shift=shift)


def test_points_that_are_no_images_are_refused(toy: Any, squares: Images) -> None:
    with pytest.raises(ShapeError, match=r"`augmentation` \(shift 2\) needs images .*\(50, 2\)"):
        train(fc(2, 3), toy, epochs=1, augmentation=Augmentation(shift=2))
    with pytest.raises(ShapeError, match=r"more than 6 pixels a side, got .*\(12, 1, 6, 6\)"):
        train(
            nn.Sequential(nn.Flatten(), fc(36, 2)), squares, epochs=1,
            augmentation=Augmentation(shift=6),
        )  # fmt: skip
