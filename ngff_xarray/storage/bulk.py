"""Much of an array at once: with the codecs of zarrs, and with little memory besides the pixels."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import LocalStore

from ngff_xarray.boxes import Box, cut, within
from ngff_xarray.storage.bounded import limit_of, said_size
from ngff_xarray.storage.chunks import is_usual, text

_MUCH = 4  # chunks: below, zarrs is not faster
_CHUNKS, _LOCAL = 8, 2**22  # of shards on this machine, and their bytes: one part at the least
_SHARDS, _REMOTE = 2, 2**26  # the same of whole shards on a network


_is_forked = False  # such a process has none of the threads of zarrs, for which it would wait


def _on_fork() -> None:
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_on_fork)


class BulkReader:
    """Reads boxes of a stored array.

    Where the package zarrs is installed, boxes of many chunks of local arrays are unpacked by it,
    on all processors, if it knows their codecs; all else, and what it refuses, is left to zarr.
    Arrays in shards are read in parts: zarr would hold many shards twice.

    Parameters
    ----------
    array
        What to read of.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array

    def __reduce__(self) -> Any:
        return BulkReader, (self._array,)

    def read(self, key: tuple[int | slice, ...]) -> Any:
        """Return the pixels at a number or a slice along each axis."""
        box = self._box(key)
        if box is None:
            return self._array[key]
        fast = None if _is_forked else self._fast
        if fast is not None and not fast.is_sane(box):
            fast = None
        parts = list(cut(box, *self._unit)) if self._array.shards else [box]
        if len(parts) == 1:
            found = self._part(box, fast)
        else:
            found = np.empty([part.stop - part.start for part in box], self._array.dtype)
            for part in parts:
                found[within(part, box)] = self._part(part, fast)
        return found[tuple(slice(None) if isinstance(k, slice) else 0 for k in key)]

    def _box(self, key: tuple[int | slice, ...]) -> Box | None:
        """Return the box that a key means, if it has many chunks of the same size."""
        if any(isinstance(k, slice) and k.step not in (None, 1) for k in key):
            return None
        try:
            chunk = math.prod(self._array.chunks)
        except NotImplementedError:  # chunks of several sizes
            return None
        whole = [k if isinstance(k, slice) else slice(k, k + 1) for k in key]
        ranges = [range(*k.indices(n)) for k, n in zip(whole, self._array.shape, strict=True)]
        if math.prod(map(len, ranges)) < _MUCH * chunk:
            return None
        return tuple(slice(r.start, r.stop) for r in ranges)

    @property
    def _unit(self) -> tuple[tuple[int, ...], int]:
        """What a sharded array is read in parts of, and how many of those are in one."""
        chunk, shard = self._array.chunks, self._array.shards or self._array.chunks
        size = self._array.dtype.itemsize
        if self._is_local:
            return chunk, max(_CHUNKS, _LOCAL // (math.prod(chunk) * size))
        # one request a shard is worth more than the memory
        return shard, max(_SHARDS, _REMOTE // (math.prod(shard) * size))

    @property
    def _is_local(self) -> bool:
        return type(self._array.store_path.store) is LocalStore

    def _part(self, box: Box, fast: _Fast | None) -> NDArray[Any]:
        if fast is None:
            return np.asarray(self._array[box])
        inner = _whole_chunks(box, self._array.chunks) if fast.files.checksum else box
        try:
            if inner == box:
                return np.asarray(fast.array[box])
            found = np.empty([b.stop - b.start for b in box], self._array.dtype)
            found[within(inner, box)] = fast.array[inner]
        except Exception:  # whatever it raises: zarr says what is wrong, or reads it
            return np.asarray(self._array[box])
        for side in _around(inner, box):
            found[within(side, box)] = self._array[side]
        return found

    @cached_property
    def _fast(self) -> _Fast | None:
        if not self._is_local or self._array.dtype.kind not in "biuf":
            return None
        try:
            from zarrs import ZarrsCodecPipeline
        except ImportError:
            return None
        store: Any = self._array.store_path.store
        files = _Files.of(self._array, Path(store.root) / self._array.path)
        if files is None:
            return None
        metadata = self._array.metadata
        with warnings.catch_warnings():  # of what it does not know, which zarr reads
            warnings.simplefilter("ignore")
            pipeline = ZarrsCodecPipeline.from_array_metadata_and_store(metadata, store)
        if pipeline.impl is None:
            return None
        pipeline.python_impl = None  # whose codecs are not bounded
        twin = zarr.AsyncArray(metadata, self._array.store_path)
        object.__setattr__(twin, "codec_pipeline", pipeline)
        return _Fast(zarr.Array(twin), files)


@dataclass(frozen=True)
class _Fast:
    """An array that zarrs reads, and the files that it reads of."""

    array: zarr.Array[Any]
    files: _Files

    def is_sane(self, box: Box) -> bool:
        """Tell whether no chunk says that it unpacks to more than it should."""
        return all(map(self.files.is_sane, self.files.of_box(box)))


@dataclass(frozen=True)
class _Files:
    """The files of an array, whose chunks say how much they unpack to.

    zarrs unpacks first and looks at the size afterwards.
    """

    root: Path
    key: Callable[[tuple[int, ...]], str]
    unit: tuple[int, ...]
    """The shape of what is in one file."""
    compressor: str
    checksum: int
    """Bytes of it, after what is compressed."""
    limit: int
    inner: int
    """Chunks of a shard; 0 if there are no shards."""
    is_index_first: bool

    @classmethod
    def of(cls, array: zarr.Array[Any], root: Path) -> _Files | None:
        """Return those of an array; None if they are not of a kind that says so."""
        metadata: Any = array.metadata
        first, inner = False, 0
        if isinstance(metadata, ArrayV2Metadata):
            if metadata.filters or metadata.fill_value is None:
                return None
            packing = [] if metadata.compressor is None else [metadata.compressor]
        else:
            codecs = tuple(metadata.codecs)
            if isinstance(codecs[0], ShardingCodec):
                sharding = codecs[0]
                if len(codecs) > 1 or not is_usual(sharding):
                    return None
                first = text(sharding.index_location) == "start"
                shard = array.shards or array.chunks
                inner = math.prod(n // m for n, m in zip(shard, array.chunks, strict=True))
                codecs = tuple(sharding.codecs)
            codecs = tuple(each for each in codecs if not isinstance(each, TransposeCodec))
            if not codecs or not isinstance(codecs[0], BytesCodec):
                return None
            packing = list(codecs[1:])
        checksum = 0
        if packing and isinstance(packing[-1], Crc32cCodec):
            checksum = 4
            packing.pop()
        names = [getattr(each, "codec_id", "") or type(each).__name__ for each in packing]
        if len(names) > 1 or not set(names) <= set(_COMPRESSORS):
            return None
        return cls(
            root,
            metadata.encode_chunk_key,
            array.shards or array.chunks,
            _COMPRESSORS[names[0]] if names else "",
            checksum,
            limit_of(math.prod(array.chunks) * array.dtype.itemsize),
            inner,
            first,
        )

    def of_box(self, box: Box) -> Iterator[Path]:
        """Return the files that a box lies in."""
        ranges = [range(b.start // n, -(-b.stop // n)) for b, n in zip(box, self.unit, strict=True)]
        return (self.root / self.key(place) for place in itertools.product(*ranges))

    def is_sane(self, path: Path) -> bool:
        """Tell whether the chunks of a file unpack to no more than they should."""
        try:
            with path.open("rb", buffering=0) as file:
                return all(self._is_sane(file, *place) for place in self._chunks(file))
        except FileNotFoundError:
            return True
        except (OSError, OverflowError, ValueError):  # zarr says what is wrong
            return False

    def _chunks(self, file: FileIO) -> list[tuple[int, int]]:
        """Return where the chunks of a file begin, and how long they are."""
        size = file.seek(0, os.SEEK_END)
        if not self.inner:
            return [(0, size)]
        length = 16 * self.inner
        file.seek(0 if self.is_index_first else size - length - 4)
        index = np.frombuffer(file.read(length), "<u8").reshape(self.inner, 2)
        return [(int(start), int(count)) for start, count in index if start != 2**64 - 1]

    def _is_sane(self, file: FileIO, start: int, length: int) -> bool:
        length -= self.checksum
        if not self.compressor:
            return length <= self.limit

        def part(at: int, count: int) -> bytes:
            file.seek(start + at)
            return file.read(min(count, length - at))

        return said_size(self.compressor, part, length) <= self.limit


_COMPRESSORS = {
    "ZstdCodec": "zstd",
    "BloscCodec": "blosc",
    "zstd": "zstd",
    "blosc": "blosc",
}


def _whole_chunks(box: Box, chunks: Sequence[int]) -> Box:
    """Return the whole chunks in a box: of others zarrs reads a part, and no checksum."""
    edges = [(-(-b.start // n) * n, b.stop // n * n) for b, n in zip(box, chunks, strict=True)]
    if any(start >= stop for start, stop in edges):
        return tuple(slice(b.start, b.start) for b in box)
    return tuple(slice(*edge) for edge in edges)


def _around(inner: Box, box: Box) -> Iterator[Box]:
    """Return the boxes that are left of one without another that lies in it."""
    for axis, (a, b) in enumerate(zip(inner, box, strict=True)):
        for side in (slice(b.start, a.start), slice(a.stop, b.stop)):
            if side.start < side.stop:
                yield (*inner[:axis], side, *box[axis + 1 :])
