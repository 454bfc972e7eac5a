"""One array of NumPy's format, its header checked against what is there before it is read."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_array"]

# Headers of version 3 differ from 2 in the names of fields alone, which plain numbers have not.
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}


def read_array(stream: Any, size: int) -> NDArray[Any]:
    """Return the array in a stream of so many bytes. Nothing is unpickled.

    Raises:
        ValueError: If it has no such header, holds pickled objects, or fewer bytes than its header
            says. NumPy raises others too, over damaged headers.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version} of NumPy's format")
    shape, _, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("the array holds pickled objects")
    there = size - stream.tell()
    promised = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or promised > there:
        raise ValueError(f"its header promises {promised} bytes after itself, there are {there}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
