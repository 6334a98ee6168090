"""Levels above an array as xarray has them: computed of it when pixels are asked for."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.boxes import Box, within
from ngff_xarray.pyramid.cascade import KeptStep, SmoothStep, Step, own
from ngff_xarray.pyramid.keeping import Changes, KeptLevel
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.reductions import reduction
from ngff_xarray.pyramid.smoothing import needed, smoothed

_BYTES = 2**26  # of the finest level that are read at a time


def variables(
    source: xr.Variable,
    levels: Sequence[PlannedLevel],
    method: str,
    frames: Sequence[int] | None = None,
) -> tuple[xr.Variable, ...]:
    """Return the levels above an array, lazily.

    Parameters
    ----------
    source
        The finest level.
    levels
        All levels, that one first.
    method
        How pixels of the next level are made; see `reduction`.
    frames
        Of labels that keep all ids (see `keeping`): the axes along which each pixel is an image of
        its own. None for all others.
    """
    kept = None if frames is None else Kept(source, levels, frames)
    return tuple(
        xr.Variable(
            source.dims,
            indexing.LazilyIndexedArray(ReducedArray(source, levels[: number + 1], method, kept)),
        )
        for number in range(1, len(levels))
    )


def derived(arrays: Sequence[xr.Variable]) -> tuple[tuple[PlannedLevel, ...], str] | None:
    """Return the levels and the method of a pyramid that is still to be computed.

    Parameters
    ----------
    arrays
        The levels of an image, the finest first.

    Returns
    -------
    tuple or None
        None if there is but one level, or others than `variables` makes of the first.
    """
    found = [_reduced(variable) for variable in arrays[1:]]
    last = found[-1] if found else None
    if last is None or len(last.levels) != len(arrays):
        return None
    for number, each in enumerate(found, 2):
        if each is None or each.levels != last.levels[:number] or each.method != last.method:
            return None
        if each.kept is not last.kept:
            return None
        if _uncached(each.source._data) is not _uncached(arrays[0]._data):
            return None
    return last.levels, last.method


def by_levels(arrays: Sequence[xr.Variable]) -> Callable[[int], Step] | None:
    """Return what makes each level of a pyramid that cannot be made all at once.

    Parameters
    ----------
    arrays
        The levels, that are `derived`.

    Returns
    -------
    callable or None
        By the number of a level; None for levels whose pixels are made of single blocks.
    """
    last = _reduced(arrays[-1])
    if last is None:
        return None
    levels, kept, dtype = last.levels, last.kept, last.dtype
    if kept is not None:
        return lambda number: KeptStep(
            KeptLevel(levels[number], dtype, kept.frames), levels, number
        )
    if last.method == "gaussian":
        return lambda number: SmoothStep(levels, number)
    return None


def _uncached(data: Any) -> Any:
    """Return data without the cache around them, of which each copy of a variable has its own."""
    return data.array if isinstance(data, indexing.MemoryCachedArray) else data


def _reduced(variable: xr.Variable) -> ReducedArray | None:
    """Return what computes a variable, if it is a whole level above an array."""
    data: Any = variable._data
    while data is not None and not isinstance(data, ReducedArray):
        if isinstance(data, indexing.LazilyIndexedArray) and data.shape != data.array.shape:
            return None
        data = getattr(data, "array", None)
    return data


class ReducedArray(BackendArray):
    """A level above an array.

    Parameters
    ----------
    source
        The finest level.
    levels
        The levels up to this one, the finest first.
    method
        How pixels of the next level are made.
    kept
        What else is changed of them, so that labels keep all ids.
    """

    def __init__(
        self,
        source: xr.Variable,
        levels: Sequence[PlannedLevel],
        method: str,
        kept: Kept | None = None,
    ) -> None:
        self.source, self.levels, self.method, self.kept = source, tuple(levels), method, kept
        self.shape = levels[-1].shape
        self.dtype = source.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._pixels
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the same as ``self[key]``: computing is no waiting."""
        return self[key]

    def _pixels(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        ranges = [
            range(*(k if isinstance(k, slice) else slice(k, k + 1)).indices(n))
            for k, n in zip(key, self.shape, strict=True)
        ]
        box = [_covering(each) for each in ranges]
        found = np.empty([b.stop - b.start for b in box], self.dtype)
        for part in self.parts(box):
            found[within(part, box)] = self.part(part)
        steps = tuple(
            slice(r.start - b.start, None, r.step) if isinstance(k, slice) else 0
            for k, r, b in zip(key, ranges, box, strict=True)
        )
        return found[steps]

    def parts(self, box: Sequence[slice]) -> Iterator[Box]:
        """Cut a box in halves as long as it takes too much of the finest level."""
        sizes = [b.stop - b.start for b in box]
        if not all(sizes):
            return
        factors = self.levels[-1].factors
        nbytes = math.prod(sizes) * math.prod(factors) * self.dtype.itemsize
        if nbytes <= _BYTES or max(sizes) == 1:
            yield tuple(box)
            return
        axis = max(range(len(box)), key=lambda i: (sizes[i] > 1) * sizes[i] * factors[i])
        middle = box[axis].start + sizes[axis] // 2
        for half in (slice(box[axis].start, middle), slice(middle, box[axis].stop)):
            yield from self.parts([*box[:axis], half, *box[axis + 1 :]])

    def part(self, box: Box) -> NDArray[Any]:
        """Return the pixels in a box."""
        if self.method == "gaussian":
            return self._smoothed(box)
        last, finest = self.levels[-1], self.levels[0].shape
        source = tuple(
            slice(b.start * f, min(b.stop * f, n))
            for b, f, n in zip(box, last.factors, finest, strict=True)
        )
        method = reduction(self.method, self.dtype)
        state = method.begin(np.asarray(self.source[source].values))
        for number, level in enumerate(self.levels[1:], 1):
            state = method.reduce(state, level.step, math.prod(level.factors))
            if self.kept is not None:
                inside = tuple(
                    slice(s.start // f, s.start // f + n)
                    for s, f, n in zip(source, level.factors, state.values.shape, strict=True)
                )
                self.kept.changes(number).apply(state.values, inside)
        start, stop = [b.start for b in box], [b.stop for b in box]
        return method.pixels(state, last.counts(finest, start, stop))

    def _smoothed(self, box: Box) -> NDArray[Any]:
        steps = list(itertools.pairwise(self.levels))
        boxes = [box]
        for before, level in reversed(steps):
            boxes.append(needed(boxes[-1], level.step, before.shape))
        inside = boxes.pop()
        pixels = np.asarray(self.source[inside].values)
        for before, level in steps:
            pixels = smoothed(pixels, inside, boxes[-1], level.step, before.shape)
            inside = boxes.pop()
        return pixels


class Kept:
    """What is changed of the modes of labels, found when it is asked for.

    For that the finest level is read whole, once a level.

    Parameters
    ----------
    source, levels, frames
        As of `variables`.
    found
        The changes of the first levels above the finest.
    """

    def __init__(
        self,
        source: xr.Variable,
        levels: Sequence[PlannedLevel],
        frames: Sequence[int],
        found: Sequence[Changes] = (),
    ) -> None:
        self._source, self._levels, self.frames = source, tuple(levels), tuple(frames)
        self._found = list(found)
        self._lock = threading.RLock()

    def __reduce__(self) -> Any:
        return Kept, (self._source, self._levels, self.frames, self._found)

    def changes(self, number: int) -> Changes:
        """Return those of a level."""
        with self._lock:
            while len(self._found) < number:
                self._found.append(self._find(len(self._found) + 1))
            return self._found[number - 1]

    def _find(self, number: int) -> Changes:
        level, before = self._levels[number], self._levels[number - 1]
        kept = KeptLevel(level, self._source.dtype, self.frames)
        below = ReducedArray(self._source, self._levels[:number], "mode", self)
        whole = ReducedArray(self._source, self._levels[: number + 1], "mode", self)
        for box in whole.parts([slice(0, n) for n in level.shape]):
            kept.made(below.part(own(box, level.step, before.shape)), box)
        return kept.changes()


def _covering(numbers: range) -> slice:
    """Return the slice, forwards, that holds some numbers; they only ever rise."""
    return slice(numbers.start, numbers[-1] + 1) if numbers else slice(0, 0)
