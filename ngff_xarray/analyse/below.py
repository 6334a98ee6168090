"""An image below a label image: its values at the pixels of the labels, whatever its own are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, units
from ngff_xarray.analyse.label_arrays import extended_dims, taken
from ngff_xarray.analyse.sweeping import Pixels, chunks
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError


def fitting(levels: Sequence[xr.DataArray], labels: xr.DataArray) -> xr.DataArray:
    """Return the coarsest level that is as fine as the labels along every axis, or the finest."""
    wanted = image.pixel_sizes(labels)
    best = levels[0]
    for array in levels:
        sizes = image.pixel_sizes(array)
        dims = [dim for dim in extended_dims(labels) if dim in sizes and dim in wanted]
        factors = {
            dim: units.factor(geometry.unit(array[dim]), geometry.unit(labels[dim])) for dim in dims
        }
        if all(sizes[dim] * factors[dim] <= wanted[dim] * (1 + 1e-6) for dim in dims):
            best = array
    return best


def pixels_at(coordinate: xr.DataArray, positions: xr.DataArray) -> NDArray[np.intp]:
    """Return which pixel along an axis holds each position, by index; -1 outside.

    Parameters
    ----------
    coordinate
        The centres of the pixels, rising or falling.
    positions
        In any unit that can be converted.

    Raises
    ------
    UnitError
        If it cannot.

    Examples
    --------
    >>> x = xr.DataArray([0.0, 1.0, 2.0], dims="x")
    >>> pixels_at(x, xr.DataArray([-0.7, 0.2, 1.4, 1.6], dims="x"))
    array([-1,  0,  1,  2])
    """
    factor = units.factor(geometry.unit(positions), geometry.unit(coordinate))
    if not coordinate.size or not positions.size:
        return np.full(positions.size, -1, np.intp)
    wanted = geometry.numbers(positions) * factor
    bounds = geometry.edges(coordinate)
    falls = bounds[0] > bounds[-1]
    rising = bounds[::-1] if falls else bounds
    noise = 1e-6 * (rising[-1] - rising[0]) / (rising.size - 1)
    found = np.searchsorted(rising, wanted + noise, side="right") - 1
    last = rising.size - 2
    is_outside = (found < 0) | (found > last)
    return np.where(is_outside, -1, last - found if falls else found)


class Below:
    """An image below a label image: its values at the labels' pixels, by coordinates.

    Where pixels of the two are of different sizes, the one that holds the centre of the label's
    pixel counts.

    Parameters
    ----------
    array
        One level of an image; its axes are those of the labels and that of channels.
    labels
        The label image.
    channels
        Which of its channels, by index; None where it has no such axis.
    threads
        How many read at a time.

    Raises
    ------
    SelectionError
        If the axes are others.
    UnitError
        If a unit cannot be converted.
    """

    def __init__(
        self,
        array: xr.DataArray,
        labels: xr.DataArray,
        channels: Sequence[int] | None,
        threads: int,
    ) -> None:
        self.dtype = array.dtype
        self._channel = image.channel_dim(array)
        self._channels = channels
        self._dims = [str(dim) for dim in labels.dims]
        array = _without_others(array, labels, self._channel)
        self._order = [str(dim) for dim in array.dims]
        self._at = {
            dim: pixels_at(array[dim], labels[dim])
            if dim in array.dims
            else np.zeros(labels.sizes[dim], np.intp)
            for dim in self._dims
        }
        self._apart = self._channel is None or chunks(array)[self._order.index(self._channel)] == 1
        self._pixels = Pixels(array, threads)

    @property
    def reaches_all(self) -> bool:
        """Whether there is a value at every pixel of the labels."""
        return all((at >= 0).all() for at in self._at.values())

    @property
    def pixel_bytes(self) -> float:
        """How many bytes are read for a pixel of the labels, on the average."""
        spans = [
            (int(np.max(at)) - int(np.min(at[at >= 0])) + 1) / at.size if (at >= 0).any() else 0
            for at in self._at.values()
        ]
        count = 1
        if self._channels is not None:
            span = max(self._channels) - min(self._channels) + 1
            count = len(self._channels) if self._apart else span
        return self.dtype.itemsize * count * math.prod(spans)

    def values(self, box: Box) -> tuple[list[NDArray[Any]], NDArray[np.bool_] | None]:
        """Return the values in a box of the labels by channel, and where there are any.

        Elsewhere they are 0; None where they are everywhere.
        """
        at = {dim: self._at[dim][side] for dim, side in zip(self._dims, box, strict=True)}
        inside = [each >= 0 for each in at.values()]
        shape = tuple(each.size for each in inside)
        count = 1 if self._channels is None else len(self._channels)
        if not all(each.any() for each in inside):
            return [np.zeros(shape, self.dtype)] * count, np.zeros(shape, np.bool_)
        sides = {
            dim: slice(int(np.min(which[has])), int(np.max(which[has])) + 1)
            for (dim, which), has in zip(at.items(), inside, strict=True)
        }
        where = [
            _picked(which, has, sides[dim])
            for (dim, which), has in zip(at.items(), inside, strict=True)
        ]
        found = [_at_pixels(plane, where) for plane in self._planes(sides)]
        if all(each.all() for each in inside):
            return found, None
        mask = np.ones(shape, np.bool_)
        for axis, each in enumerate(inside):
            mask &= each.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return found, mask

    def _planes(self, sides: Mapping[str, slice]) -> Iterator[NDArray[Any]]:
        """Yield each channel of a box of the image, with the axes of the labels."""
        if self._channels is None or self._channel is None:
            yield self._turned(self._part(sides, slice(0, 1)))
        elif self._apart:
            for channel in self._channels:
                yield self._turned(self._part(sides, slice(channel, channel + 1)))
        else:
            first, last = min(self._channels), max(self._channels)
            part = self._part(sides, slice(first, last + 1))
            axis = self._order.index(self._channel)
            for channel in self._channels:
                key = slice(channel - first, channel - first + 1)
                yield self._turned(part[(*(slice(None),) * axis, key)])

    def _part(self, sides: Mapping[str, slice], channel: slice) -> NDArray[Any]:
        return self._pixels.read(
            tuple(channel if dim == self._channel else sides[dim] for dim in self._order)
        )

    def _turned(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return pixels of one channel with the axes of the labels, in their order."""
        order = [dim for dim in self._order if dim != self._channel]
        if self._channel is not None:
            part = part.squeeze(self._order.index(self._channel))
        for dim in self._dims:
            if dim not in order:
                order.append(dim)
                part = part[..., None]
        return part.transpose([order.index(dim) for dim in self._dims])


def _without_others(array: xr.DataArray, labels: xr.DataArray, channel: str | None) -> xr.DataArray:
    """Return an image with no axes but those of the labels, and that of channels."""
    at = {}
    for dim in map(str, array.dims):
        if dim in labels.dims or dim == channel:
            continue
        if dim in labels.coords and array.sizes[dim] > 1:
            at[dim] = int(pixels_at(array[dim], labels[dim])[0])
        elif array.sizes[dim] == 1:
            at[dim] = 0
        if at.get(dim, -1) < 0:
            raise SelectionError(
                f"the labels have no axis {dim}, along which the image has {array.sizes[dim]} "
                f"pixels: select one of them, as with .ngff.sel({dim}=…)"
            )
    for dim in map(str, labels.dims):
        size = labels.sizes[dim]
        if dim not in array.dims and size > 1:
            raise SelectionError(
                f"the labels have {size} pixels along {dim}, an axis that the image "
                f"does not have: select one of them, as with .isel({dim}=0)"
            )
    return taken(array, at)


def _picked(
    which: NDArray[np.intp], inside: NDArray[np.bool_], side: slice
) -> slice | NDArray[np.intp]:
    """Return which pixels of a part to take along an axis, all those outside the first."""
    is_whole = side.stop - side.start == which.size and which[0] == side.start
    if is_whole and inside.all() and (np.diff(which) == 1).all():
        return slice(None)
    return np.where(inside, which - side.start, 0)


def _at_pixels(plane: NDArray[Any], where: Sequence[slice | NDArray[np.intp]]) -> NDArray[Any]:
    for axis, picked in enumerate(where):
        if not isinstance(picked, slice):
            plane = np.take(plane, picked, axis)
    return plane
