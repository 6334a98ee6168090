"""Arrays gone over once, a block at a time, by several threads: memory does not grow with them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import xarray as xr

from ngff_xarray import units
from ngff_xarray.errors import SelectionError
from ngff_xarray.pyramid.sources import Read
from ngff_xarray.pyramid.sources import reader as block_reader

Job = TypeVar("Job")
Result = TypeVar("Result")
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


def reader(array: xr.DataArray, threads: int) -> Read:
    """Return what reads boxes of an array, from several threads; nothing else stays in memory."""
    variable = array.variable
    if variable.chunks is not None:  # a block of dask may be needed for several boxes
        return block_reader(variable, threads)
    if isinstance(variable._data, np.ndarray):
        data = variable._data
        return lambda box: data[box]
    return lambda box: np.asarray(variable[box].values)


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
