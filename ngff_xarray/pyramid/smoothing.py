"""Levels that are smoothed by a Gaussian: a pixel is made of more than its block.

A pixel of the next level is the weighted mean of its block and of the two beside it, along one axis
after another. The Gaussian stands in the middle of the block, so that pixels are where those of the
mean are. Its sigma, in pixels of the level before, is that of M. J. Cardoso et al., "Scale factor
point spread function matching: beyond aliasing in image resampling", MICCAI 2015: pixels that are a
Gaussian with a full width at half maximum of one pixel become such of ``factor`` pixels,

    sigma = sqrt((factor ** 2 - 1) / (8 * ln(2)))

These variances add up from level to level to that of all factors at once. Where a kernel reaches
beyond the image it is cut at both sides alike: its middle stays, and a ramp does. Blocks at the far
ends hold what is left, and their kernels stand in the middle of that.

Weights are whole parts of a power of two and their sum is 1, so that sums of integers of 16 bits
are exact in three dimensions, and are rounded once: half to even, not by the noise of sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.boxes import Box, within
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.reductions import rounded

Array = NDArray[Any]
_BITS = 11  # of weights, and as many more as the factor has


def needed(box: Sequence[slice], step: Sequence[int], before: Sequence[int]) -> Box:
    """Return what a box of a level is made of.

    Parameters
    ----------
    box
        Of the level.
    step
        How many pixels of the level before one of it stands for.
    before
        The shape of that level.

    Examples
    --------
    >>> needed((slice(4, 8), slice(0, 8)), (2, 2), (16, 16))
    (slice(6, 16, None), slice(0, 16, None))
    """
    return tuple(
        slice(max(b.start - 1, 0) * f, min((b.stop + 1) * f, n)) if f > 1 else b
        for b, f, n in zip(box, step, before, strict=True)
    )


def reached(box: Sequence[slice], level: PlannedLevel) -> Box:
    """Return the pixels of a level that are made of some in a box of the level before."""
    return tuple(
        slice(max(b.start // f - 1, 0), min(-(-b.stop // f) + 1, n)) if f > 1 else b
        for b, f, n in zip(box, level.step, level.shape, strict=True)
    )


def smoothed(
    pixels: Array, inside: Box, box: Box, step: Sequence[int], before: Sequence[int]
) -> Array:
    """Return a box of a level.

    Parameters
    ----------
    pixels
        Of the level before, which may be NaN: these do not count. Where a whole block is NaN, the
        pixel of the next level is.
    inside
        Where they are: at the least what is `needed`.
    box, step, before
        As of `needed`.

    Returns
    -------
    ndarray
        Of the pixels' dtype; integers are rounded half to even, once.

    Examples
    --------
    >>> ramp = np.arange(8.0)
    >>> smoothed(ramp, (slice(0, 8),), (slice(0, 4),), (2,), (8,))
    array([0.5, 2.5, 4.5, 6.5])
    """
    with np.errstate(invalid="ignore"):  # what infinities add up to may be no number
        return _smoothed(pixels, inside, box, step, before)


def _smoothed(pixels: Array, inside: Box, box: Box, step: Sequence[int], before: Any) -> Array:
    missing = np.isnan(pixels) if pixels.dtype.kind == "f" else None
    if missing is None or not missing.any():
        return rounded(_filtered(pixels, inside, box, step, before), pixels.dtype)
    known = np.where(missing, pixels.dtype.type(0), pixels)
    sums = _filtered(known, inside, box, step, before)
    weights = _filtered(~missing, inside, box, step, before)
    has_any = _has_any(~missing, inside, box, step, before)
    found = np.full(sums.shape, np.nan)
    np.divide(sums, weights, out=found, where=has_any)
    return rounded(found, pixels.dtype)


def _has_any(known: Array, inside: Box, box: Box, step: Sequence[int], before: Any) -> Array:
    """Tell which blocks have any pixel that is known."""
    own = tuple(
        slice(b.start * f, min(b.stop * f, n)) for b, f, n in zip(box, step, before, strict=True)
    )
    known = known[within(own, inside)]
    for axis, factor in enumerate(step):
        if factor > 1:
            known = np.logical_or.reduceat(known, range(0, known.shape[axis], factor), axis=axis)
    return known


def _filtered(
    values: Array, inside: Box, box: Box, step: Sequence[int], before: Sequence[int]
) -> Array:
    for axis, factor in enumerate(step):
        if factor > 1:
            at = inside[axis].start
            values = _along(values, axis, at, box[axis], factor, before[axis])
    return values[_unreduced(inside, box, step)]


def _unreduced(inside: Box, box: Box, step: Sequence[int]) -> Box:
    """Return a box as it lies in pixels that were made of more along axes that stay."""
    return tuple(
        slice(None) if f > 1 else slice(b.start - i.start, b.stop - i.start)
        for i, b, f in zip(inside, box, step, strict=True)
    )


def _along(values: Array, axis: int, at: int, side: slice, factor: int, size: int) -> Array:
    """Return what an axis is smoothed to."""
    shape = list(values.shape)
    shape[axis] = side.stop - side.start
    found = np.empty(shape, "f8")
    before = (slice(None),) * axis
    for run, first, count in _runs(side, factor, size):
        length = run.stop - run.start
        views = [
            values[(*before, slice(i, i + (length - 1) * factor + 1, factor))]
            for i in range(first - at, first - at + count)
        ]
        out = found[(*before, slice(run.start - side.start, run.stop - side.start))]
        _sum(views, _weights(factor, count), out)
    return found


def _sum(views: Sequence[Array], weights: Array, out: Array) -> None:
    """Add up what is weighted, two of a weight at a time."""
    middle = len(views) // 2
    if len(views) % 2:
        np.multiply(views[middle], weights[middle], out=out)
    else:
        out[...] = 0
    pair = np.empty_like(out)
    for first, last, weight in zip(views, reversed(views), weights[:middle], strict=False):
        np.add(first, last, out=pair, dtype="f8")
        pair *= weight
        out += pair


def _runs(side: slice, factor: int, size: int) -> Iterator[tuple[slice, int, int]]:
    """Yield pixels that have a kernel of one length, where the first one's begins, and the length.

    Only the first pixel and the last two may have another one than all others.
    """
    whole = slice(max(side.start, 1), min(side.stop, max(size // factor - 1, 1)))
    if whole.start < whole.stop:
        yield whole, (whole.start - 1) * factor, 3 * factor
    else:
        whole = slice(side.stop, side.stop)
    for i in (*range(side.start, whole.start), *range(whole.stop, side.stop)):
        start, stop = i * factor, min((i + 1) * factor, size)
        first = max(start - factor, 0, start + stop - size)
        yield slice(i, i + 1), first, start + stop - 2 * first


@cache
def _weights(factor: int, count: int) -> Array:
    """Return the weights of so many pixels, the middle of which is that of a block."""
    sigma = math.sqrt((factor**2 - 1) / (8 * math.log(2)))
    offsets = np.arange(count) - (count - 1) / 2
    weights = np.exp(-((offsets / sigma) ** 2) / 2)
    total = 2 ** (_BITS + (factor - 1).bit_length())
    whole = np.rint(weights / weights.sum() * total)
    np.add.at(whole, [(count - 1) // 2, count // 2], (total - whole.sum()) / 2)
    found: Array = whole / total
    return found
