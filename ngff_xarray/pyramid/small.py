"""Downsampling of arrays in memory: the levels of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean(array: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
    """Return the mean of every block of pixels, in the array's dtype.

    Parameters
    ----------
    array
        Integers of up to 32 bits (the mean is rounded half to even) or floats.
    factors
        The size of a block along each axis. Blocks at the far ends hold what is left.

    Returns
    -------
    ndarray
        Of shape ``ceil(size / factor)`` along each axis.

    Examples
    --------
    >>> mean(np.array([[1, 2, 9], [3, 4, 9]], dtype="u1"), (2, 2))
    array([[2, 9]], dtype=uint8)
    """
    total, count = array.astype(np.float64), np.ones((1,) * array.ndim)
    for axis, factor in enumerate(factors):
        size = array.shape[axis]
        starts = np.arange(0, size, factor)
        counts = np.diff(np.append(starts, size))
        total = np.add.reduceat(total, starts, axis=axis)
        count = count * counts.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    total /= count  # once, at the end: thirds of thirds would not round half to even
    return (np.rint(total) if array.dtype.kind in "iu" else total).astype(array.dtype)


def halved_labels(labels: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """Return the commonest id of every block of two pixels along each of the axes.

    Where two are as common the larger one wins, so that objects last longer than background;
    an id that was not there never appears.

    Examples
    --------
    >>> halved_labels(np.array([[7, 7, 3], [7, 0, 3]]), (0, 1))
    array([[7, 3]])
    """
    # an odd last pixel stands for its block alone: doubling it changes no majority
    odd = [(0, labels.shape[i] % 2 if i in axes else 0) for i in range(labels.ndim)]
    padded = np.pad(labels, odd, mode="edge")
    corners = np.ndindex(*(2 if i in axes else 1 for i in range(labels.ndim)))
    steps = [2 if i in axes else 1 for i in range(labels.ndim)]
    views = [
        padded[tuple(slice(start, None, step) for start, step in zip(corner, steps, strict=True))]
        for corner in corners
    ]
    stack = np.sort(np.stack(views), axis=0)[::-1]
    counts = np.stack([(stack == view).sum(axis=0) for view in stack])
    commonest: NDArray[Any] = np.take_along_axis(stack, counts.argmax(axis=0)[None], axis=0)[0]
    return commonest


def level_count(shape: Sequence[int], smallest: int) -> int:
    """Return how many levels it takes, halving each time, until no side is over ``smallest``.

    Examples
    --------
    >>> level_count((660, 550), 256)
    3
    """
    return 1 + max(math.ceil(math.log2(max(max(shape) / smallest, 1))), 0)
