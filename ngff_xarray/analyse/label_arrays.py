"""Label images as they are measured and compared: integers, with the axes of objects last."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from ngff_xarray import image
from ngff_xarray.analyse.boxed import Boxed
from ngff_xarray.analyse.sweeping import stored_sizes
from ngff_xarray.boxes import Box
from ngff_xarray.errors import UnsupportedError


def label_array(array: xr.DataArray) -> xr.DataArray:
    """Return the pixels of a label image, without an axis of channels.

    Raises
    ------
    UnsupportedError
        If they are no integers, or of several channels.
    """
    if array.dtype.kind not in "iub":
        raise UnsupportedError(
            f"the labels have the dtype {array.dtype}, expected integers: convert them, as with "
            ".astype('uint32')"
        )
    channel = image.channel_dim(array)
    if channel is None:
        return array
    if array.sizes[channel] != 1:
        raise UnsupportedError(
            f"the labels have {array.sizes[channel]} channels along {channel}: take one of them, "
            f"as with .isel({channel}=0)"
        )
    return taken(array, {channel: 0})


def taken(array: xr.DataArray, at: Mapping[str, int]) -> xr.DataArray:
    """Return an array without some axes, of which one pixel is left; it knows its chunks still."""
    found = array.isel(at, drop=True)
    for key in ("chunks", "shards"):
        sizes = stored_sizes(array, key)
        if sizes is not None:
            kept = zip(array.dims, sizes, strict=True)
            found.encoding[key] = tuple(size for dim, size in kept if dim not in at)
    return found


def extended_dims(labels: xr.DataArray) -> tuple[str, ...]:
    """Return the axes that objects extend along: those of space with more than one pixel.

    There are two at the least, if the image has so many: the last ones of those with one pixel.

    Raises
    ------
    UnsupportedError
        If there is none.
    """
    space = [axis.name for axis in image.axes(labels) if axis.type == "space"]
    if not space:
        raise UnsupportedError(
            f"the labels have the axes {', '.join(map(str, labels.dims)) or 'none'}, none of which "
            "is of space: expected some such as y and x"
        )
    kept = [dim for dim in space if labels.sizes[dim] > 1]
    thin = [dim for dim in space if dim not in kept]
    kept += thin[::-1][: max(0, 2 - len(kept))]
    return tuple(dim for dim in space if dim in kept)


def arranged(labels: xr.DataArray) -> xr.DataArray:
    """Return labels with the axes that objects extend along last."""
    dims = extended_dims(labels)
    order = [dim for dim in map(str, labels.dims) if dim not in dims] + list(dims)
    return in_order(labels, order)


def in_order(array: xr.DataArray, dims: Sequence[Hashable]) -> xr.DataArray:
    """Return an array with its axes in an order; it knows its chunks still."""
    if tuple(dims) == array.dims:
        return array
    order = [array.dims.index(dim) for dim in dims]
    if array.chunks is None and not isinstance(array.variable._data, np.ndarray):
        pixels = indexing.LazilyIndexedArray(_Turned(array.variable, order))
        found = xr.DataArray(pixels, array.coords, dims, array.name, array.attrs)
    else:
        found = array.transpose(*dims)
    for key in ("chunks", "shards"):
        sizes = stored_sizes(array, key)
        if sizes is not None:
            found.encoding[key] = tuple(sizes[axis] for axis in order)
    return found


class _Turned(Boxed):
    """Pixels with their axes in another order, read as boxes: xarray would ask for each pixel."""

    def __init__(self, variable: xr.Variable, order: Sequence[int]) -> None:
        self._variable, self._order = variable, tuple(order)
        self.shape = tuple(variable.shape[axis] for axis in order)
        self.dtype = variable.dtype

    def box(self, box: Box) -> NDArray[Any]:
        own = [box[self._order.index(axis)] for axis in range(len(box))]
        return np.asarray(self._variable[tuple(own)].values).transpose(self._order)
