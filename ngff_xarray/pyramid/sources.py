"""Reading the finest level a box at a time, in any order, without reading it several times."""

from __future__ import annotations

import bisect
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from ngff_xarray import cluster
from ngff_xarray.boxes import Box, within
from ngff_xarray.pyramid.stock import Place, Stock

Read = Callable[[Box], NDArray[Any]]
Chunks = Sequence[Sequence[int]]
Sides = Sequence[Sequence[slice]]

_KEPT = 2**26  # bytes of blocks that are kept, if there are more than a few
_FEW = 4  # blocks a thread
_TOGETHER = 2**25  # bytes of chunks that all threads read at a time
_UNITS = ("shards", "chunks")


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reader(
    variable: xr.Variable,
    threads: int,
    *,
    keep: int = _KEPT,
    by: Sequence[str] = _UNITS,
    sides: Sides | None = None,
) -> Read:
    """Return what reads boxes of a variable, from several threads.

    Blocks of dask, and chunks of a store, are computed or read whole and kept for a while: a box
    may hold parts of several, and another one the rest. Where it is known which boxes will be
    read, none is computed or read twice, whatever the blocks are: those that do not fit into
    memory until the last box that needs them lie in temporary files.

    Parameters
    ----------
    variable
        Pixels in memory, of dask, or lazily indexed.
    threads
        How many will read at a time.
    keep
        How many bytes to keep, if that is more than a few blocks.
    by
        What is read whole: what the variable's encoding has first of these.
    sides
        Which boxes will be read, each once: all that have one of these sides along every axis.
    """
    data: Any = variable._data
    if isinstance(data, np.ndarray):
        return lambda box: data[box]
    if variable.chunks is not None:
        blocks, scheduler = variable.data.blocks, _scheduler()

        def compute(place: tuple[int, ...], _: Box) -> NDArray[Any]:
            return np.asarray(blocks[place].compute(scheduler=scheduler))

        return _Blocks(variable.chunks, variable.dtype, compute, threads, keep, sides, 0).read
    chunks = chunks_of(variable, by)
    if chunks is None:
        return lambda box: np.asarray(variable[box].values)

    def load(_: tuple[int, ...], box: Box) -> NDArray[Any]:
        return np.asarray(variable[box].values)

    return _Blocks(chunks, variable.dtype, load, threads, keep, sides, _TOGETHER // threads).read


def chunks_of(variable: xr.Variable, by: Sequence[str] = _UNITS) -> Chunks | None:
    """Return the sizes of the chunks along each axis that a variable is best read in.

    Those of a store are where the store has them, also if the variable is a part of its array, or
    has an axis fewer. None for pixels in memory, and where nothing is known.

    Parameters
    ----------
    variable
        Pixels of dask, or lazily indexed.
    by
        What to read whole: what the variable's encoding has first of these.

    Examples
    --------
    >>> pixels = indexing.LazilyIndexedArray(np.zeros((2, 9)))
    >>> variable = xr.Variable(("c", "x"), pixels, encoding={"chunks": (1, 4)})
    >>> chunks_of(variable), chunks_of(variable[0, 3:])
    ([[1, 1], [4, 4, 1]], [[1, 4, 1]])
    """
    if variable.chunks is not None:
        return variable.chunks
    sizes: Any = next(filter(None, map(variable.encoding.get, by)), None)
    if isinstance(variable._data, np.ndarray) or not isinstance(sizes, tuple):
        return None
    if not all(isinstance(size, int) for size in sizes):
        return None
    taken = _taken(variable._data)
    if taken is None:
        taken = [(slice(0, n), n) for n in variable.shape]
    if len(taken) != len(sizes):
        return None
    found = [
        _runs(part, n, max(size, 1))
        for (part, n), size in zip(taken, sizes, strict=True)
        if not isinstance(part, int | np.integer)
    ]
    return found if [sum(each) for each in found] == list(variable.shape) else None


def block_size(variable: xr.Variable, by: Sequence[str] = _UNITS) -> tuple[int, ...] | None:
    """Return how large the largest blocks are that a variable is best read in, as `chunks_of`."""
    chunks = chunks_of(variable, by)
    return None if chunks is None else tuple(max(sizes, default=1) for sizes in chunks)


def _taken(data: Any) -> list[tuple[Any, int]] | None:
    """Return what is taken along each axis of the array that is indexed, and its length."""
    found = None
    while data is not None:
        if isinstance(data, indexing.LazilyIndexedArray):
            if found is not None:
                return None
            found = list(zip(data.key.tuple, data.array.shape, strict=True))
        data = getattr(data, "array", None)
    return found


def _runs(part: Any, n: int, size: int) -> list[int]:
    """Return how many pixels of what is taken along an axis lie in one chunk after another."""
    if isinstance(part, slice) and part.step in (None, 1):
        start, stop, _ = part.indices(n)
        edges = [start, *range((start // size + 1) * size, stop, size), stop]
        return [b - a for a, b in itertools.pairwise(edges) if b > a]
    chunks = np.arange(n)[part] // size
    edges = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), chunks.size]
    return [b - a for a, b in itertools.pairwise(edges) if b > a]


def _scheduler() -> str | None:
    """Return dask's scheduler for threads of ours: none of its own, but that of a cluster."""
    from dask.base import get_scheduler

    if cluster.is_task():  # whose worker would wait for himself
        return "synchronous"
    chosen = get_scheduler()  # type: ignore[no-untyped-call]  # dask is not annotated
    return None if chosen is not None else "synchronous"


class _Blocks:
    """What is read in blocks.

    Parameters
    ----------
    chunks
        The sizes of the blocks along each axis.
    dtype
        That of the pixels.
    load
        Returns a block, by its place among the blocks and its box; or some, by the first of them.
    threads
        How many read at a time.
    keep
        How many bytes to keep, if that is more than a few blocks.
    sides
        Which boxes will be read, if that is known.
    together
        How many bytes a thread loads at a time, if that is more than a block.
    """

    def __init__(
        self,
        chunks: Chunks,
        dtype: np.dtype[Any],
        load: Callable[[Place, Box], NDArray[Any]],
        threads: int,
        keep: int,
        sides: Sides | None,
        together: int,
    ) -> None:
        self._edges = [[0, *itertools.accumulate(sizes)] for sizes in chunks]
        self._dtype, self._load = dtype, load
        largest = max(math.prod(max(sizes, default=0) for sizes in chunks) * dtype.itemsize, 1)
        most = max(_FEW * threads, keep // largest)
        self._together = max(min(together // largest, most), 1)
        reads = None if sides is None else list(map(self._counted, self._edges, sides))
        self._stock = Stock(most, None if reads is None else lambda at: _product(reads, at))

    def read(self, box: Box) -> NDArray[Any]:
        """Return the pixels in a box; read-only, if it is a block."""
        touched = itertools.product(*map(self._touched, self._edges, box))
        found = None
        while places := list(itertools.islice(touched, self._together)):
            loaded = self._loaded(self._stock.claim(places))
            for place in places:
                pixels = self._pixels(place, loaded)
                block = self._box(place, place)
                if block == box:
                    found = pixels.view()
                    found.flags.writeable = False
                else:
                    both = tuple(
                        slice(max(a.start, b.start), min(a.stop, b.stop))
                        for a, b in zip(block, box, strict=True)
                    )
                    if found is None:
                        found = np.empty([b.stop - b.start for b in box], self._dtype)
                    found[within(both, box)] = pixels[within(both, block)]
                self._stock.was_read(place)
        return np.empty([b.stop - b.start for b in box], self._dtype) if found is None else found

    def _pixels(self, place: Place, loaded: dict[Place, NDArray[Any]]) -> NDArray[Any]:
        """Return a block: one that was just loaded, one that is kept, or else load it."""
        found = loaded.pop(place, None)
        while found is None:
            found = self._stock.get(place)
            if found is None:
                found = self._loaded(self._stock.claim([place])).get(place)
        return found

    def _loaded(self, places: Sequence[Place]) -> dict[Place, NDArray[Any]]:
        """Load blocks that were claimed: those that are side by side at a time."""
        found: dict[Place, NDArray[Any]] = {}
        failed: dict[Place, BaseException] = {}
        spans = _side_by_side(places)
        try:
            for first, last in spans:
                try:
                    some = self._some(first, last)
                except Exception as error:
                    if first == last:
                        failed[first] = error
                    else:  # others may wait for those that can be read
                        spans.extend((place, place) for place in _between(first, last))
                    continue
                for place, pixels in some.items():
                    self._stock.put(place, pixels)
                found |= some
            if failed:
                raise next(iter(failed.values()))
        except BaseException as stopped:
            for place in places:
                if place not in found:
                    self._stock.fail(place, failed.get(place, stopped))
            raise
        return found

    def _some(self, first: Place, last: Place) -> dict[Place, NDArray[Any]]:
        """Return the blocks from one to another."""
        box = self._box(first, last)
        pixels = self._load(first, box)
        if first == last:
            return {first: pixels}
        return {
            place: pixels[within(self._box(place, place), box)].copy()
            for place in _between(first, last)
        }

    def _box(self, first: Place, last: Place) -> Box:
        """Return where the blocks from one to another are."""
        sides = zip(first, last, self._edges, strict=True)
        return tuple(slice(edges[i], edges[j + 1]) for i, j, edges in sides)

    @staticmethod
    def _touched(edges: Sequence[int], side: slice) -> range:
        first = bisect.bisect_right(edges, side.start) - 1
        return range(first, bisect.bisect_left(edges, side.stop))

    def _counted(self, edges: Sequence[int], sides: Sequence[slice]) -> list[int]:
        """Return how many sides touch each of the blocks along an axis."""
        counts = [0] * (len(edges) - 1)
        for side in sides:
            for i in self._touched(edges, side):
                counts[i] += 1
        return counts


def _product(counts: Sequence[Sequence[int]], place: tuple[int, ...]) -> int:
    return math.prod(each[i] for each, i in zip(counts, place, strict=True))


def _between(first: Place, last: Place) -> Iterator[Place]:
    """Return the places from one to another."""
    return itertools.product(*(range(a, b + 1) for a, b in zip(first, last, strict=True)))


def _side_by_side(places: Sequence[Place]) -> list[tuple[Place, Place]]:
    """Return few spans that sorted places make, as their first and last one.

    Examples
    --------
    >>> _side_by_side([(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
    [((0, 0), (1, 1)), ((2, 1), (2, 1))]
    """
    spans = [(place, place) for place in places]
    for axis in reversed(range(len(places[0]) if places else 0)):
        merged: list[tuple[Place, Place]] = []
        latest: dict[tuple[Place, Place], int] = {}  # by where a span lies along other axes
        for first, last in spans:
            beside = _without(first, axis), _without(last, axis)
            i = latest.get(beside)
            if i is not None and merged[i][1][axis] + 1 == first[axis]:
                merged[i] = merged[i][0], last
            else:
                latest[beside] = len(merged)
                merged.append((first, last))
        spans = merged
    return spans


def _without(place: Place, axis: int) -> Place:
    return place[:axis] + place[axis + 1 :]
