"""Writing a region, and appending: what is asked for is checked before the first byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import xarray as xr

from ngff_xarray import image, selection, store, turns, unfinished
from ngff_xarray.boxes import count
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.regions import channels
from ngff_xarray.regions.placing import by_coordinates, by_region, check_continues, fitting, side
from ngff_xarray.regions.writing import Say, Written
from ngff_xarray.storage import Access
from ngff_xarray.text import printable

Act = Callable[[Say], None]


def write_region(
    obj: Obj,
    target: Any,
    *,
    region: Mapping[str, slice] | None = None,
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
    **where: Any,
) -> None:
    """Write pixels into a part of an image that is there, and what they change in other levels.

    At every level only the chunks, or shards, that the part touches are written. Meanwhile the
    image is marked: opening it raises `IncompleteError`, also after its writer was killed, until
    a region was written again.

    Writers of one image wait for each other, also where they touch other chunks, and read what is
    there when it is their turn: threads and processes of a machine on its disks, and all writers
    to S3, Google's and Azure's stores that are opened by obstore, if the server heeds conditions
    (``If-Match``). Elsewhere (s3fs, disks that several machines share) a writer waits for those
    whose mark it sees, but of two that begin in the same moment one may undo what the other wrote.
    A mark says every minute that its writer is alive. That of a process of this machine that has
    ended is taken over at once, one of another machine after five minutes without that.

    Parameters
    ----------
    obj
        The pixels: an array, or an image, whose finest level is taken. Its coordinates say where
        they belong: on the pixels of the image.
    target
        The image or label image (``"scan.ome.zarr/labels/nuclei"``): a path, a URL, or a zarr
        store or group.
    region
        Instead of coordinates: where the pixels belong, by axis, as slices of the finest level.
        Axes that are left out are whole.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait
        How many seconds to wait for another writer of the image.
    storage_options
        For fsspec, where the target is a URL.
    **where
        The part of the pixels to write, in physical units, as `crop` takes it.

    Raises
    ------
    SelectionError
        If the pixels do not fit: other axes or types, outside of the image, between its pixels.
    UnsupportedError
        If the levels of the image are not made of whole pixels of the finest.
    BusyError
        If others are writing it all the time; nothing is written then.
    StoreError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np, xarray as xr, ngff_xarray
    >>> image = xr.DataArray(np.zeros((8, 8), "u1"), dims=("y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image.ngff.to_zarr(f"{folder}/a.ome.zarr", scale_factors=[2])
    ...     spot = xr.DataArray(np.full((2, 2), 9, "u1"), dims=("y", "x"))
    ...     write_region(spot, f"{folder}/a.ome.zarr", region={"y": slice(2, 4), "x": slice(4, 6)})
    ...     xr.open_datatree(f"{folder}/a.ome.zarr").ngff.level(1).values[1]
    array([0, 0, 9, 0], dtype=uint8)
    """
    pixels = image.levels(obj)[0]
    if where:
        pixels = selection.crop(pixels, where)
    place = store.open_target(target, access=Access(storage_options or {}))

    def ready(written: Written) -> Act | None:
        finest = written.arrays[0]
        box = by_region(finest, region) if region is not None else by_coordinates(pixels, finest)
        fit = fitting(pixels, finest, box)
        return partial(written.write, fit, box, progress) if count(box) else None

    _in_turn(place, wait, ready)


def _in_turn(place: store.Source, wait: float, ready: Callable[[Written], Act | None]) -> None:
    """Write into an image that no other writer changes meanwhile.

    Parameters
    ----------
    place
        The image.
    wait
        How many seconds to wait for others.
    ready
        Checks what is asked for and returns what writes it, if there is anything to write; called
        again where others may have changed the image before it was marked.
    """
    with turns.turn(place, wait) as end:
        written = turns.patiently(lambda: Written.at(place), end)
        act = ready(written)
        if act is None:
            return
        with turns.Claim(place, written.zarr_format) as claim:
            if claim.needs_taking:
                turns.patiently(lambda: claim.take({"regions": []}), end)
                act = ready(Written.at(place, claim.token))
            if act is not None:
                act(claim.say)


def append(
    obj: Obj,
    target: Any,
    *,
    dim: str = "t",
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write pixels behind the last ones of an image along an axis; all levels grow.

    Chunks are written first and the lengths last, so that whoever reads meanwhile, or after the
    writer was killed, sees the image as it was, or an `IncompleteError` while the lengths change.
    Appending the same again completes it. Writers wait for each other as in `write_region`.

    Parameters
    ----------
    obj
        The pixels: an array, or an image, whose finest level is taken. Along the axis, coordinates
        must go on from those of the image, if there are any; along the others they say where the
        pixels belong, which must be the whole image.
    target
        The image or label image: a path, a URL, or a zarr store or group.
    dim
        The axis. Channels get the names on it, and are described as the pixels say, or by a colour
        and the range that they are best shown in.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait
        How many seconds to wait for another writer of the image.
    storage_options
        For fsspec, where the target is a URL.

    Raises
    ------
    SelectionError
        If the pixels do not fit.
    UnsupportedError
        If the levels of the image are not made of whole pixels of the finest.
    BusyError
        If others are writing it all the time; nothing is written then.
    StoreError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np, xarray as xr, ngff_xarray
    >>> film = xr.DataArray(np.zeros((2, 8, 8), "u1"), dims=("t", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     film.ngff.to_zarr(f"{folder}/a.ome.zarr", scale_factors=[2])
    ...     append(film[:1] + 1, f"{folder}/a.ome.zarr")
    ...     [level.shape for level in xr.open_datatree(f"{folder}/a.ome.zarr").ngff.levels]
    [(3, 8, 8), (3, 4, 4)]
    """
    pixels = image.levels(obj)[0]
    place = store.open_target(target, access=Access(storage_options or {}))
    _in_turn(place, wait, lambda written: _appending(pixels, written, dim, progress))


def end(place: store.Source) -> None:
    """End what a writer was killed at: levels agree, no chunks are beyond the ends, and no mark is.

    The finest level may hold a part of a region only.

    Parameters
    ----------
    place
        The image, for writing.

    Raises
    ------
    NgffError
        If there is none that can be written into.
    """
    _in_turn(place, 0, lambda written: partial(written.end, None))


def _appending(
    pixels: xr.DataArray, written: Written, dim: str, progress: bool | None
) -> Act | None:
    """Return what writes pixels behind the last ones, if they fit there."""
    finest = written.arrays[0]
    if dim not in finest.dims:
        names = ", ".join(map(str, finest.dims))
        raise SelectionError(f"there is no axis {printable(dim, 40)!r}; the axes are {names}")
    size = pixels.sizes.get(dim, 1)
    start, stop = finest.sizes[dim], finest.sizes[dim] + size
    was = written.appended
    if was is not None and was[0] == dim and was[2] - was[1] == size:
        start, stop = was[1:]  # all but done by a writer that was killed
    named = None
    if dim == image.channel_dim(finest):
        named = channels.entries(pixels, finest, dim, start, size)
    else:
        check_continues(pixels, finest, dim, start)
    box = tuple(
        slice(start, stop) if each == dim else side(pixels, finest, str(each))
        for each in finest.dims
    )
    others = [(b, n) for d, b, n in zip(finest.dims, box, finest.shape, strict=True) if d != dim]
    if any(side != slice(0, n) for side, n in others):
        raise SelectionError(
            f"the pixels are a part of the image only: append what is whole but along {dim}, and "
            "write the rest with write_region"
        )
    pixels = fitting(pixels, finest, box)
    if not count(box):
        return None
    if stop == finest.sizes[dim]:
        return partial(written.write, pixels, box, progress)
    return partial(written.append, pixels, box, finest.dims.index(dim), named, progress)
