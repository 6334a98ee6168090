"""Arrays gone over once, a block at a time, by several workers: memory does not grow."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ngff_xarray import cluster, units
from ngff_xarray.analyse.running import Crew
from ngff_xarray.errors import SelectionError, StoreError
from ngff_xarray.pyramid.sources import Read
from ngff_xarray.pyramid.sources import reader as block_reader

Job = TypeVar("Job")
Result = TypeVar("Result")
Shared = TypeVar("Shared")
Block = int | str | Mapping[str, int] | None

BLOCK = 2**26  # bytes of all that is read for one block
SLAB = 2**19  # pixels that are computed with at a time: the arrays in between stay in the cache


def block_sizes(array: xr.DataArray, pixel_bytes: float, block: Block = None) -> tuple[int, ...]:
    """Return the size of a block along each axis: whole chunks, as far as they fit.

    Blocks grow to shards first and beyond them then, along the last axis first.

    Parameters
    ----------
    array
        What is gone over.
    pixel_bytes
        How many bytes are read for each of its pixels.
    block
        How many bytes to read for a block (``"64 MB"``, by default), or the pixels along axes, of
        which those that are not named are whole.

    Raises
    ------
    SelectionError
        If there is no such axis, or a size makes no sense.
    UnitError
        If it is no number of bytes.

    Examples
    --------
    >>> array = xr.DataArray(np.zeros((40, 300, 300), "u4"), dims=("z", "y", "x"))
    >>> block_sizes(array, 4, "1 MB"), block_sizes(array, 4, {"z": 7})
    ((2, 300, 300), (7, 300, 300))
    """
    if isinstance(block, Mapping):
        return _asked(array, block)
    most = int(max(BLOCK if block is None else units.byte_count(block), 1) / pixel_bytes)
    sizes = [max(1, min(n, size)) for n, size in zip(chunks(array), array.shape, strict=True)]
    for whole in (_shards(array), array.shape):
        for axis in reversed(range(len(sizes))):
            room = most // math.prod(sizes)
            times = min(room, -(-whole[axis] // sizes[axis]))
            if times > 1:
                sizes[axis] = min(sizes[axis] * times, array.shape[axis])
    return tuple(sizes)


def slab_sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """Return in what parts to compute with the pixels of a block: as many as the cache holds.

    Examples
    --------
    >>> slab_sizes((64, 256, 256))
    (8, 256, 256)
    """
    sizes: list[int] = []
    for size in reversed(shape):
        sizes.insert(0, max(1, min(size, SLAB // math.prod(sizes))))
    return tuple(sizes)


def _asked(array: xr.DataArray, block: Mapping[str, int]) -> tuple[int, ...]:
    for dim, size in block.items():
        is_size = isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0
        if dim not in array.dims or not is_size:
            raise SelectionError(
                f"block: expected pixels along {', '.join(map(str, array.dims))}, as {{'y': 512}}; "
                f"found {dict(block)!r}"
            )
    return tuple(
        max(1, min(int(block.get(str(dim), size)), size)) for dim, size in array.sizes.items()
    )


def chunks(array: xr.DataArray) -> tuple[int, ...]:
    """Return what is best read whole: a chunk of the store or of dask, or a row in memory."""
    if array.chunks is not None:
        return tuple(max(sizes, default=1) for sizes in array.chunks)
    found = stored_sizes(array, "chunks")
    return (*(1,) * (array.ndim - 1), *array.shape[-1:]) if found is None else found


def _shards(array: xr.DataArray) -> tuple[int, ...]:
    found = None if array.chunks is not None else stored_sizes(array, "shards")
    return chunks(array) if found is None else found


def stored_sizes(array: xr.DataArray, key: str) -> tuple[int, ...] | None:
    """Return sizes of chunks or shards, where the array still has the axes of the stored one."""
    sizes = array.encoding.get(key)
    if isinstance(array.variable._data, np.ndarray) or not isinstance(sizes, tuple):
        return None
    is_regular = len(sizes) == array.ndim and all(isinstance(size, int) for size in sizes)
    return sizes if is_regular else None


@dataclass(frozen=True)
class Pixels:
    """An array that is read a box at a time; nothing of it stays in memory.

    Other processes get it pickled, and open it by themselves.

    Parameters
    ----------
    array
        The array.
    threads
        How many read at a time.
    """

    array: xr.DataArray
    threads: int

    def __getstate__(self) -> dict[str, Any]:
        return {"array": self.array, "threads": self.threads}

    @cached_property
    def read(self) -> Read:
        """Returns boxes of it, from several threads."""
        variable = self.array.variable
        if variable.chunks is not None:  # a block of dask may be needed for several boxes
            return block_reader(variable, self.threads)
        if isinstance(variable._data, np.ndarray):
            data = variable._data
            return lambda box: data[box]
        return lambda box: np.asarray(variable[box].values)


# ---- who does it -------------------------------------------------------------------------------


def crew_for(scheduler: Any, workers: int | None, shared: Any) -> Crew:
    """Return who does work in which nothing is called that a user gave.

    Parameters
    ----------
    scheduler, workers
        As `Crew.of` takes them. The cluster that dask works with is left alone if it was not asked
        for by name and cannot have the pixels, as they are in the memory of this process.
    shared
        What all of them need.
    """
    crew = Crew.of(scheduler, workers)
    if scheduler is None and not crew.is_here:
        try:
            cluster.packed(shared)
        except cluster.Staying:
            return Crew.of("threads", workers)
    return crew


@contextmanager
def working(
    crew: Crew, act: Callable[[Shared, Job], Result], shared: Shared
) -> Iterator[tuple[Callable[[Job], Result], int]]:
    """Let a function be called by a crew; return what calls it, and for how many threads.

    Parameters
    ----------
    crew
        Who calls it.
    act, shared
        A function of a module, of what is shared and a job.

    Raises
    ------
    UnsupportedError
        If other processes cannot have what is shared.
    """
    if crew.is_here:
        yield (lambda job: act(shared, job)), crew.workers
        return
    with crew.caller(act, shared) as call:

        def called(job: Job) -> Result:
            with _killed() if crew.scheduler == "processes" else cluster.told():
                return call(job)

        yield called, 2 * crew.workers  # so that nobody waits for us


@contextmanager
def _killed() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise StoreError(
            "a process was killed (is the memory enough?): give fewer workers=, or smaller blocks "
            "with block="
        ) from error


def swept(
    jobs: Iterable[Job],
    work: Callable[[Job], Result],
    threads: int,
    show: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Yield what comes of jobs, in their order; no more are under way than there are threads.

    Parameters
    ----------
    jobs
        What to do.
    work
        Does one of them, in a thread.
    threads
        How many work at a time.
    show
        Is called now and then by the thread that waits.
    """
    if threads == 1:
        for job in jobs:
            yield work(job)
            show()
        return
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ngff-analyse") as pool:
        try:
            for job in jobs:
                running.append(pool.submit(work, job))
                if len(running) > threads:
                    yield running.popleft().result()
                    show()
            while running:
                yield running.popleft().result()
                show()
        finally:  # also after Ctrl-C
            for each in running:
                each.cancel()
