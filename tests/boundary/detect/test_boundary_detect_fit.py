import time

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from levelset._tools.random import draw_seed
from levelset.boundary.detect._fit import choices, logistic
from levelset.boundary.detect._roc import Roc, most_accurate
from levelset.errors import DataError, ParameterError


def test_the_area_is_sklearn_s_ties_included(noise):
    natural, perturbed = noise(60, seed=1).round(decimals=1), noise(40, seed=2).round(decimals=1)
    found = Roc.of(natural, perturbed + 0.5, generator=torch.Generator().manual_seed(0))
    truth = roc_auc_score([0] * 60 + [1] * 40, torch.cat([natural, perturbed + 0.5]).numpy())
    assert found.area == pytest.approx(truth)
    assert float(torch.trapezoid(found.hits, found.false_alarms)) == pytest.approx(truth)
    assert found.low < truth < found.high
    assert found.false_alarms[0] == found.hits[0] == 0
    assert found.false_alarms[-1] == found.hits[-1] == 1


def test_the_bootstrap_interval_covers_the_true_area():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(60):
        natural = torch.randn(50, generator=generator, dtype=torch.float64)
        perturbed = 1.0 + torch.randn(50, generator=generator, dtype=torch.float64)
        found = Roc.of(natural, perturbed, draws=300, generator=generator)
        covered += found.low < 0.7602 < found.high
    assert covered >= 52


def test_the_threshold_is_the_most_accurate(noise):
    natural, perturbed = noise(50, seed=1), noise(50, seed=2) + 1.0
    threshold = most_accurate(Roc.of(natural, perturbed, draws=2))
    reached = (natural <= threshold).double().mean() + (perturbed > threshold).double().mean()
    for other in torch.cat([natural, perturbed]):
        assert (natural <= other).double().mean() + (perturbed > other).double().mean() <= reached
    same = torch.zeros(3)
    assert most_accurate(Roc.of(same, same, draws=2)) in (torch.inf, -torch.inf)


def test_logistic_weights_are_sklearn_s(noise):
    natural, perturbed = noise(80, 3, seed=1), noise(80, 3, seed=2) + torch.tensor([1.0, 0.0, -0.5])
    found = logistic(natural, perturbed)
    truth = LogisticRegression(C=1.0 / (2 * 80 * 1e-3), tol=1e-10).fit(
        torch.cat([natural, perturbed]).numpy(), [0] * 80 + [1] * 80
    )
    torch.testing.assert_close(found, torch.from_numpy(truth.coef_[0]), rtol=2e-2, atol=1e-3)
    assert logistic(natural[:, 2:], perturbed[:, 2:]).tolist() == [-1.0]


def test_choices_recover_the_weights_that_chose(noise):
    truth = torch.tensor([2.0, -1.0], dtype=torch.float64)
    features = noise(4000, 5, 2, seed=1)
    gumbel = -(-noise(4000, 5, seed=2).sigmoid().clamp(1e-9, 1 - 1e-9).log()).log()
    uniform = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gumbel = -(-uniform.log()).log()
    features[:, 4] = torch.nan
    utilities = (features @ truth + gumbel)[:, :4]
    found = choices(features, utilities.argmax(1))
    torch.testing.assert_close(found, truth, rtol=0.1, atol=0.1)


def test_the_curve_and_the_interval_are_those_of_their_definitions(noise):
    natural, perturbed = noise(30, seed=1).round(decimals=1), noise(20, seed=2).round(decimals=1)
    whole = Roc.of(natural, perturbed, draws=200, generator=torch.Generator().manual_seed(0))
    for level, alarms, hits in zip(
        whole.thresholds, whole.false_alarms, whole.hits, strict=True
    ):  # fmt: skip
        assert float(alarms) == pytest.approx(float((natural >= level).double().mean()))
        assert float(hits) == pytest.approx(float((perturbed >= level).double().mean()))
    source = torch.Generator().manual_seed(draw_seed(torch.Generator().manual_seed(0)))
    areas = []
    for _ in range(200):
        drawn = natural.sort().values[torch.randint(30, (30,), generator=source)]
        other = perturbed.sort().values[torch.randint(20, (20,), generator=source)]
        wins = other - drawn.unsqueeze(1)
        areas.append((wins > 0).double().mean() + (wins == 0).double().mean() / 2)
    ends = torch.stack(areas).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    torch.testing.assert_close(torch.tensor([whole.low, whole.high]).double(), ends)


def test_many_scores_take_little_time_and_memory(noise):
    began = time.process_time()
    found = Roc.of(noise(20_000, seed=1), noise(20_000, seed=2) + 1.0, draws=20)
    assert time.process_time() - began < 2.0  # each pair of score and threshold took 3 GB and 20 s
    assert found.area == pytest.approx(0.7602, abs=0.01)


def test_a_curve_without_draws_is_refused():
    with pytest.raises(ParameterError, match=r"Roc.of: `draws` must be an integer of at least 1"):
        Roc.of(torch.zeros(2), torch.ones(2), draws=0)


def test_scores_that_are_none_are_refused():
    with pytest.raises(DataError, match="`natural` must hold scores without NaN, got 0"):
        Roc.of(torch.zeros(0), torch.zeros(2))
    with pytest.raises(DataError, match="`perturbed` must hold scores without NaN"):
        Roc.of(torch.zeros(1), torch.tensor([torch.nan]))
