"""Checksums tell tensors apart by name, shape, dtype and content, and are the same everywhere."""

import torch

from levelset._tools.digests import checksum


def test_the_checksum_is_that_of_names_shapes_dtypes_and_bytes() -> None:
    tensors = {"b": torch.arange(4.0), "a": torch.zeros(2, 2, dtype=torch.bfloat16)}
    digest = checksum("text", tensors)
    assert digest == checksum("text", dict(reversed(tensors.items())))
    assert len(digest) == 64
    others = [
        ("word", tensors),
        ("text", tensors | {"b": torch.arange(4.0) + 1e-6}),
        ("text", tensors | {"b": torch.arange(4.0).view(2, 2)}),
        ("text", tensors | {"b": torch.arange(4.0).double()}),
        ("text", {"c": tensors["b"], "a": tensors["a"]}),
    ]
    assert digest not in {checksum(*other) for other in others}
