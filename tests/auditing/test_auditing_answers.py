"""Audits of models that answer labels, and of those that should not."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from levelset import Classifier, audit
from levelset.auditing._answers import first_answers
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


class Masked(nn.Module):
    """Three classes of a model, and a fourth that is masked out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        logits = self.model(points)
        return torch.cat([logits, logits.new_full((len(logits), 1), -100.0)], 1)


def test_constants_among_the_logits_are_fine(
    model: nn.Module, points: Tensor, labels: Tensor
) -> None:
    plain = audit(model, points, labels, effort="quick", norms=(2.0,))
    masked = audit(Masked(model), points, labels, effort="quick", norms=(2.0,))
    for name in ("margin", "prediction", "distance_2"):
        torch.testing.assert_close(masked.columns[name], plain.columns[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["logit", "probability", None])
def test_a_binary_model_is_audited_as_its_two_logits(points: Tensor, kind: str | None) -> None:
    f = nn.Linear(6, 1, dtype=torch.float64)
    f.weight.data = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64).unsqueeze(0)
    f.bias.data.fill_(-1.5)
    given = points.double()
    exact = (f(given).squeeze(1) / f.weight.norm()).detach()
    model = nn.Sequential(f, nn.Sigmoid()) if kind == "probability" else f
    read = model if kind is None else Classifier(model, outputs=kind)
    found = audit(
        read, given, (exact > 0).long(), measures=("distance",), norms=(2.0,),
        bounds=(-math.inf, math.inf),
    )  # fmt: skip
    torch.testing.assert_close(found.columns["distance_2"], exact.abs(), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.columns["margin"], f(given).squeeze(1).abs().detach())
    assert found.columns["correct"].all()
    assert found.classes == ("0", "1")


class Standing(nn.Module):
    """Looks at the statistics of its batch, in evaluation mode too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model(nn.functional.batch_norm(points, None, None, training=True))


def test_rows_that_depend_on_each_other_are_refused(
    model: nn.Module, points: Tensor, labels: Tensor
) -> None:
    with pytest.raises(FieldError, match=r"each row on its own.*statistics of the batch\?"):
        audit(Standing(model), points, labels)


def test_the_check_takes_one_gradient_a_point(points: Tensor) -> None:
    calls = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = x @ torch.ones(6, 1000) * torch.linspace(0.0, 1.0, 1000)
            if out.requires_grad:
                out.register_hook(lambda slope: calls.append(len(slope)))
            return out

    model = Counting()
    first_answers(model, points, model(points).argmax(1), ("distance",), None)
    assert len(calls) == 1
