"""PNG files, written quickly rather than small."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


_PNG_COLOR_TYPE = {3: 2, 4: 6}


def png(rgb: NDArray[np.uint8]) -> bytes:
    r"""The picture as the bytes of a PNG file, made quickly rather than small.

    Each row is stored as its difference to the row above (the "up" filter) and deflated at
    level 1: several times faster than Pillow, for files about as large.

    Parameters
    ----------
    rgb
        (y, x, 3) uint8, or (y, x, 4) with an alpha that is not premultiplied; not empty.

    Raises
    ------
    ValueError
        When the picture is anything else.

    Examples
    --------
    >>> png(np.zeros((2, 2, 3), "u1"))[:4]
    b'\x89PNG'
    """
    components = rgb.shape[2] if rgb.ndim == 3 else None
    if rgb.dtype != np.uint8 or components not in _PNG_COLOR_TYPE or rgb.size == 0:
        raise ValueError(
            f"rgb is {rgb.shape} {rgb.dtype}; expected (y, x, 3) or (y, x, 4) uint8, not empty"
        )
    height, width, components = rgb.shape
    up = 2
    lines = np.empty((height, 1 + width * components), np.uint8)
    lines[:, 0] = up
    pixels = rgb.reshape(height, -1)
    lines[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=lines[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOR_TYPE[components], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum: https://www.w3.org/TR/png-3/#5Chunk-layout."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
