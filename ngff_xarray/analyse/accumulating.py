"""Sums over the pixels of every object: of parts of an image first, which are then put together.

Pixels of a row that follow each other and have the same label are a *run*. What is known of runs,
of the parts of an object in one block, and of the whole object has the same form (`Sums`) and is
put together in the same way, so that nothing is ever done object by object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANY = 2**16  # rows that may wait to be put together


@dataclass(frozen=True)
class Values:
    """What is known of one channel, an entry an object.

    Parameters
    ----------
    counts
        Pixels that have a value.
    totals
        The sum of the values: exact for integers of up to 32 bits.
    squares
        The sum of the squared deviations from the object's mean.
    lows, highs
        The smallest and the largest value, as the image has them.
    """

    counts: NDArray[np.int64]
    totals: NDArray[Any]
    squares: NDArray[np.float64]
    lows: NDArray[Any]
    highs: NDArray[Any]

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean values; NaN where there are none."""
        return _ratio(self.totals, self.counts)

    def merged(self, order: NDArray[np.intp], starts: NDArray[np.intp]) -> Values:
        """Return what is known of groups of these: in this order, from start to start."""
        counts, totals = (
            np.add.reduceat(each[order], starts) for each in (self.counts, self.totals)
        )
        sizes = np.diff(starts, append=order.size)
        own, rest = (each[order] for each in _mean(self.totals, self.counts))
        whole, whole_rest = (np.repeat(each, sizes) for each in _mean(totals, counts))
        # Chan, Golub, LeVeque (1979): no difference of large sums, whatever the mean
        apart = self.counts[order] * ((own - whole) + (rest - whole_rest)) ** 2
        return Values(
            counts,
            totals,
            np.add.reduceat(self.squares[order] + apart, starts),
            np.fmin.reduceat(self.lows[order], starts),
            np.fmax.reduceat(self.highs[order], starts),
        )


@dataclass(frozen=True)
class Sums:
    """What is known of objects, or of parts of them.

    Parameters
    ----------
    labels
        Their labels, (n,); of parts, the same one several times.
    pixels
        How many pixels they have, (n,).
    moments
        Twice the sum of the pixels' indices along every axis, (axis, n).
    lows, highs
        The smallest and the largest index along every axis, (axis, n).
    channels
        What is known of every channel.
    """

    labels: NDArray[Any]
    pixels: NDArray[np.int64]
    moments: NDArray[np.int64]
    lows: NDArray[np.int64]
    highs: NDArray[np.int64]
    channels: tuple[Values, ...] = ()

    def merged(self) -> Sums:
        """Return what is known of whole objects: every label once, in rising order."""
        if not self.labels.size:
            return self
        order = np.argsort(self.labels, kind="stable")
        labels = self.labels[order]
        starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
        with np.errstate(invalid="ignore"):  # of infinite values, whose deviations are NaN
            channels = tuple(channel.merged(order, starts) for channel in self.channels)
        return Sums(
            labels[starts],
            np.add.reduceat(self.pixels[order], starts),
            np.add.reduceat(self.moments[:, order], starts, axis=1),
            np.minimum.reduceat(self.lows[:, order], starts, axis=1),
            np.maximum.reduceat(self.highs[:, order], starts, axis=1),
            channels,
        )


def together(parts: Sequence[Sums]) -> Sums:
    """Return what is known of the objects whose parts these are."""

    def joined(get: Callable[[Any], NDArray[Any]], each: Sequence[Any]) -> NDArray[Any]:
        return np.concatenate([get(part) for part in each], axis=-1)

    if len(parts) == 1:
        return parts[0].merged()
    channels = tuple(
        Values(
            joined(lambda v: v.counts, each),
            joined(lambda v: v.totals, each),
            joined(lambda v: v.squares, each),
            joined(lambda v: v.lows, each),
            joined(lambda v: v.highs, each),
        )
        for each in zip(*(part.channels for part in parts), strict=True)
    )
    return Sums(
        joined(lambda s: s.labels, parts),
        joined(lambda s: s.pixels, parts),
        joined(lambda s: s.moments, parts),
        joined(lambda s: s.lows, parts),
        joined(lambda s: s.highs, parts),
        channels,
    ).merged()


class Accumulator:
    """Puts parts together as they come; what waits is no more than what there is already."""

    def __init__(self) -> None:
        self._parts: list[Sums] = []
        self._waiting = self._most = 0

    def add(self, part: Sums) -> None:
        """Add what is known of some parts of objects."""
        self._parts.append(part)
        self._waiting += part.labels.size
        if self._waiting > self._most + _MANY:
            self._parts = [together(self._parts)]
            self._most, self._waiting = self._parts[0].labels.size, 0

    def sums(self) -> Sums:
        """Return what is known of all objects, of which there was at least one part."""
        return together(self._parts)


# ---- runs --------------------------------------------------------------------------------------


def run_starts(*arrays: NDArray[Any]) -> NDArray[np.intp]:
    """Return where runs begin, by index of the flat arrays: in none of them a value changes.

    Examples
    --------
    >>> run_starts(np.array([[0, 0, 3], [3, 3, 0]]))
    array([0, 2, 3, 5])
    """
    changes = np.zeros(arrays[0].shape, np.bool_)
    changes[..., :1] = True
    for array in arrays:
        changes[..., 1:] |= array[..., 1:] != array[..., :-1]
    return np.flatnonzero(changes)


def measured(
    labels: NDArray[Any],
    channels: Sequence[NDArray[Any]] = (),
    start: Sequence[int] = (),
    inside: NDArray[np.bool_] | None = None,
) -> Sums:
    """Return what is known of the objects in a part of an image; 0 is no object.

    Parameters
    ----------
    labels
        Integers, of any dimensions.
    channels
        Values at these pixels, of the same shape: integers or floats.
    start
        The index of the first pixel in the whole image; 0 if left out.
    inside
        Which of the pixels have values, of the same shape; all by default. Those that are NaN
        have none either.

    Examples
    --------
    >>> found = measured(np.array([[0, 7, 7], [5, 0, 7]]), [np.array([[1, 2, 3], [4, 5, 9]])])
    >>> found.labels, found.pixels, found.channels[0].totals
    (array([5, 7]), array([1, 3]), array([ 4., 14.]))
    """
    flat = labels.reshape(-1)
    starts = run_starts(labels) if inside is None else run_starts(labels, inside)
    sizes = np.diff(starts, append=flat.size)
    own = plain(flat[starts])
    is_object = own != 0
    kept = starts[is_object]
    lengths = sizes[is_object].astype(np.int64)
    first = np.array(np.unravel_index(kept, labels.shape), np.int64)
    first += np.array(start or (0,) * labels.ndim, np.int64)[:, None]
    last = first.copy()
    last[-1] += lengths - 1
    have = None if inside is None else inside.reshape(-1)[kept]
    pixels = None if is_object.all() else np.repeat(is_object, sizes)
    packed = kept if pixels is None else np.cumsum(lengths) - lengths
    with np.errstate(invalid="ignore", over="ignore"):
        values = tuple(
            _values(_packed(channel, pixels), packed, lengths, have) for channel in channels
        )
    return Sums(own[is_object], lengths, (first + last) * lengths, first, last, values).merged()


def _packed(channel: NDArray[Any], pixels: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return the values of the pixels of objects, as this machine has them."""
    flat = channel.reshape(-1)
    flat = flat if pixels is None else flat[pixels]
    return plain(flat)


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as this machine computes with it: booleans as 0 and 1."""
    is_bool = array.dtype.kind == "b"
    return array.astype(np.uint8 if is_bool else array.dtype.newbyteorder("="), copy=False)


def _values(
    flat: NDArray[Any],
    starts: NDArray[np.intp],
    lengths: NDArray[np.int64],
    have: NDArray[np.bool_] | None,
) -> Values:
    """Return what is known of runs that follow each other without a gap."""
    if not flat.size:
        none = np.zeros(0, np.int64)
        totals = none.astype(_sum_type(flat.dtype))
        return Values(none, totals, none.astype(np.float64), flat, flat)
    missing = np.isnan(flat) if flat.dtype.kind == "f" else None
    if missing is not None and not missing.any():
        missing = None
    smaller, larger = (np.minimum, np.maximum) if missing is None else (np.fmin, np.fmax)
    lows, highs = smaller.reduceat(flat, starts), larger.reduceat(flat, starts)
    counts = lengths
    wide = flat.astype(_sum_type(flat.dtype))
    if missing is not None:
        counts = lengths - np.add.reduceat(missing, starts, dtype=np.int64)
        wide[missing] = 0
    totals = np.add.reduceat(wide, starts)
    mean, rest = _mean(totals, counts)
    apart = (wide - np.repeat(mean, lengths)).astype(np.float64, copy=False)
    if missing is not None:
        apart[missing] = 0
    squares = np.add.reduceat(np.multiply(apart, apart, out=apart), starts)
    squares -= counts * rest**2
    if have is not None and not have.all():
        lowest, highest = _ends(flat.dtype)
        lows, highs = np.where(have, lows, highest), np.where(have, highs, lowest)
        counts, totals, squares = (np.where(have, each, 0) for each in (counts, totals, squares))
    return Values(counts, totals, squares, lows, highs)


def _sum_type(dtype: np.dtype[Any]) -> type[np.int64] | type[np.float64]:
    """Return in which type to add up values: that of 64 bits holds 2**31 of the largest."""
    return np.int64 if dtype.kind in "iu" and dtype.itemsize <= 4 else np.float64


def _ends(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the smallest and the largest value of a type, as what nothing is smaller or larger."""
    if dtype.kind == "f":
        return dtype.type(np.nan), dtype.type(np.nan)  # fmin and fmax pass over it
    return dtype.type(np.iinfo(dtype).min), dtype.type(np.iinfo(dtype).max)


def _mean(
    totals: NDArray[Any], counts: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return means in two parts, of which the first is exact: it is close to the values."""
    if totals.dtype.kind == "f":
        mean = _ratio(totals, counts)
        mean[counts == 0] = 0
        return mean, np.zeros(mean.shape)
    several = np.maximum(counts, 1)
    whole = totals // several
    return whole, (totals - whole * counts) / several


def _ratio(above: NDArray[Any], below: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return quotients, NaN where nothing is divided by nothing."""
    found = np.full(above.shape, np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found
