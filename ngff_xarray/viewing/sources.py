"""The pixels of one level, read by the chunks that they are stored in."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from ngff_xarray.errors import SelectionError
from ngff_xarray.viewing.cache import Loader, Lru

Array = NDArray[Any]
Box = tuple[slice, ...]
"""One slice an axis, with bounds, and a step where not all pixels are wanted."""

MOST_CHUNKS = 4096  # that one tile may read
MOST_BYTES = 2**27  # decoded, that one tile may read of a channel


@dataclass(frozen=True, eq=False)
class Source:
    """One array of pixels and its chunks.

    Parameters
    ----------
    variable
        Lazily indexed, of dask or in memory.
    chunks
        The size of a chunk along each axis.
    offsets
        How many pixels of the first chunk along each axis were cut off.
    in_memory
        Whether pixels are there already, or kept by whoever reads them.
    """

    variable: xr.Variable
    chunks: tuple[int, ...]
    offsets: tuple[int, ...]
    in_memory: bool
    number: int = field(default_factory=itertools.count().__next__)
    """Tells the arrays apart in a cache."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many pixels there are along each axis."""
        return self.variable.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels."""
        found: np.dtype[Any] = self.variable.dtype
        return found

    @property
    def chunk_nbytes(self) -> int:
        """The bytes of a whole chunk, decoded."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def read(self, box: Sequence[slice | NDArray[np.intp]]) -> Array:
        """Return the pixels of a box; arrays of indices take some of an axis."""
        found = self.variable[tuple(box)].data
        if hasattr(found, "compute"):  # dask: this is a thread of many already
            found = found.compute(scheduler="synchronous")
        return np.asarray(found)

    def chunk_box(self, index: Sequence[int]) -> Box:
        """Return the pixels of a chunk."""
        return self._span([(i, i + 1) for i in index])

    def _span(self, ranges: Iterable[tuple[int, int]]) -> Box:
        return tuple(
            slice(max(first * size - cut, 0), min(last * size - cut, n))
            for (first, last), size, cut, n in zip(
                ranges, self.chunks, self.offsets, self.shape, strict=True
            )
        )

    def touched(self, box: Box) -> list[range]:
        """Return the numbers of the chunks that a box touches along each axis."""
        return [
            range((cut.start + offset) // size, -(-(cut.stop + offset) // size))
            for cut, size, offset in zip(box, self.chunks, self.offsets, strict=True)
        ]


def source(variable: xr.Variable) -> Source:
    """Return an array as a source of pixels."""
    magnitude = getattr(variable._data, "magnitude", None)
    if magnitude is not None:  # pint's, which colours have no use for
        variable = xr.Variable(variable.dims, magnitude)
    grid = _grid(variable)
    chunks = tuple(max(1, min(size, n)) for (size, _), n in zip(grid, variable.shape, strict=True))
    cuts = tuple(cut % size for (_, cut), size in zip(grid, chunks, strict=True))
    in_memory = variable.chunks is None and bool(variable._in_memory)
    return Source(variable, chunks, cuts, in_memory)


def _grid(variable: xr.Variable) -> list[tuple[int, int]]:
    """Return the size of a chunk along each axis, and how much of the first one is cut off."""
    if variable.chunks is not None:
        return [(max(sizes, default=1), 0) for sizes in variable.chunks]
    stored = variable.encoding.get("chunks")
    whole = [(n, 0) for n in variable.shape]
    if variable._in_memory or not isinstance(stored, tuple):
        return whole
    sizes = [_largest(size) for size in stored]
    key = _key(variable)
    if len(key) == len(sizes):
        found = [_kept(size, part) for size, part in zip(sizes, key, strict=True)]
        left = [part for part in found if part is not None]
        if len(left) == variable.ndim:
            return left
    return [(size, 0) for size in sizes] if len(sizes) == variable.ndim else whole


def _largest(size: Any) -> int:
    """Return the size of even chunks, or the largest of uneven ones."""
    return int(max(size, default=1) if isinstance(size, Sequence) else size) or 1


def _key(variable: xr.Variable) -> tuple[Any, ...]:
    """Return what was taken of the stored array along each of its axes; () if unknown."""
    data: Any = variable._data
    while not isinstance(data, indexing.LazilyIndexedArray):
        data = getattr(data, "array", None)
        if data is None:
            return ()
    return tuple(data.key.tuple)


def _kept(size: int, part: Any) -> tuple[int, int] | None:
    """Return the chunk size of an axis and its first cut; None where one pixel was taken."""
    if isinstance(part, int | np.integer):
        return None
    if isinstance(part, slice) and part.step in (None, 1):
        return size, part.start or 0
    step = abs(part.step) if isinstance(part, slice) else 1
    return max(1, size // step), 0


class Reader:
    """Reads boxes of pixels, by way of a cache of decoded chunks.

    Parameters
    ----------
    capacity
        How many bytes of chunks are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.cache: Lru[Hashable, Array] = Lru(capacity, lambda array: array.nbytes)
        self._loader = Loader(self.cache)
        self._large = threading.Lock()

    def read(self, source: Source, box: Box) -> Array:
        """Return the pixels of a box: (n, …), an axis stays where one pixel of it is taken.

        The result may be a view of what is kept: it is not to be written to.

        Raises
        ------
        SelectionError
            If that would read more than a viewer should.
        """
        if source.in_memory or any(cut.stop <= cut.start for cut in box):
            return source.read(box)
        touched = source.touched(box)
        count = math.prod(map(len, touched))
        covered = count * source.chunk_nbytes
        check_affordable(count, min(covered, _nbytes(source, box)))
        if covered > self.cache.capacity // 4:
            return self._region(source, box)
        chunks = self._chunks(source, touched)
        return _assembled(source, chunks, box)

    def keep(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return what ``make()`` returns, made once as long as it is kept."""
        return self._loader.fetch([key], lambda keys: {keys[0]: make()})[key]

    def _region(self, source: Source, box: Box) -> Array:
        """Return a box of chunks that are too large to be kept."""

        def read() -> Array:
            with self._large:  # each may decode a chunk larger than the cache: one at a time
                return source.read(box)

        bounds = tuple((cut.start, cut.stop, cut.step) for cut in box)
        return self.keep((source.number, "box", bounds), read)

    def _chunks(self, source: Source, touched: Sequence[range]) -> Mapping[Hashable, Array]:
        keys = [(source.number, *index) for index in itertools.product(*touched)]
        return self._loader.fetch(keys, lambda missing: _loaded(source, missing))


def check_affordable(chunks: int, nbytes: int) -> None:
    """Refuse to read what would take too long or too much memory.

    Raises
    ------
    SelectionError
        If it would.
    """
    if chunks > MOST_CHUNKS or nbytes > MOST_BYTES:
        raise SelectionError(
            f"too much to read here ({chunks} chunks, {nbytes / 1e6:.0f} MB) and there is no "
            "coarser level: zoom in"
        )


def _nbytes(source: Source, box: Box) -> int:
    count: int = math.prod(cut.stop - cut.start for cut in box)
    return count * source.dtype.itemsize


def _loaded(source: Source, keys: Sequence[Any]) -> dict[Any, Array]:
    """Return some chunks, neighbours read together: a store answers them concurrently."""
    found: dict[Any, Array] = {}
    for group in _groups([key[1:] for key in keys]):
        ends = [(axis[0], axis[-1] + 1) for axis in group]
        whole = source._span(ends)
        pixels = source.read(whole)
        alone = math.prod(map(len, group)) == 1
        for index in itertools.product(*group):
            inner = _within(source.chunk_box(index), whole)
            part = pixels if alone else np.ascontiguousarray(pixels[inner])
            found[(source.number, *index)] = part
    return found


def _groups(indices: Sequence[tuple[int, ...]]) -> Iterator[list[range]]:
    """Yield boxes of chunks that cover all of some chunks and no others."""
    axes = list(zip(*indices, strict=True))
    whole = [range(min(axis), max(axis) + 1) for axis in axes]
    if math.prod(map(len, whole)) == len(indices):
        yield whole
        return
    # along the first axis that it can be cut on: no more than one read a chunk
    axis = next(i for i, along in enumerate(axes) if len(set(along)) > 1)
    for value in sorted(set(axes[axis])):
        yield from _groups([index for index in indices if index[axis] == value])


def _within(inner: Box, outer: Box) -> Box:
    """Return a box counted from the start of another."""
    return tuple(
        slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True)
    )


def _assembled(source: Source, chunks: Mapping[Any, Array], box: Box) -> Array:
    steps = tuple(slice(None, None, cut.step) for cut in box)
    if len(chunks) == 1:
        ((key, chunk),) = chunks.items()
        return chunk[_within(box, source.chunk_box(key[1:]))][steps]
    out = np.empty([cut.stop - cut.start for cut in box], source.dtype)
    for key, chunk in chunks.items():
        there = source.chunk_box(key[1:])
        shared = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(box, there, strict=True)
        )
        out[_within(shared, box)] = chunk[_within(shared, there)]
    return out[steps]
