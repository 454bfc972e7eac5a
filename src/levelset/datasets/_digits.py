"""Scikit-learn's handwritten digits: real images that need no download."""

import numpy as np

from levelset.datasets._arrays import images_from_arrays
from levelset.datasets._images import Images, Split

__all__ = ["read_digits"]

TEST = 500  # of 1,797
BRIGHTEST = 16  # pixels count the inked ones among 4 x 4


def read_digits(*, split: Split, limit: int | None) -> Images:
    """Return the digits, `(n, 1, 8, 8)`: 1,297 to train on, 500 to test on.

    The split is a rule, not a draw, so that it never moves with a library: with the images in the
    order of their classes, those at which `500 * position / 1797` passes a whole number are for
    testing. Each class is thus split alike, to one image. Writers are in both parts.

    References:
        - E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    # scikit-learn takes more than a second to import.
    from sklearn.datasets import load_digits

    data = load_digits()
    count = len(data.target)
    position = np.empty(count, dtype=np.int64)
    position[np.argsort(data.target, kind="stable")] = np.arange(count)
    testing = (position + 1) * TEST // count > position * TEST // count
    rows = testing if split == "test" else ~testing
    return images_from_arrays(
        data.images[rows, None] / BRIGHTEST,
        data.target[rows],
        source="digits",
        name="digits",
        limit=limit,
    )
