"""How an array is cut into chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BYTES = 2**20  # of a chunk, before it is packed


def chunk_sizes(shape: Sequence[int], is_space: Sequence[bool], itemsize: int) -> tuple[int, ...]:
    """Return the size of a chunk along each axis: about a megabyte, as wide as it is high and deep.

    Axes that are not of space are cut into single planes.

    Parameters
    ----------
    shape
        Of the array.
    is_space
        Which axes are of space.
    itemsize
        The bytes of a pixel.

    Examples
    --------
    >>> chunk_sizes((3, 2048, 2048), (False, True, True), 2)
    (1, 512, 1024)
    >>> chunk_sizes((200, 2048, 2048), (True, True, True), 2)
    (64, 64, 128)
    >>> chunk_sizes((5, 2048, 100), (True, True, True), 2)
    (5, 1024, 100)
    """
    sizes = [1] * len(shape)
    growing = [i for i, space in enumerate(is_space) if space and shape[i] > 1]
    while growing and 2 * math.prod(sizes) * itemsize <= _BYTES:
        axis = min(reversed(growing), key=lambda i: sizes[i])
        sizes[axis] *= 2
        if sizes[axis] >= shape[axis]:
            sizes[axis] = shape[axis]
            growing.remove(axis)
    return tuple(sizes)
