"""Writing whole chunks of an array, from many threads: encoded here, and put as they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV2Metadata
from zarr.core.sync import sync

Encoder = Callable[[NDArray[Any]], bytes]


class ChunkWriter:
    """Writes whole chunks of one array.

    Parameters
    ----------
    array
        To write to. Chunks that hold the fill value only are left out.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.chunks: tuple[int, ...] = array.shards or array.chunks
        self._encode: Encoder | None = _encoder(array)
        self._store: Store = array.store_path.store
        self._fill = array.fill_value

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
            self._write(place, pixels[part])

    def _write(self, place: tuple[int, ...], pixels: NDArray[Any]) -> None:
        if self._is_empty(pixels):
            return
        if pixels.shape != self.chunks:  # the last one: its rest is no pixel of the array
            whole = np.full(self.chunks, self._fill, self._array.dtype)
            whole[tuple(map(slice, pixels.shape))] = pixels
            pixels = whole
        pixels = np.ascontiguousarray(pixels, self._array.dtype)
        assert self._encode is not None
        name = self._array.metadata.encode_chunk_key(place)
        key = f"{self._array.path}/{name}" if self._array.path else name
        packed = default_buffer_prototype().buffer.from_bytes(self._encode(pixels))
        put = getattr(self._store, "set_sync", None)  # newer zarr's: without its event loop
        if put is None:
            sync(self._store.set(key, packed))
        else:
            put(key, packed)

    def _is_empty(self, pixels: NDArray[Any]) -> bool:
        fill = self._fill
        if fill is None or pixels.flat[0] != fill:
            return False
        return bool((pixels == fill).all())


def _encoder(array: zarr.Array[Any]) -> Encoder | None:
    """Return what packs the pixels of a chunk; None if that is left to zarr."""
    metadata: Any = array.metadata
    if array.dtype.kind not in "biuf":
        return None
    if isinstance(metadata, ArrayV2Metadata):
        if metadata.filters or metadata.order != "C":
            return None
        compressor = metadata.compressor
        return _bytes if compressor is None else lambda pixels: bytes(compressor.encode(pixels))
    serializer, *packing = metadata.codecs
    if not isinstance(serializer, BytesCodec) or not array.dtype.isnative:
        return None
    steps: list[Callable[[Any], Any]] = []
    for codec in packing:
        step = _step(codec)
        if step is None:
            return None
        steps.append(step)

    def encode(pixels: NDArray[Any]) -> bytes:
        packed: Any = pixels
        for step in steps:
            packed = step(packed)
        return bytes(packed)

    return encode


def _bytes(pixels: NDArray[Any]) -> bytes:
    return pixels.tobytes()


def _step(codec: Any) -> Callable[[Any], Any] | None:
    """Return what a codec of Zarr v3 does to the bytes of a chunk."""
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
    data = memoryview(packed).cast("B")
    checksum: int = google_crc32c.value(bytes(data))
    return bytes(data) + checksum.to_bytes(4, "little")
