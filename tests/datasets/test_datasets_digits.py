"""The embedded digits."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from levelset.datasets import read_images


def test_the_parts_are_disjoint_and_complete():
    train, test = read_images("digits", split="train"), read_images("digits")
    assert (len(train), len(test)) == (1297, 500)
    data = load_digits()
    assert train.points.shape[1:] == (1, 8, 8)
    both = torch.cat([train.points, test.points]) * 16
    labels = torch.cat([train.labels, test.labels])
    rows = np.concatenate([both.view(-1, 64).numpy(), labels[:, None]], 1)
    known = np.concatenate([data.data, data.target[:, None]], 1)
    assert np.array_equal(rows[np.lexsort(rows.T)], known[np.lexsort(known.T)])


def test_each_class_is_split_alike():
    counts = np.bincount(load_digits().target)
    test = read_images("digits").labels.bincount().numpy()
    assert np.abs(test - counts * 500 / 1797).max() < 1


def test_the_split_never_moves():
    # the packaged weights were trained on one part of it
    assert read_images("digits").fingerprint() == "bb6816b3f34d9759"
    assert read_images("digits", split="train").fingerprint() == "bcfe5602d800e96e"


def test_the_front_is_mixed_and_the_range_full():
    images = read_images("digits", limit=100)
    assert len(set(images.labels.tolist())) == 10
    assert images.classes == tuple("0123456789")
    assert (images.points.min(), images.points.max()) == (0.0, 1.0)


def test_no_global_randomness_is_used():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    read_images("digits")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
