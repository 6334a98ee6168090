"""Every chunk of a store is read once: which are missing, and which are not what was written."""

from __future__ import annotations

import asyncio
import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import StorePath

from ngff_xarray import groups, lazy, read, store
from ngff_xarray.errors import NgffError
from ngff_xarray.image import Obj
from ngff_xarray.progress import Bar
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.storage import Access, Guarded
from ngff_xarray.text import printable
from ngff_xarray.wells import at_a_time

_SHOWN = 10  # keys that are printed
_BATCH = 2**12  # chunks that are listed at a time


@dataclass(frozen=True)
class Verification:
    """What came of reading every chunk; prints as text and in a notebook.

    Parameters
    ----------
    source
        The store.
    chunks
        How many there are, or shards where there are such.
    missing
        Keys of those that are not in the store: they have the fill value. That may be what was
        meant, for writers leave out chunks that hold nothing else.
    corrupt
        Key -> what is wrong, of those that cannot be read: damaged, of another size, refused.
    """

    source: str
    chunks: int
    missing: tuple[str, ...]
    corrupt: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether every chunk that is there can be read."""
        return not self.corrupt

    def __str__(self) -> str:
        counts = f"{self.chunks} chunks, {len(self.missing)} missing, {len(self.corrupt)} corrupt"
        lines = [f"{'whole' if self.ok else 'damaged'}: {printable(self.source, 200)} ({counts})"]
        corrupt = [f"corrupt  {printable(k, 200)}: {text}" for k, text in self.corrupt.items()]
        missing = [f"missing  {printable(key, 200)}" for key in self.missing]
        for listed, name in ((corrupt, "corrupt"), (missing, "missing")):
            lines += listed[:_SHOWN]
            if len(listed) > _SHOWN:
                lines.append(f"… and {len(listed) - _SHOWN} more: see .{name}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def verify(obj: Obj, *, progress: bool | None = None) -> Verification:
    """Return which chunks of a store are missing and which cannot be read.

    All levels, labels, and fields of all wells are read, chunk by chunk: of a large image that
    takes a while, and no more memory than some chunks. A damage is found where a checksum (crc32c,
    as this package and many others write), a compression or a length tells.

    Parameters
    ----------
    obj
        An image, a label image or a group of images, as it was opened.
    progress
        Whether to show a bar; by default after a second, in a notebook or a terminal.

    Returns
    -------
    Verification

    Raises
    ------
    StoreError
        If it was not opened from a store.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> found = verify(xr.open_datatree(sample("cell")))
    >>> found.ok, found.chunks, len(found.missing)
    (True, 30, 11)
    """
    source, _ = groups.place(obj)
    watched = _Watched(source)
    access = Access(progress=progress)
    tree = read.open_tree(StorePath(watched, source.path), access=access, wells="all")
    arrays = list(_arrays(tree))
    total = sum(_count(array) for array in arrays)
    with progress_bar("verifying", "chunks", progress, total) as bar:
        corrupt = _unreadable(arrays, bar)
    return Verification(source.url, total, tuple(sorted(watched.missing)), corrupt)


class _Watched(Guarded):
    """A store that remembers which chunks it was asked for in vain."""

    def __init__(self, source: store.Source) -> None:
        inner = source.store
        access = replace(inner.access, missing="fill") if isinstance(inner, Guarded) else Access()
        super().__init__(inner.store if isinstance(inner, Guarded) else inner, source.url, access)
        self.missing: set[str] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is None and not self.is_metadata(key):
            self.missing.add(key)
        return found


def _arrays(tree: xr.DataTree) -> Iterator[zarr.Array[Any]]:
    for node in tree.subtree:
        for variable in node.variables.values():
            array = lazy.stored(variable)
            if array is not None:
                yield array


def _sizes(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Return the size along each axis of what stands under one key."""
    return array.shards or array.chunks


def _grid(array: zarr.Array[Any]) -> tuple[int, ...]:
    return tuple(-(-n // size) for n, size in zip(array.shape, _sizes(array), strict=True))


def _count(array: zarr.Array[Any]) -> int:
    return int(np.prod(_grid(array), dtype=object))


def _unreadable(arrays: Sequence[zarr.Array[Any]], bar: Bar) -> dict[str, str]:
    """Return the keys of chunks that cannot be read, and why; those of small arrays together."""
    places = (
        (array, at) for array in arrays for at in itertools.product(*map(range, _grid(array)))
    )
    found: dict[str, str] = {}

    async def look(array: zarr.Array[Any], at: tuple[int, ...], gate: asyncio.Semaphore) -> None:
        sizes = zip(at, _sizes(array), strict=True)
        box = tuple(slice(i * size, (i + 1) * size) for i, size in sizes)
        async with gate:
            try:
                await lazy.fetch(array, box)
            except Exception as error:  # whatever a store or a codec raises
                key = "/".join(filter(None, (array.path, array.metadata.encode_chunk_key(at))))
                found[key] = _why(error)
        bar.did()

    async def look_at(some: Sequence[tuple[zarr.Array[Any], tuple[int, ...]]]) -> None:
        gate = asyncio.Semaphore(at_a_time(max(_nbytes(array) for array, _ in some)))
        await asyncio.gather(*(look(array, at, gate) for array, at in some))

    while some := list(itertools.islice(places, _BATCH)):
        store.run(look_at(some), bar)
    return dict(sorted(found.items()))


def _nbytes(array: zarr.Array[Any]) -> int:
    """Return the bytes of what stands under one key."""
    return int(np.prod(_sizes(array), dtype=object)) * array.dtype.itemsize


def _why(error: Exception) -> str:
    inner = error.__cause__ if isinstance(error, NgffError) and error.__cause__ else error
    return printable(str(inner) or type(inner).__name__, 300)
