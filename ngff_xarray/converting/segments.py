"""Strips and tiles of TIFF that unpack to more than they are to hold are refused before they do.

Deflate, LZW, Zstandard and others like them are unpacked by imagecodecs into as much room as a
strip has. Codecs of images make room for what their header says: it is looked at first. Of JPEG XL
and JPEG XR nothing is known before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec

from ngff_xarray.errors import StoreError
from ngff_xarray.storage.bounded import limit_of, unpacker

_MOST = 2**32  # bytes of a strip or tile
_HEAD = 2**16  # bytes in which a header is

Size = Callable[[bytes], int | None]
"""Returns how many samples a header tells of."""


def check(compression: int, packed: bytes, pixels: int, itemsize: int, name: str) -> None:
    """Check that a strip or tile does not unpack to much more than it is to hold.

    Parameters
    ----------
    compression
        Its number in TIFF.
    packed
        The strip.
    pixels, itemsize
        How many samples it is to hold, and their bytes.
    name
        The file, in errors.

    Raises
    ------
    StoreError
        If it does, or is to hold more than there is room for.
    """
    if pixels * itemsize > _MOST:
        raise StoreError(
            f"{name}: has strips or tiles of {pixels * itemsize} bytes, where {_MOST} are the most "
            "that is to be expected: it is refused"
        )
    size = _SIZES.get(compression)
    found = None if size is None else size(packed)
    if found is not None and found > limit_of(pixels):
        raise StoreError(
            f"{name}: a strip or tile of {len(packed)} bytes unpacks to {found} samples, where "
            f"{pixels} are expected: it is refused"
        )
    kind = _BYTES.get(compression)
    if kind is not None and not _has_imagecodecs():  # or else tifffile unpacks all there is
        try:
            unpacker(kind)(packed, limit_of(pixels * itemsize))
        except ValueError as error:
            raise StoreError(f"{name}: {error}") from error


@cache
def _has_imagecodecs() -> bool:
    return find_spec("imagecodecs") is not None


_BYTES = {8: "zlib", 32946: "zlib", 34925: "lzma"}


def _number(packed: bytes, at: int, length: int) -> int:
    return int.from_bytes(packed[at : at + length])


def _jpeg(packed: bytes) -> int | None:
    """Return height x width x components of the largest frame (ITU-T T.81, B.2.2)."""
    found = [
        _number(packed, at + 5, 2) * _number(packed, at + 7, 2) * _number(packed, at + 9, 1)
        for at in _frames(packed)
    ]
    return max(found, default=None)


def _frames(packed: bytes) -> Iterator[int]:
    """Yield where the headers of frames are, up to the first scan."""
    at = 2
    while at + 4 <= len(packed) and packed[at] == 0xFF:
        marker = packed[at + 1]
        if marker == 0xDA:
            return
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            yield at
        alone = marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8
        at += (1 if marker == 0xFF else 2) if alone else 2 + _number(packed, at + 2, 2)


def _jpeg_2000(packed: bytes) -> int | None:
    """Return the area x components of the reference grid (ITU-T T.800, A.5.1)."""
    at = packed[:_HEAD].find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    width, height, left, top = (_number(packed, at + 8 + 4 * i, 4) for i in range(4))
    return max(width - left, 0) * max(height - top, 0) * _number(packed, at + 40, 2)


def _png(packed: bytes) -> int | None:
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(_number(packed, 25, 1), 1)
    return _number(packed, 16, 4) * _number(packed, 20, 4) * channels


def _webp(packed: bytes) -> int | None:
    kind, body = packed[12:16], packed[20:30]
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[a : a + 3], "little") + 1 for a in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(body[a : a + 2], "little") & 0x3FFF for a in (6, 8))
    else:
        return None
    return width * height * 3


def _lerc(packed: bytes) -> int | None:
    """Return rows x columns x bands of a blob (github.com/Esri/lerc, Lerc2.h)."""
    if not packed.startswith(b"Lerc2 "):
        return None
    version = int.from_bytes(packed[6:10], "little")
    at = 14 if version >= 3 else 10
    rows, columns, bands = (
        int.from_bytes(packed[a : a + 4], "little") for a in (at, at + 4, at + 8)
    )
    return rows * columns * (bands if version >= 4 else 1)


_SIZES: Mapping[int, Size] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg_2000),
    34933: _png,
    **dict.fromkeys((34927, 50001), _webp),
    34887: _lerc,
}
