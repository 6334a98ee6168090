"""Chunks that unpack to more than a chunk holds are refused before the memory is spent."""

from __future__ import annotations

import bz2
import copy
import lzma
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

import numpy as np
import zarr
from numcodecs import zstd
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.codecs._v2 import V2Codec

_BLOCK = 2**17  # bytes: no block of Zstandard is larger, unpacked
_LESS = re.compile(r"expected to decompress \d+, got (\d+)")  # numcodecs' words for what fitted
_MARGIN = 2**20  # bytes beyond twice a chunk: what filters and checksums may add

Unpacker = Callable[[bytes, int], bytes | None]
"""Returns what some data unpack to, or None if whoever calls is to unpack them; raises if that is
more than a limit."""


def bound(array: zarr.AsyncArray[Any]) -> None:
    """Let an array refuse chunks that unpack to much more than one of its chunks.

    Deflate, bzip2, LZMA and Zstandard are unpacked up to the limit; Blosc, LZ4 and mostly Zstandard
    say how much there is. What the array's metadata say stays as it is.
    """
    pipeline = array.codec_pipeline
    try:
        count = math.prod(array.chunks)
    except NotImplementedError:  # chunks of several sizes, which only Zarr v3 has
        count = 0
    item = _item_size(array.dtype)
    # a pipeline is iterable, but not by its abstract class
    codecs = [_bounded(codec, count, item) for codec in pipeline]  # type: ignore[attr-defined]
    object.__setattr__(array, "codec_pipeline", type(pipeline).from_codecs(codecs))


def _bounded(codec: Codec, count: int, item: int) -> Codec:
    kind = type(codec)
    if kind in _KINDS:
        found = copy.copy(codec)
        object.__setattr__(found, "__class__", _KINDS[kind])
        return found
    if isinstance(codec, V2Codec):
        if getattr(codec.compressor, "codec_id", "") not in _UNPACKERS or not count * item:
            return codec
        limited = _Limited(codec.compressor, limit_of(count * max(item, _widest(codec))))
        # which does what zarr asks of a codec of numcodecs, and is none
        return replace(codec, compressor=limited)  # type: ignore[arg-type]
    if isinstance(codec, ShardingCodec):
        sharding = copy.copy(codec)
        sharding.__dict__.pop("codec_pipeline", None)  # which was made of the others
        inner = tuple(_bounded(each, 0, 0) for each in codec.codecs)
        object.__setattr__(sharding, "codecs", inner)
        return sharding
    return codec


def _item_size(dtype: np.dtype[Any]) -> int:
    """Return the bytes of an element; 0 where elements are as long as they are."""
    return 0 if dtype.kind == "O" else dtype.itemsize


def _widest(codec: V2Codec) -> int:
    """Return the bytes of the largest element that filters make of one."""
    made = ("encode_dtype", "astype")  # of AsType; of Delta, Quantize and FixedScaleOffset
    found = (getattr(each, name, None) for each in codec.filters or () for name in made)
    return max((np.dtype(dtype).itemsize for dtype in found if dtype is not None), default=0)


def limit_of(whole: int) -> int:
    """Return how many bytes a chunk may unpack to that holds so many."""
    return 2 * whole + _MARGIN


def unpacker(compressor: str) -> Unpacker:
    """Return what unpacks the data of a compressor up to a limit."""
    return _UNPACKERS[compressor]


def _refuse(packed: int, found: int, limit: int) -> NoReturn:
    raise ValueError(
        f"a chunk of {packed} bytes unpacks to {found} bytes or more, where {limit} are the most "
        "that is to be expected: it is refused"
    )


class _Limited:
    """A compressor of Zarr v2 that unpacks no more than a chunk."""

    def __init__(self, codec: Any, limit: int) -> None:
        self._codec, self._limit = codec, limit
        self.codec_id: str = codec.codec_id

    def decode(self, packed: Any, out: Any = None) -> Any:
        found = _UNPACKERS[self.codec_id](bytes(packed), self._limit)
        return self._codec.decode(packed) if found is None else found


class _WithLimit:
    """What codecs of Zarr v3 have in common that unpack no more than a chunk."""

    _name: ClassVar[str]

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        whole = math.prod(chunk_spec.shape) * _item_size(chunk_spec.dtype.to_native_dtype())
        if whole:
            found = _UNPACKERS[self._name](chunk_bytes.to_bytes(), limit_of(whole))
            if found is not None:
                return chunk_spec.prototype.buffer.from_bytes(found)
        return super()._decode_sync(chunk_bytes, chunk_spec)  # type: ignore[misc]  # of the codec


def _inflate(wbits: int) -> Unpacker:
    def unpack(packed: bytes, limit: int) -> bytes:
        parts, left = [], packed
        total = 0
        while left:  # files may follow one another
            unpacking = zlib.decompressobj(wbits)
            part = unpacking.decompress(left, limit - total + 1)
            total += len(part)
            if total > limit:
                _refuse(len(packed), total, limit)
            if not unpacking.eof:
                raise ValueError("the compressed data end early")
            parts.append(part)
            left = unpacking.unused_data.lstrip(b"\0")  # some pad them
        return b"".join(parts)

    return unpack


def _stream(make: Callable[[], Any]) -> Unpacker:
    def unpack(packed: bytes, limit: int) -> bytes:
        unpacking = make()
        found: bytes = unpacking.decompress(packed, limit + 1)
        if len(found) > limit:
            _refuse(len(packed), len(found), limit)
        if not unpacking.eof:
            raise ValueError("the compressed data end early")
        return found

    return unpack


def _said(size: Callable[[bytes], int | None]) -> Unpacker:
    def unpack(packed: bytes, limit: int) -> None:
        found = size(packed)
        if found is not None and found > limit:
            _refuse(len(packed), found, limit)

    return unpack


def _number(start: int) -> Callable[[bytes], int]:
    return lambda packed: int.from_bytes(packed[start : start + 4], "little")


Part = Callable[[int, int], bytes]
"""Returns some bytes of a chunk: from where on, and how many at most."""


def said_size(compressor: str, part: Part, length: int) -> int:
    """Return how much a chunk unpacks to at most, reading little of it.

    Parameters
    ----------
    compressor
        ``"zstd"`` or ``"blosc"``.
    part, length
        Returns parts of the chunk, and how long it is.

    Raises
    ------
    ValueError
        If it is no such chunk.
    """
    return _most_zstd(part, length) if compressor == "zstd" else _blosc(part(0, 16), length)


def _blosc(packed: bytes, length: int | None = None) -> int:
    """Return the size in a header of Blosc; what it unpacks beyond the end is other memory."""
    if len(packed) < 16 or _number(12)(packed) > (len(packed) if length is None else length):
        raise ValueError("the compressed data end early")
    return _number(4)(packed)


def _most_zstd(part: Part, length: int) -> int:
    """Return the most that frames of Zstandard unpack to, by their blocks (RFC 8878, 3.1.1.2)."""
    at = total = 0
    while at < length:
        head = part(at, 5)
        magic = int.from_bytes(head[:4], "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
            at += 8 + int.from_bytes(part(at + 4, 4), "little")
            continue
        if magic != 0xFD2FB528 or len(head) < 5:
            raise ValueError("the compressed data are not of Zstandard")
        flags = head[4]
        single = flags >> 5 & 1
        at += 6 - single + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        is_last = False
        while not is_last:
            head = part(at, 3)
            if len(head) < 3:
                raise ValueError("the compressed data end early")
            block = int.from_bytes(head, "little")
            is_last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            total += size if kind < 2 else _BLOCK
            at += 3 + (1 if kind == 1 else size)
        at += flags & 4  # its checksum
    if at > length:
        raise ValueError("the compressed data end early")
    return total


def _zstd(packed: bytes, limit: int) -> bytes | None:
    """Unpack frames that do not say how much they hold into as much room as there may be."""
    said = _zstd_size(packed)
    if said is not None:
        return _said(lambda _: said)(packed, limit)
    room = np.empty(limit, "u1")  # memory that is not written to costs nothing
    try:
        zstd.decompress(packed, room)
    except RuntimeError as error:
        if found := _LESS.search(str(error)):
            return room[: int(found[1])].tobytes()
        if "too small" in str(error):
            _refuse(len(packed), limit + 1, limit)
        raise
    return room.tobytes()


def _zstd_size(packed: bytes) -> int | None:
    """Return the content size of a frame's header (RFC 8878, 3.1.1.1), where it is there."""
    if packed[:4] != b"\x28\xb5\x2f\xfd" or len(packed) < 9:
        return None
    flags = packed[4]
    single = bool(flags & 0x20)
    length = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    if not length:
        return None
    return int.from_bytes(packed[start : start + length], "little") + 256 * (length == 2)


_UNPACKERS: Mapping[str, Unpacker] = {
    "gzip": _inflate(31),
    "zlib": _inflate(15),
    "bz2": _stream(bz2.BZ2Decompressor),
    "lzma": _stream(lzma.LZMADecompressor),
    "lz4": _said(_number(0)),
    "blosc": _said(_blosc),
    "zstd": _zstd,
}


class _Gzip(_WithLimit, GzipCodec):
    _name = "gzip"


class _Zstd(_WithLimit, ZstdCodec):
    _name = "zstd"


class _Blosc(_WithLimit, BloscCodec):
    _name = "blosc"


_KINDS: Mapping[type[Codec], type[Codec]] = {
    GzipCodec: _Gzip,
    ZstdCodec: _Zstd,
    BloscCodec: _Blosc,
}
