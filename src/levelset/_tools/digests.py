"""Checksums of tensors."""

import hashlib

import torch
from torch import Tensor

__all__ = ["checksum"]


def checksum(text: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a text and of name, shape, dtype and every byte of the tensors."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
