"""Writing whole chunks of an array, from many threads: packed here, and put as they are."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV2Metadata
from zarr.core.sync import sync

Encoder = Callable[[NDArray[Any]], bytes]
Place = tuple[int, ...]

_NOTHING = 2**64 - 1  # in the index of a shard, where there is no chunk


class ChunkWriter:
    """Writes whole chunks of one array.

    Chunks that hold the fill value only are left out. A shard is put in one piece, when the last of
    its chunks has come; until then they are kept, packed.

    Parameters
    ----------
    array
        To write to.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self._encode, sharding = _encoder(array)
        is_sharded = sharding is not None and self._encode is not None
        self.chunks: tuple[int, ...] = array.chunks if is_sharded else array.shards or array.chunks
        """What is written at a time."""
        self._store: Store = array.store_path.store
        self._fill = array.fill_value
        self._shards = _Shards(array, sharding) if sharding is not None and is_sharded else None

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        """Write pixels that begin with a chunk and end with one, or with the array."""
        box = [slice(a, a + n) for a, n in zip(start, pixels.shape, strict=True)]
        if self._encode is None:
            self._array[tuple(box)] = pixels
            return
        ranges = [
            range(b.start // n, -(-b.stop // n)) for b, n in zip(box, self.chunks, strict=True)
        ]
        for place in itertools.product(*ranges):
            part = tuple(
                slice(i * n - a, (i + 1) * n - a)
                for i, n, a in zip(place, self.chunks, start, strict=True)
            )
            self._write(self._encode, place, pixels[part])

    def is_settled(self, box: Sequence[slice]) -> bool:
        """Tell whether all is in the store that was written of a part."""
        return self._shards is None or self._shards.is_settled(box)

    def _write(self, encode: Encoder, place: Place, pixels: NDArray[Any]) -> None:
        packed = None if self._is_empty(pixels) else encode(self._whole(pixels))
        if self._shards is None:
            if packed is not None:
                self._put(place, packed)
            return
        shard, found = self._shards.add(place, packed)
        if found is not None:
            whole = self._shards.joined(found)
            if whole is not None:
                self._put(shard, whole)
            self._shards.settle(shard)

    def _put(self, place: Place, packed: bytes) -> None:
        name = self._array.metadata.encode_chunk_key(place)
        key = f"{self._array.path}/{name}" if self._array.path else name
        buffer = default_buffer_prototype().buffer.from_bytes(packed)
        put = getattr(self._store, "set_sync", None)  # newer zarr's: without its event loop
        if put is None or not getattr(self._store, "_supports_sync_io", True):
            sync(self._store.set(key, buffer))
        else:
            put(key, buffer)

    def _whole(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return a whole chunk: what is beyond the end of the array is no pixel of it."""
        if pixels.shape != self.chunks:
            whole = np.full(self.chunks, self._fill or 0, self._array.dtype)
            whole[tuple(map(slice, pixels.shape))] = pixels
            pixels = whole
        return np.ascontiguousarray(pixels, self._array.dtype)

    def _is_empty(self, pixels: NDArray[Any]) -> bool:
        fill = self._fill
        if fill is None or pixels.flat[0] != fill:
            return False
        if pixels.dtype.kind == "f" and fill == 0:  # not minus nothing
            return not np.ascontiguousarray(pixels).view("u1").any()
        return bool((pixels == fill).all())


class _Shards:
    """The shards of an array that are begun.

    Parameters
    ----------
    array
        Which has shards.
    sharding
        Their codec.
    """

    def __init__(self, array: zarr.Array[Any], sharding: ShardingCodec) -> None:
        shard = array.shards or array.chunks
        self._sizes = tuple(shard)
        self._counts = [n // m for n, m in zip(shard, array.chunks, strict=True)]
        self._grid = [-(-n // m) for n, m in zip(array.shape, array.chunks, strict=True)]
        self._is_index_first = text(sharding.index_location) == "start"
        self._lock = threading.Lock()
        self._begun: dict[Place, dict[Place, bytes | None]] = {}
        self._unsettled: set[Place] = set()  # those that are begun, or whole and being put

    def add(
        self, place: Place, packed: bytes | None
    ) -> tuple[Place, dict[Place, bytes | None] | None]:
        """Return the place of the shard that a chunk is in, and its chunks if these are all."""
        shard = tuple(i // n for i, n in zip(place, self._counts, strict=True))
        inside = tuple(i % n for i, n in zip(place, self._counts, strict=True))
        wanted = math.prod(
            min(n, size - i * n) for i, n, size in zip(shard, self._counts, self._grid, strict=True)
        )
        with self._lock:
            self._unsettled.add(shard)
            chunks = self._begun.setdefault(shard, {})
            chunks[inside] = packed
            if len(chunks) < wanted:
                return shard, None
            del self._begun[shard]
        return shard, chunks

    def settle(self, shard: Place) -> None:
        """Note that a shard is in the store."""
        with self._lock:
            self._unsettled.discard(shard)

    def is_settled(self, box: Sequence[slice]) -> bool:
        """Tell whether all shards are in the store of which a part was written."""
        sides = [
            range(b.start // n, -(-b.stop // n)) for b, n in zip(box, self._sizes, strict=True)
        ]
        with self._lock:
            return not any(
                all(i in side for i, side in zip(shard, sides, strict=True))
                for shard in self._unsettled
            )

    def joined(self, chunks: dict[Place, bytes | None]) -> bytes | None:
        """Return a shard; None if it is empty."""
        index = np.full((*self._counts, 2), _NOTHING, "<u8")
        at = index.nbytes + 4 if self._is_index_first else 0
        parts = []
        for inside, packed in sorted(chunks.items()):
            if packed is not None:
                index[inside] = at, len(packed)
                at += len(packed)
                parts.append(packed)
        if not parts:
            return None
        written = _with_checksum(index.tobytes())
        return b"".join([written, *parts] if self._is_index_first else [*parts, written])


def text(choice: Any) -> str:
    """Return one of a few texts, which is an enumeration's member in older zarr."""
    return str(getattr(choice, "value", choice))


def is_usual(sharding: ShardingCodec) -> bool:
    """Tell whether the index of shards is written as nearly all are."""
    codecs: Any = sharding.index_codecs
    kinds = [type(each) for each in codecs]
    return kinds == [BytesCodec, Crc32cCodec] and text(codecs[0].endian) == "little"


def _encoder(array: zarr.Array[Any]) -> tuple[Encoder | None, ShardingCodec | None]:
    """Return what packs a chunk, if that is not left to zarr; and how the array is sharded."""
    metadata: Any = array.metadata
    if array.dtype.kind not in "biuf" or not array.dtype.isnative:
        return None, None
    if isinstance(metadata, ArrayV2Metadata):
        if metadata.filters or metadata.order != "C":
            return None, None
        compressor = metadata.compressor
        return _packer([] if compressor is None else [compressor.encode]), None
    codecs, sharding = tuple(metadata.codecs), None
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) and is_usual(codecs[0]):
        sharding = codecs[0]
        codecs = tuple(sharding.codecs)
    steps = _steps(codecs)
    return (None, None) if steps is None else (_packer(steps), sharding)


def _packer(steps: Iterable[Callable[[Any], Any]]) -> Encoder:
    def encode(pixels: NDArray[Any]) -> bytes:
        packed: Any = pixels
        for step in steps:
            packed = step(packed)
        return bytes(packed)

    return encode


def _steps(codecs: Sequence[Any]) -> list[Callable[[Any], Any]] | None:
    """Return what codecs of Zarr v3 do to pixels; None if one of them is left to zarr."""
    serializer, *packing = codecs
    steps = [_step(codec) for codec in packing]
    known = [step for step in steps if step is not None]
    return known if isinstance(serializer, BytesCodec) and len(known) == len(steps) else None


def _step(codec: Any) -> Callable[[Any], Any] | None:
    said = codec.to_dict().get("configuration", {})
    if isinstance(codec, BloscCodec):
        shuffle = ("noshuffle", "shuffle", "bitshuffle").index(said["shuffle"])
        made = numcodecs.Blosc(said["cname"], said["clevel"], shuffle, said["blocksize"])
    elif isinstance(codec, ZstdCodec):
        made = numcodecs.Zstd(said["level"], said.get("checksum", False))
    elif isinstance(codec, GzipCodec):
        made = numcodecs.GZip(said["level"])
    else:
        return _with_checksum if isinstance(codec, Crc32cCodec) else None
    packer: Callable[[Any], Any] = made.encode
    return packer


def _with_checksum(packed: Any) -> bytes:
    data = bytes(packed)
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(4, "little")
