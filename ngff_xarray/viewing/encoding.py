"""Pixels -> the bytes of messages: pictures, and labels as runs."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ngff_xarray import render
from ngff_xarray.viewing.drawing import run_starts
from ngff_xarray.viewing.sources import Array

MOST_BYTES = 950_000
"""Of one buffer: proxies drop messages of 1 MB."""

_LONGEST_RUN = 2**16 - 1

Pixels = NDArray[np.uint8]
Encoder = Callable[[Pixels], bytes]


def _jpeg(quality: int) -> Encoder:
    def encode(pixels: Pixels) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        # 4:4:4: at half the resolution, colours of single pixels would be gone
        Image.fromarray(pixels[..., :3]).save(buffer, "JPEG", quality=quality, subsampling=0)
        return buffer.getvalue()

    return encode


# the first that fits into a message: noise is the worst of pictures
_JPEG: Sequence[tuple[str, Encoder]] = [("jpeg", _jpeg(quality)) for quality in (85, 60, 30, 5)]
_PNG: Sequence[tuple[str, Encoder]] = [("png", render.png), ("jpeg", _jpeg(95)), *_JPEG]


def encode(pixels: Pixels, *, lossless: bool) -> tuple[str, bytes]:
    """Return the format and the bytes of a picture, small enough for a message.

    Parameters
    ----------
    pixels
        (y, x, 3) uint8, or (y, x, 4) with an opacity, which is always PNG where it fits.
    lossless
        PNG rather than JPEG.

    Examples
    --------
    >>> grey = np.full((4, 4, 3), 128, np.uint8)
    >>> encode(grey, lossless=False)[0], encode(grey, lossless=True)[0]
    ('jpeg', 'png')
    """
    ways = _PNG if lossless or pixels.shape[2] == 4 else _JPEG
    made = ((kind, encoder(pixels)) for kind, encoder in ways)
    return next((kind, found) for kind, found in made if len(found) <= MOST_BYTES)


def label_runs(labels: Array) -> tuple[bytes, bytes, bool]:
    """Return runs of equal labels, row after row: lengths, ids, and whether ids have 64 bits.

    Lengths are little-endian uint16, longer runs are cut; ids are uint32, or uint64 where one
    needs it (negative ones as their two's complement). Both are zlib streams: rows are alike.

    Examples
    --------
    >>> streams = label_runs(np.array([[0, 0, 7], [7, 7, 7]]))
    >>> lengths, ids, wide = *map(zlib.decompress, streams[:2]), streams[2]
    >>> np.frombuffer(lengths, "<u2").tolist(), np.frombuffer(ids, "<u4").tolist(), wide
    ([2, 4], [0, 7], False)
    """
    starts, ids = run_starts(labels)
    lengths = np.diff(starts, append=labels.size)
    pieces = -(-lengths // _LONGEST_RUN)
    if pieces.max(initial=1) > 1:
        ids = np.repeat(ids, pieces)
        cut = np.full(ids.size, _LONGEST_RUN)
        ends = np.cumsum(pieces) - 1
        cut[ends] = lengths - (pieces - 1) * _LONGEST_RUN
        lengths = cut
    wide = bool(ids.size) and bool(ids.min() < 0 or ids.max() > 2**32 - 1)
    unsigned = ids.astype("<i8" if ids.dtype.kind == "i" else "<u8").view("<u8")
    return (
        zlib.compress(lengths.astype("<u2"), 1),
        zlib.compress(unsigned.astype("<u8" if wide else "<u4"), 1),
        wide,
    )


def fitting_labels(labels: Array) -> Array:
    """Return labels whose runs fit into a message: every second pixel of them, until they do."""
    while labels.size > 1 and 10 * run_starts(labels)[0].size > MOST_BYTES:
        labels = labels[::2, ::2]
    return labels
