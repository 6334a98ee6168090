"""Levels as dask arrays, in blocks that are read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from ngff_xarray import image, ops
from ngff_xarray.image import Obj
from ngff_xarray.viewing.sources import source

if TYPE_CHECKING:
    import dask.array as da

By = Literal["shards", "chunks"]


def to_dask(obj: Obj, level: object = 0, *, by: By = "shards") -> da.Array:
    """Return a level as a dask array whose blocks are those that are stored.

    Parameters
    ----------
    obj
        An image or label image. What was cropped has the blocks of the store, the outer ones cut;
        what is of dask already, its own.
    level
        Its number, or a pixel size (``"1 µm"``).
    by
        Whether a block is a shard, where there are shards, or a chunk. dask wants no more than
        some 10,000 blocks of some MB each.

    Raises
    ------
    SelectionError
        If there is no such level.
    ValueError
        If ``by`` is neither.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> to_dask(xr.open_datatree(ngff_xarray.sample("cell")), level=1).shape
    (1, 330, 275)
    """
    arrays = image.levels(obj)
    found: da.Array = blocked(arrays[ops.which_level(arrays, level)], by).data
    return found


def blocked(array: xr.DataArray, by: By = "shards") -> xr.DataArray:
    """Return an array with its pixels in dask, in the blocks that are stored."""
    if by not in ("shards", "chunks"):
        raise ValueError(f"by: expected 'shards' or 'chunks', found {by!r}")
    if array.chunks is not None:
        return array
    variable = array.variable
    stored = variable.encoding.get("shards") if by == "shards" else None
    if stored is not None:
        variable = variable.copy(deep=False)
        variable.encoding = {**variable.encoding, "chunks": stored}
    found = source(variable)
    blocks: dict[Any, tuple[int, ...]] = {
        dim: _sizes(size, cut, n)
        for dim, size, cut, n in zip(
            variable.dims, found.chunks, found.offsets, variable.shape, strict=True
        )
    }
    return array.chunk(blocks)


def _sizes(size: int, cut: int, n: int) -> tuple[int, ...]:
    """Return the sizes of the blocks along an axis, of whose first some pixels are cut off.

    Examples
    --------
    >>> _sizes(4, 3, 10), _sizes(4, 0, 3), _sizes(4, 0, 0)
    ((1, 4, 4, 1), (3,), (0,))
    """
    first = min(size - cut, n)
    rest = n - first
    return (first, *[size] * (rest // size), *([rest % size] if rest % size else []))
