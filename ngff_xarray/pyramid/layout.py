"""How an array is cut into chunks, and those are put together into shards."""

from __future__ import annotations

import math
from collections.abc import Sequence

_CHUNK = 2**20  # bytes, before they are packed
_SHARD = 2**27
_OBJECTS = 10_000  # of an array: more are put into shards


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
    growing = [i for i, space in enumerate(is_space) if space]
    return _grown([1] * len(shape), shape, growing, _CHUNK // max(itemsize, 1))


def shard_sizes(
    shape: Sequence[int], chunks: Sequence[int], is_space: Sequence[bool], itemsize: int
) -> tuple[int, ...] | None:
    """Return the size of a shard along each axis: about 100 MB, of whole chunks.

    Returns None where the chunks are few enough to be objects of their own.

    Parameters
    ----------
    shape, is_space, itemsize
        As of `chunk_sizes`.
    chunks
        The size of a chunk.

    Examples
    --------
    >>> shard_sizes((2048, 2048, 2048), (64, 64, 128), (True, True, True), 2)
    (256, 512, 512)
    >>> shard_sizes((200, 2048, 2048), (64, 64, 128), (True, True, True), 2)
    """
    counts = [-(-n // m) for n, m in zip(shape, chunks, strict=True)]
    if math.prod(counts) <= _OBJECTS:
        return None
    growing = [i for i, space in enumerate(is_space) if space]
    most = _SHARD // max(math.prod(chunks) * itemsize, 1)
    times = _grown([1] * len(shape), counts, growing, most, chunks)
    return tuple(n * m for n, m in zip(times, chunks, strict=True))


def _grown(
    sizes: list[int],
    most: Sequence[int],
    growing: Sequence[int],
    room: int,
    units: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Double the shortest side, of those that may grow, until the sides fill a room."""
    units = units or [1] * len(sizes)
    left = [i for i in growing if most[i] > 1]
    while left and 2 * math.prod(sizes) <= room:
        axis = min(reversed(left), key=lambda i: sizes[i] * units[i])
        sizes[axis] = min(2 * sizes[axis], most[axis])
        if sizes[axis] == most[axis]:
            left.remove(axis)
    return tuple(sizes)
