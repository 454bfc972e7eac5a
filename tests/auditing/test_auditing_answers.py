"""Audits of models that answer labels, and of those that should not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from levelset import audit
from levelset.errors import FieldError, ShapeError
from levelset.networks import fc


@pytest.fixture
def model() -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    network = fc(6, 12, 3).eval()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture
def points() -> Tensor:
    return torch.rand(9, 6, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def labels(model: nn.Module, points: Tensor) -> Tensor:
    return model(points).argmax(1)


class Answers(nn.Module):
    def __init__(self, model: nn.Module, *, one_hot: bool = False, least: int = 0) -> None:
        super().__init__()
        self.model = model
        self.one_hot = one_hot
        self.least = least

    def forward(self, points: Tensor) -> Tensor:
        answer = self.model(points).argmax(1) + self.least
        return nn.functional.one_hot(answer, 3) if self.one_hot else answer


def test_persistence_alone_takes_a_model_that_answers_labels(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    logits = audit(model, points, labels, measures=("persistence",))
    found = audit(
        Answers(model), points, labels, measures=("persistence",), classes=["a", "b", "c"],
        out=tmp_path,
    )  # fmt: skip
    for name in ("prediction", "correct", "sigma_star", "noise_rival"):
        assert torch.equal(found.columns[name], logits.columns[name])
    assert found.columns["margin"].isnan().all()
    assert found.classes == ("a", "b", "c")
    assert found.summary()["accuracy"] == logits.summary()["accuracy"]
    top = max(int(labels.max()), int(found.columns["prediction"].max()))
    alone = audit(Answers(model), points, labels, measures=("persistence",), batch_size=4)
    assert alone.classes == tuple(str(k) for k in range(top + 1))


@pytest.mark.messages
def test_labels_are_refused_where_logits_are_needed(
    model: nn.Module, points: Tensor, labels: Tensor
) -> None:
    said = r"`model` must return floating-point logits \(n, k\) to measure distance and persistence"
    with pytest.raises(FieldError, match=said + r".*labels \(n,\) are enough for persistence"):
        audit(Answers(model), points, labels, measures=("distance", "persistence"))
    with pytest.raises(FieldError, match=r"got \(4, 3\) of torch.int64"):
        audit(Answers(model, one_hot=True), points, labels, measures=("persistence",))
    with pytest.raises(FieldError, match=r"labels of at least 0, got -[1-3]"):
        audit(Answers(model, least=-3), points, labels, measures=("persistence",))
    with pytest.raises(ShapeError, match=r"`labels` must be integers"):
        audit(Answers(model), points, labels.float(), measures=("persistence",))
