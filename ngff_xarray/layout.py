"""How the arrays of an image are to be stored: what a writer is told of chunks and codecs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numcodecs
import numpy as np
import xarray as xr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from ngff_xarray import image, pyramid
from ngff_xarray.boxes import are_sizes
from ngff_xarray.errors import SelectionError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.text import printable

Sizes = Literal["auto"] | Sequence[int] | Mapping[str, int] | None
Compressor = Literal["blosc", "zstd"]

_LEVEL = 5  # of Blosc
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """What was told of chunks, shards and codecs.

    Parameters
    ----------
    chunks, shards
        Sizes by axis, ``"auto"``, or None where arrays are stored as they were.
    compressor
        None for that of the store, or Blosc.
    """

    chunks: Mapping[str, int] | Literal["auto"] | None = None
    shards: Mapping[str, int] | Literal["auto"] | None = None
    compressor: Compressor | None = None

    @classmethod
    def of(cls, obj: Obj, chunks: Sizes, shards: Sizes, compressor: Any) -> Layout:
        """Return what was told of an object that is to be written.

        Raises
        ------
        SelectionError
            If it makes no sense.
        """
        if compressor is not None and compressor not in get_args(Compressor):
            raise SelectionError(
                f"compressor={printable(compressor, 40)!r}: expected 'blosc' or 'zstd'"
            )
        if chunks is None and shards is None:
            return cls(None, None, compressor)
        is_image = image.group_kind(obj) is None
        dims = [str(dim) for dim in image.levels(obj)[0].dims] if is_image else None
        return cls(_by_axis("chunks", chunks, dims), _by_axis("shards", shards, dims), compressor)

    def check(self, zarr_format: int) -> None:
        """Check that a Zarr format has all that was told.

        Raises
        ------
        UnsupportedError
            If it has no shards.
        """
        if isinstance(self.shards, Mapping) and zarr_format == 2:
            raise UnsupportedError(
                "shards: the Zarr v2 of OME-Zarr 0.4 has none: write version='0.5'"
            )

    def chunks_of(self, array: xr.DataArray, stored: Any) -> tuple[int, ...]:
        """Return the size of the chunks of an array."""
        if self.chunks is None and are_sizes(stored, array.ndim):
            return tuple(stored)
        found = pyramid.chunk_sizes(array.shape, _space(array), array.dtype.itemsize)
        told = self.chunks if isinstance(self.chunks, Mapping) else {}
        return tuple(
            min(told.get(str(dim), n), max(size, 1))
            for dim, n, size in zip(array.dims, found, array.shape, strict=True)
        )

    def shards_of(
        self, array: xr.DataArray, chunks: Sequence[int], stored: Any
    ) -> tuple[int, ...] | None:
        """Return the size of the shards of an array, whole chunks; None if it gets none.

        Raises
        ------
        SelectionError
            If a shard that was told of is not made of whole chunks.
        """
        if self.shards == "auto":
            space, size = _space(array), array.dtype.itemsize
            return pyramid.shard_sizes(array.shape, chunks, space, size)
        if self.shards is None:
            whole = are_sizes(stored, array.ndim) and _are_whole(stored, chunks)
            return tuple(stored) if whole else None
        found = []
        for dim, n, size in zip(array.dims, chunks, array.shape, strict=True):
            told = self.shards.get(str(dim), n)
            if told % n and n < size:
                raise SelectionError(
                    f"shards: {told} pixels along {dim} are no whole chunks of {n}: give a "
                    f"multiple of {n}"
                )
            found.append(n * max(1, min(told // n, math.ceil(size / n))))
        return tuple(found)

    def compressors(self, zarr_format: int) -> Any:
        """Return the codecs of chunks.

        The checksum comes last: it is what tells a flipped bit from a pixel.
        """
        is_zstd = self.compressor == "zstd"
        if zarr_format == 2:
            blosc = numcodecs.Blosc(cname="zstd", clevel=_LEVEL)
            return [numcodecs.Zstd(level=_ZSTD_LEVEL) if is_zstd else blosc]
        zstd = ZstdCodec(level=_ZSTD_LEVEL)
        return [zstd if is_zstd else BloscCodec(cname="zstd", clevel=_LEVEL), Crc32cCodec()]


def of_level(
    stored: Mapping[Any, Any], shape: Sequence[int], chunks: Sequence[int]
) -> dict[str, Any]:
    """Return how a level is stored: as the finest one, in chunks that are no larger than it is.

    Parameters
    ----------
    stored
        The encoding of the finest level.
    shape
        Of the level.
    chunks
        Their size, where that is not stored.
    """
    found = {key: value for key, value in stored.items() if key != "preferred_chunks"}
    given, shards = found.pop("chunks", None), found.pop("shards", None)
    chunks = given if are_sizes(given, len(shape)) else chunks
    found["chunks"] = clipped = tuple(
        min(n, max(size, 1)) for n, size in zip(chunks, shape, strict=True)
    )
    if are_sizes(shards, len(shape)):
        counts = [-(-size // n) for size, n in zip(shape, clipped, strict=True)]
        times = [min(s // n, m) for s, n, m in zip(shards, chunks, counts, strict=True)]
        found["shards"] = tuple(n * max(m, 1) for n, m in zip(clipped, times, strict=True))
    return found


def _by_axis(
    what: str, sizes: Sizes, dims: Sequence[str] | None
) -> Mapping[str, int] | Literal["auto"] | None:
    """Return sizes by the name of the axis."""
    if sizes is None:
        return None
    if isinstance(sizes, str):
        if sizes != "auto":
            raise SelectionError(f"{what}: expected 'auto' or sizes, found {sizes!r}")
        return "auto"
    if isinstance(sizes, Mapping):
        found = dict(sizes)
        unknown = [name for name in found if dims is not None and name not in dims]
        if unknown:
            raise SelectionError(
                f"{what}: there is no axis {printable(unknown[0], 40)!r}; the axes are "
                f"{', '.join(dims or ())}"
            )
    elif dims is None or not isinstance(sizes, list | tuple) or len(sizes) != len(dims):
        axes = f" for {', '.join(dims)}" if dims is not None else ", by the name of the axis"
        raise SelectionError(f"{what}: expected sizes{axes}, found {printable(sizes, 80)}")
    else:
        found = dict(zip(dims, sizes, strict=True))
    for name, size in found.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise SelectionError(f"{what}: {name}: expected at least 1, found {size!r}")
    return {name: int(size) for name, size in found.items()}


def _space(array: xr.DataArray) -> list[bool]:
    return [axis.type == "space" for axis in image.axes(array)]


def _are_whole(shards: Sequence[int], chunks: Sequence[int]) -> bool:
    return all(n % m == 0 for n, m in zip(shards, chunks, strict=True))
