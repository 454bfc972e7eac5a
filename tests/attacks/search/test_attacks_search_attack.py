"""Results of attacks: every norm by hand, misclassified inputs apart."""

import math

import torch

from levelset.attacks import Attack


def some() -> Attack:
    inputs = torch.zeros(4, 2, 2)
    points = inputs.clone()
    points[0, 0] = torch.tensor([3.0, 4.0])
    points[1, 0, 0] = 1.0
    points[3] = 9.0
    ones = torch.ones(4, dtype=torch.int64)
    return Attack(
        points=points,
        success=torch.tensor([True, True, True, False]),
        distance=torch.tensor([5.0, 1.0, 0.0, math.inf]),
        evaluations=2 * ones,
        gradients=ones,
        norm=2.0,
        inputs=inputs,
    )


def test_summary_by_hand() -> None:
    summary = some().summary()
    assert summary["points"] == 4
    assert summary["success"] == 3
    assert summary["already_misclassified"] == 1
    assert summary["evaluations"] == 8
    assert summary["gradients"] == 4
    # Medians over the two inputs that were moved with success: by (3, 4) and by (1, 0).
    assert summary["distance_0_median"] == 1.5
    assert summary["distance_1_median"] == 4.0
    assert summary["distance_2_median"] == 3.0
    assert summary["distance_inf_median"] == 2.5
    assert summary["distortion_median"] == 1.5
    assert summary["distance_2_max"] == 5.0


def test_cutting_cuts_all() -> None:
    cut = some()[torch.tensor([False, True, False, True])]
    assert len(cut) == 2
    assert cut.distance.tolist() == [1.0, math.inf]
    assert cut.norm == 2.0
    assert cut.inputs.shape == (2, 2, 2)


def test_nothing_moved_has_no_norms() -> None:
    assert "distance_2_median" not in some()[2:].summary()
