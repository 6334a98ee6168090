"""Reading the finest level a box at a time, in any order, without reading it several times."""

from __future__ import annotations

import bisect
import itertools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import cluster
from ngff_xarray.boxes import Box, are_sizes, within

Read = Callable[[Box], NDArray[Any]]

_KEPT = 2**26  # bytes of blocks that are kept, if there are more than a few
_FEW = 4  # blocks a thread


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reader(variable: xr.Variable, threads: int) -> Read:
    """Return what reads boxes of a variable, from several threads.

    Blocks of dask, and chunks of a store, are computed or read whole and kept for a while: a box
    may hold parts of several, and another one the rest.

    Parameters
    ----------
    variable
        Pixels in memory, of dask, or lazily indexed.
    threads
        How many will read at a time.
    """
    data: Any = variable._data
    if isinstance(data, np.ndarray):
        return lambda box: data[box]
    if variable.chunks is not None:
        blocks, scheduler = variable.data.blocks, _scheduler()

        def compute(place: tuple[int, ...], _: Box) -> NDArray[Any]:
            return np.asarray(blocks[place].compute(scheduler=scheduler))

        return _Blocks(variable.chunks, variable.dtype, compute, threads).read
    sizes = _stored_sizes(variable)
    if sizes is None:
        return lambda box: np.asarray(variable[box].values)

    def load(_: tuple[int, ...], box: Box) -> NDArray[Any]:
        return np.asarray(variable[box].values)

    chunks = [
        [min(n, size - start) for start in range(0, size, n)]
        for n, size in zip(sizes, variable.shape, strict=True)
    ]
    return _Blocks(chunks, variable.dtype, load, threads).read


def _stored_sizes(variable: xr.Variable) -> tuple[int, ...] | None:
    """Return the sizes of what is stored together along each axis, None where that is not known.

    Axes of which one position was selected are gone, and the encoding still has their sizes.
    """
    sizes = variable.encoding.get("shards") or variable.encoding.get("chunks")
    if isinstance(sizes, tuple) and len(sizes) != variable.ndim:
        named = variable.encoding.get("preferred_chunks") or {}
        sizes = tuple(named.get(dim) for dim in variable.dims)
    return sizes if are_sizes(sizes, variable.ndim) else None


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
        Returns a block, by its place among the blocks and its box.
    threads
        How many read at a time.
    """

    def __init__(
        self,
        chunks: Sequence[Sequence[int]],
        dtype: np.dtype[Any],
        load: Callable[[tuple[int, ...], Box], NDArray[Any]],
        threads: int,
    ) -> None:
        self._edges = [[0, *itertools.accumulate(sizes)] for sizes in chunks]
        self._dtype, self._load = dtype, load
        largest = math.prod(max(sizes, default=0) for sizes in chunks) * dtype.itemsize
        self._most = max(_FEW * threads, _KEPT // max(largest, 1))
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, ...], Future[NDArray[Any]]] = OrderedDict()

    def read(self, box: Box) -> NDArray[Any]:
        """Return the pixels in a box."""
        found = np.empty([b.stop - b.start for b in box], self._dtype)
        for place in itertools.product(*map(self._touched, self._edges, box)):
            block = [slice(e[i], e[i + 1]) for i, e in zip(place, self._edges, strict=True)]
            both = [
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(block, box, strict=True)
            ]
            pixels = self._block(place, tuple(block))
            found[within(both, box)] = pixels[within(both, block)]
        return found

    @staticmethod
    def _touched(edges: Sequence[int], side: slice) -> range:
        first = bisect.bisect_right(edges, side.start) - 1
        return range(first, bisect.bisect_left(edges, side.stop))

    def _block(self, place: tuple[int, ...], box: Box) -> NDArray[Any]:
        with self._lock:
            known = self._kept.get(place)
            mine: Future[NDArray[Any]] = Future()
            if known is None:
                self._kept[place] = mine
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(place)
        if known is not None:
            return known.result()
        try:
            mine.set_result(self._load(place, box))
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()
