"""Chunks of one array -> another one as they are stored: nothing is unpacked, nothing packed."""

from __future__ import annotations

import itertools
import math
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.metadata import ArrayV2Metadata
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, StorePath

from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.storage.bounded import bound
from ngff_xarray.storage.guarded import Guarded
from ngff_xarray.storage.readable import Readable
from ngff_xarray.text import printable

_BYTES = 2**28  # under way at a time, if chunks were not packed
_HERE = 4  # at a time where no network is
_KEYS_V2 = ("shape", "dtype", "chunks", "order", "compressor", "filters", "fill_value")
_KEYS_V3 = ("shape", "data_type", "chunk_grid", "codecs", "fill_value", "storage_transformers")

Place = tuple[int, ...]


def are_alike(source: zarr.Array[Any], target: zarr.Array[Any]) -> bool:
    """Tell whether the chunks of an array, as they are stored, are right in another one.

    They are if both have the same Zarr format, shape, dtype, chunks (and shards), codecs and fill
    value. Where their keys are may differ.
    """
    return _said(source) == _said(target)


def _said(array: zarr.Array[Any]) -> str:
    metadata: Any = array.metadata
    said = metadata.to_dict()
    keys = _KEYS_V2 if isinstance(metadata, ArrayV2Metadata) else _KEYS_V3
    return repr([metadata.zarr_format, [said.get(key) for key in keys]])  # NaN is like NaN


class Copying:
    """Copies the chunks of an array into another one that is alike.

    What is not there stays away. Nothing is looked at: damaged chunks stay so.

    Parameters
    ----------
    source, target
        The arrays.
    there
        Keys of the target that have been copied before.
    """

    def __init__(
        self, source: zarr.Array[Any], target: zarr.Array[Any], there: Collection[str] = ()
    ) -> None:
        self._source, self._target, self._there = source, target, there
        self._from: Store = source.store_path.store
        self._to: Store = target.store_path.store
        self._unit: tuple[int, ...] = source.shards or source.chunks
        self._copied: set[str] = set()

    def passing(self) -> zarr.Array[Any]:
        """Return the source such that chunks which are read on the way are copied then.

        From a network each is got once, but for shards at the far ends of the array, which zarr
        reads in parts. What is here is read as ever.
        """
        if type(self._from) in (LocalStore, MemoryStore):
            return self._source
        passing = _Passing(self._from, self._pass)
        path = StorePath(passing, self._source.path)
        found = zarr.AsyncArray(self._source.metadata, path)
        bound(found)
        return zarr.Array(found)

    async def _pass(self, key: str, value: Buffer) -> None:
        place = _place(self._source, key)
        if place is not None and key not in self._copied:
            self._copied.add(key)
            try:
                await self._to.set(_key(self._target, place), value)
            except Exception as error:  # which is none of the source
                where = printable(self._to, 500)
                found = f"{type(error).__name__}: {printable(error, 500)}"
                raise StoreError(f"{where}: cannot be written: {found}") from error

    def copy(self, done: Callable[[int], None], show: Callable[[], None] = lambda: None) -> None:
        """Copy all chunks that were not copied on the way, many at a time.

        Parameters
        ----------
        done
            Is called, by several threads, with how many bytes of pixels more are done.
        show
            Is called now and then by the thread that waits.

        Raises
        ------
        StoreError
            If a chunk cannot be read.
        """
        count = self._connections()
        with ThreadPoolExecutor(count, thread_name_prefix="ngff-copy") as pool:
            running: set[Future[None]] = set()
            try:
                for place in self._places():
                    if len(running) >= 2 * count:
                        ended, running = wait(running, return_when=FIRST_COMPLETED)
                        for each in ended:
                            each.result()
                        show()
                    running.add(pool.submit(self._copy, place, done))
                for each in running:
                    each.result()
                    show()
            finally:
                for each in running:  # also after Ctrl-C
                    each.cancel()

    def _connections(self) -> int:
        """Return how many chunks are under way at a time: not too many large ones."""
        inner = getattr(self._from, "store", self._from)
        stores = [each for each in (self._from, inner, self._to) if isinstance(each, Guarded)]
        is_here = type(self._from) is LocalStore and type(self._to) is LocalStore
        most = stores[0].access.connections if stores else _HERE if is_here else 4 * _HERE
        size = math.prod(self._unit) * self._source.dtype.itemsize
        return max(1, min(most, _BYTES // max(size, 1)))

    def _places(self) -> Iterator[Place]:
        sides = zip(self._source.shape, self._unit, strict=True)
        return itertools.product(*(range(-(-n // m)) for n, m in sides))

    def _copy(self, place: Place, done: Callable[[int], None]) -> None:
        source, target = _key(self._source, place), _key(self._target, place)
        if source not in self._copied and target not in self._there:
            if type(self._from) is LocalStore and type(self._to) is LocalStore:
                _copy_file(self._from.root / source, self._to.root / target)
            else:
                value = self._read(source)
                if value is not None:
                    sync(self._to.set(target, value))
        sides = zip(place, self._unit, self._source.shape, strict=True)
        done(math.prod(min(m, n - i * m) for i, m, n in sides) * self._source.dtype.itemsize)

    def _read(self, key: str) -> Buffer | None:
        try:
            return sync(self._from.get(key, default_buffer_prototype()))
        except (NgffError, MemoryError):
            raise
        except Exception as error:  # whatever the libraries below raise
            where, found = printable(self._from, 500), printable(error, 500)
            raise StoreError(f"{where}: cannot read {printable(key, 300)}: {found}") from error


class _Passing(Readable):
    """A store that hands on whole keys that are read of another one.

    Parameters
    ----------
    store
        The other one.
    take
        What takes them.
    """

    def __init__(self, store: Store, take: Callable[[str, Buffer], Awaitable[None]]) -> None:
        super().__init__()
        self.store, self._take = store, take

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        return str(self.store)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what stands under a key, and hand it on."""
        found = await self.store.get(key, prototype, byte_range)
        if found is not None and byte_range is None:
            await self._take(key, found)
        return found

    async def exists(self, key: str) -> bool:
        """Tell whether there is a key."""
        return await self.store.exists(key)

    @property
    def supports_listing(self) -> bool:
        """Whether keys can be listed."""
        return self.store.supports_listing

    def list(self) -> AsyncIterator[str]:
        """Return all keys."""
        return self.store.list()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Return the keys that begin so."""
        return self.store.list_prefix(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Return the names below a prefix."""
        return self.store.list_dir(prefix)


def _key(array: zarr.Array[Any], place: Place) -> str:
    name = array.metadata.encode_chunk_key(place)
    return f"{array.path}/{name}" if array.path else name


def _place(array: zarr.Array[Any], key: str) -> Place | None:
    """Return which chunk is under a key; None if none is."""
    numbers = re.findall(r"[0-9]+", key.removeprefix(f"{array.path}/"))
    place = tuple(map(int, numbers))[: array.ndim]
    return place if len(place) == array.ndim and _key(array, place) == key else None


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file, if it is there, such that the copy is there whole or not at all."""
    part = target.with_suffix(f".{uuid4().hex}.partial")  # as zarr calls its own
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        is_missing = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        if not is_missing or source.is_file():
            raise
