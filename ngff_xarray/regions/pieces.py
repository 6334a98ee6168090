"""Pixels that go to boxes of arrays, one box after another: written here, or on a cluster.

On a cluster each worker writes some whole chunks, or shards, of a box. The same again after a
worker was killed changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from ngff_xarray import cluster, pyramid, store
from ngff_xarray.boxes import Box, count, cut, within
from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.progress import Bar
from ngff_xarray.regions.placing import exact
from ngff_xarray.storage import is_shared
from ngff_xarray.text import printable

if TYPE_CHECKING:
    from dask._task_spec import TaskRef

_BYTES = 2**26  # that are written at a time


@dataclass(frozen=True)
class Piece:
    """Pixels that go to a box of an array.

    Parameters
    ----------
    array
        Where they go.
    box
        Their place there. It may share chunks with that of another piece.
    source, inside
        Where they come from: perhaps of what pieces before have written.
    """

    array: zarr.Array[Any]
    box: Box
    source: xr.Variable
    inside: Box

    @property
    def nbytes(self) -> int:
        """The bytes of its pixels, as they are stored."""
        return count(self.box) * self.array.dtype.itemsize

    def parts(self) -> Iterator[tuple[Box, Box]]:
        """Return a few chunks, or shards, at a time, and where their pixels come from."""
        unit = self.array.shards or self.array.chunks
        together = max(1, _BYTES // max(1, math.prod(unit) * self.array.dtype.itemsize))
        for part in cut(self.box, unit, together):
            moved = zip(self.inside, within(part, self.box), strict=True)
            yield part, tuple(slice(a.start + b.start, a.start + b.stop) for a, b in moved)

    def sides(self) -> list[list[slice]]:
        """Return those of where the pixels of parts come from, along each axis."""
        found: list[dict[int, slice]] = [{} for _ in self.box]
        for _, inside in self.parts():
            for known, side in zip(found, inside, strict=True):
                known[side.start] = side
        return [list(known.values()) for known in found]


def write(place: str, pieces: Sequence[Piece], bar: Bar) -> None:
    """Write pieces, one after another, on the cluster that dask works with if there is one.

    Parameters
    ----------
    place
        The URL of the image, for errors.
    pieces
        Which.
    bar
        Counts their bytes.

    Raises
    ------
    SelectionError
        If the array does not hold such numbers.
    StoreError
        If they cannot be written, or the workers died.
    """
    if not pieces or _spread(place, pieces, bar):
        return
    threads = pyramid.processors()
    for piece in pieces:
        read = pyramid.reader(piece.source, threads, sides=piece.sides())

        def put(parts: tuple[Box, Box], read: pyramid.Read = read, piece: Piece = piece) -> None:
            part, inside = parts
            _put(place, piece.array, part, read(inside))
            bar.did(count(part) * piece.array.dtype.itemsize)

        pyramid.in_threads(put, piece.parts(), threads, bar.show)


def _put(place: str, array: zarr.Array[Any], part: Box, pixels: Any) -> None:
    values = exact(np.asarray(pixels), array.dtype)
    try:
        array[part] = values
    except NgffError:
        raise
    except Exception as error:
        shown = printable(place, store.MAX_SHOWN)
        raise StoreError(f"{shown}: cannot be written: {store.reason(error)}") from error


# ---- on a cluster ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """What all workers know; None for sources whose pixels come along."""

    place: str
    arrays: tuple[zarr.Array[Any], ...]
    sources: tuple[xr.Variable | None, ...]


def _spread(place: str, pieces: Sequence[Piece], bar: Bar) -> bool:
    """Let workers write pieces; return False if there are none, or what they need is here."""
    stays = any(
        piece.source._in_memory or not is_shared(piece.array.store_path.store) for piece in pieces
    )
    client = None if stays else cluster.active()
    if client is None:
        return False
    sources = (None if each.source.chunks else pyramid.bare(each.source) for each in pieces)
    shared = _Shared(place, tuple(piece.array for piece in pieces), tuple(sources))
    try:
        work = cluster.Work(client, cluster.packed(shared))
    except cluster.Staying:
        return False
    last: TaskRef | None = None
    for number, piece in enumerate(pieces):
        last = _added(work, number, piece, last)
    assert last is not None
    work.run(last, bar, sum(piece.nbytes for piece in pieces))
    return True


def _added(work: cluster.Work, number: int, piece: Piece, before: TaskRef | None) -> TaskRef:
    """Add the tasks of a piece, which wait for those of the one before; return what ends them."""
    parts = list(piece.parts())
    pixels: Sequence[TaskRef | None] = [None] * len(parts)
    if piece.source.chunks is not None:
        inside = [box for _, box in parts]
        pixels = work.pixels(
            piece.source[piece.inside].data, [within(b, piece.inside) for b in inside]
        )
    tasks = [
        work.add(_put_part, number, part, inside, along, before)
        for (part, inside), along in zip(parts, pixels, strict=True)
    ]
    return work.add(_ended, tasks)


def _put_part(
    shared: _Shared, number: int, part: Box, inside: Box, pixels: NDArray[Any] | None, before: None
) -> None:
    source, array = shared.sources[number], shared.arrays[number]
    if source is not None:
        pixels = source[inside].values
    _put(shared.place, array, part, pixels)
    cluster.did(count(part) * array.dtype.itemsize)


def _ended(shared: _Shared, tasks: Sequence[None]) -> None:
    """Return nothing, when tasks have ended."""
