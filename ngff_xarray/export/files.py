"""What writers of files share: the level, its pixels a part at a time, a file that comes last."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image
from ngff_xarray.errors import NgffError, NotOmeError, StoreError
from ngff_xarray.image import Obj
from ngff_xarray.ops import which_level
from ngff_xarray.text import printable

BLOCK = 2**26
"""Bytes of pixels in memory at a time."""


def chosen(obj: Obj, level: object) -> xr.DataArray:
    """Return a level of an image, by number or pixel size.

    Raises
    ------
    NotOmeError
        If it is a group of images.
    """
    kind = image.group_kind(obj)
    if kind is not None:
        raise NotOmeError(f"this is a {kind}, no image: take one of its images: .ngff.images")
    arrays = image.levels(obj)
    return arrays[which_level(arrays, level)]


def by_letter(array: xr.DataArray) -> dict[str, str]:
    """Return the dimensions by the letters that files call their axes by: t, c, z, y and x.

    Examples
    --------
    >>> by_letter(xr.DataArray(np.zeros((1, 2, 3)), dims=("time", "y", "x_pixels")))
    {'t': 'time', 'y': 'y', 'x': 'x_pixels'}
    """
    kinds = {axis.name: axis.type for axis in image.axes(array)}
    outer = {"time": "t", "channel": "c"}
    return {
        # dimensions of images that are turned in the world have names of their own
        outer.get(kinds[dim] or "", dim.lower().removesuffix("_pixels")): dim
        for dim in map(str, array.dims)
    }


def parts(
    array: xr.DataArray, rows: Mapping[int, int] | None = None, most: int = BLOCK
) -> Iterator[NDArray[np.generic]]:
    """Yield the pixels of an array in the order in which a file has them, a part at a time.

    Parameters
    ----------
    array
        One level.
    rows
        Number of an axis -> of how many a part has a multiple along it, but for the last one.
    most
        Bytes of a part.

    Examples
    --------
    >>> array = xr.DataArray(np.arange(24, dtype="u1").reshape(2, 4, 3))
    >>> [part.shape for part in parts(array, most=7)]
    [(1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3)]
    """
    shape, itemsize = array.shape, array.dtype.itemsize
    axis = 0
    while axis < array.ndim - 1 and math.prod(shape[axis + 1 :]) * itemsize > most:
        axis += 1
    below = max(math.prod(shape[axis + 1 :]) * itemsize, 1)
    step = max(most // below, 1)
    unit = (rows or {}).get(axis) or _chunk(array, axis)
    if axis in (rows or {}) or step > unit:
        step = max(step // unit, 1) * unit
    for outer in itertools.product(*(range(size) for size in shape[:axis])):
        for start in range(0, shape[axis], step):
            box = (*(slice(i, i + 1) for i in outer), slice(start, start + step))
            yield np.asarray(array[box].values)


def _chunk(array: xr.DataArray, axis: int) -> int:
    """Return how many pixels a chunk has along an axis, where that is known."""
    sizes = array.encoding.get("shards") or array.encoding.get("chunks")
    if sizes is None or len(sizes) != array.ndim:
        return 1
    return int(sizes[axis])


@contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield where to write a file, which gets its name when all of it is there.

    Raises
    ------
    StoreError
        If there is something, or it cannot be written.
    """
    target = Path(path).expanduser()
    if target.is_dir() or (target.exists() and not overwrite):
        what = "is a folder" if target.is_dir() else "is there already: give overwrite=True"
        raise StoreError(f"{printable(target, 500)}: {what}, or another path")
    part = target.with_name(f".{uuid4().hex[:8]}.partial-{target.name}")
    try:
        yield part
        part.replace(target)
    except NgffError:
        raise
    except OSError as error:
        where = printable(target, 500)
        raise StoreError(f"{where}: cannot be written: {printable(error, 300)}") from error
    finally:
        part.unlink(missing_ok=True)
