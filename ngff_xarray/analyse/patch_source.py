"""What patches are read of, and how one is read: also what of it is beyond the ends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, pyramid
from ngff_xarray.analyse import places
from ngff_xarray.analyse.patch_labels import PatchLabels
from ngff_xarray.analyse.places import BY, Pad
from ngff_xarray.boxes import Box
from ngff_xarray.pyramid.sources import Read

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Place:
    """What is read for a patch.

    Parameters
    ----------
    box
        Pixels of the image.
    pads
        How many zeros it gets around them.
    picked
        Which of them it has along axes, where they are reflected.
    """

    box: Box
    pads: Pads
    picked: Mapping[str, NDArray[np.int64]]


def _reflected(side: slice, n: int) -> NDArray[np.int64]:
    """Return which of n pixels are at places that may be beyond them.

    Examples
    --------
    >>> _reflected(slice(-2, 5), 3)
    array([1, 0, 0, 1, 2, 2, 1])
    """
    at = np.arange(side.start, side.stop) % (2 * n)
    found: NDArray[np.int64] = np.minimum(at, 2 * n - 1 - at)
    return found


@dataclass(frozen=True)
class PatchSource:
    """What patches are read of. Other processes get it pickled.

    Parameters
    ----------
    pixels
        Of the level.
    coords, attrs, name
        What it says.
    sizes
        How many pixels a patch has along the axes that it keeps.
    pad
        What it has beyond the ends of the image.
    labels
        One label image, several by name, or none.
    memory
        How many bytes of chunks are kept.
    """

    pixels: xr.Variable
    coords: xr.Dataset
    attrs: Mapping[Any, Any]
    name: Any
    sizes: Mapping[str, int]
    pad: Pad
    labels: Mapping[str, PatchLabels] | PatchLabels | None
    memory: int
    here: dict[int, Any] = field(default_factory=dict, repr=False)
    """What a process has opened: one that was forked has to open it again."""

    @classmethod
    def of(
        cls,
        array: xr.DataArray,
        sizes: Mapping[str, int],
        pad: Pad,
        labels: Mapping[str, PatchLabels] | PatchLabels | None,
        memory: int,
    ) -> PatchSource:
        """Return what is read of a level."""
        variable = array.variable
        pixels = variable if variable.chunks is not None else pyramid.bare(variable)
        coords = array.coords.to_dataset()
        return cls(pixels, coords, array.attrs, array.name, sizes, pad, labels, memory)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "here": {}}

    @property
    def array(self) -> xr.DataArray:
        """The level."""
        found = xr.DataArray(self.pixels, self.coords.coords, attrs=self.attrs, name=self.name)
        found.encoding = dict(self.pixels.encoding)
        return found

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """The axes that patches have a place along."""
        return tuple(places.axes_of(self.array))

    @cached_property
    def channel_dim(self) -> str | None:
        """The axis of channels."""
        return image.channel_dim(self.array)

    @property
    def patch_dims(self) -> tuple[str, ...]:
        """The axes of a patch."""
        return tuple(
            str(d) for d in self.pixels.dims if d == self.channel_dim or str(d) in self.sizes
        )

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Its pixels along them."""
        return tuple(self.sizes.get(dim, self.pixels.sizes[dim]) for dim in self.patch_dims)

    def box(self, start: Sequence[int]) -> Box:
        """Return the pixels of a patch, also those beyond the ends of the image."""
        return tuple(
            slice(int(a), int(a) + self.sizes.get(dim, 1))
            for dim, a in zip(self.dims, start, strict=True)
        )

    def inside(self, start: Sequence[int]) -> tuple[Box, Pads]:
        """Return the pixels of a patch that the image has, and how many it lacks at each side."""
        box, pads = [], []
        for dim, side in zip(self.dims, self.box(start), strict=True):
            n = self.pixels.sizes[dim]
            first, last = max(0, side.start), min(n, side.stop)
            box.append(slice(first, last))
            pads.append((first - side.start, side.stop - last))
        return tuple(box), tuple(pads)

    def read(self, start: Sequence[int]) -> tuple[NDArray[Any], Any]:
        """Return the pixels of a patch, and those of its labels: an array, arrays by name, or None.

        They are the caller's own.
        """
        place = self._place(start)
        read, of_labels = self._readers()
        own = dict(zip(self.dims, place.box, strict=True))
        whole = slice(0, self.pixels.sizes.get(self.channel_dim, 1))
        dims = tuple(map(str, self.pixels.dims))
        pixels = self._finished(read(tuple(own.get(dim, whole) for dim in dims)), place, dims)

        def below(labels: PatchLabels, reader: Read) -> NDArray[Any]:
            return self._finished(labels.values(reader, place.box), place, self.dims)

        labels: Any = None
        if isinstance(self.labels, PatchLabels):
            labels = below(self.labels, of_labels[0])
        elif self.labels is not None:
            labels = dict(
                zip(self.labels, map(below, self.labels.values(), of_labels), strict=True)
            )
        return pixels, labels

    def _place(self, start: Sequence[int]) -> _Place:
        """Return what to read for a patch."""
        box, pads = self.inside(start)
        if self.pad != "reflect" or not any(map(any, pads)):
            return _Place(box, pads, {})
        picked = {
            dim: _reflected(side, self.pixels.sizes[dim])
            for dim, side in zip(self.dims, self.box(start), strict=True)
        }
        box = tuple(slice(int(np.min(at)), int(np.max(at)) + 1) for at in picked.values())
        first = (side.start for side in box)
        return _Place(
            box, (), {d: at - a for (d, at), a in zip(picked.items(), first, strict=True)}
        )

    def _finished(self, pixels: NDArray[Any], place: _Place, dims: Sequence[str]) -> NDArray[Any]:
        """Return pixels with those beyond the ends, without the axes that patches lack; a copy."""
        around = dict(zip(self.dims, place.pads, strict=False))
        if any(map(any, place.pads)):
            pixels = np.pad(pixels, [around.get(dim, (0, 0)) for dim in dims])
        for axis, dim in enumerate(dims):
            if dim in place.picked:
                pixels = np.take(pixels, place.picked[dim], axis)
        keep = tuple(
            slice(None) if dim in self.sizes or dim == self.channel_dim else 0 for dim in dims
        )
        return np.array(pixels[keep], pixels.dtype.newbyteorder("="), order="C")

    def _readers(self) -> tuple[Read, list[Read]]:
        found = self.here.get(os.getpid())
        if found is None:
            labels = self.labels
            every = [labels] if isinstance(labels, PatchLabels) else list((labels or {}).values())
            keep, threads = self.memory // (1 + len(every)), 1
            found = (
                pyramid.reader(self.pixels, threads, keep=keep, by=BY),
                [pyramid.reader(each.source, threads, keep=keep, by=BY) for each in every],
            )
            found = self.here.setdefault(os.getpid(), found)
        return found  # type: ignore[no-any-return]  # `here` holds anything

    def region(self, start: Sequence[int]) -> dict[str, Any]:
        """Return where a patch is: a slice along each axis, a position along those it lacks."""
        here = self.placed(start)
        found: dict[str, Any] = {}
        for dim in self.dims:
            coordinate = here.coords[dim]
            if dim in self.sizes:
                ends = np.sort(geometry.edges(coordinate))[[0, -1]]
                found[dim] = slice(float(ends[0]), float(ends[1]))
            else:
                found[dim] = float(coordinate)
        return found

    def placed(self, start: Sequence[int]) -> xr.Dataset:
        """Return the coordinates of a patch."""
        box, pads = self.inside(start)
        own = {
            dim: side if dim in self.sizes else side.start
            for dim, side in zip(self.dims, box, strict=True)
        }
        here = self.coords.isel(own, missing_dims="ignore")
        beyond = {dim for dim, pad in zip(self.dims, pads, strict=True) if any(pad)}
        if not beyond:
            return here
        found = {name: c.variable for name, c in here.coords.items() if not beyond & set(c.dims)}
        for dim, side in zip(self.dims, self.box(start), strict=True):
            if dim in beyond:
                found[dim] = _going_on(self.coords.coords[dim], side)
        return xr.Dataset(coords=found)


def _going_on(coordinate: xr.DataArray, side: slice) -> xr.Variable:
    """Return a coordinate at pixels that may be beyond its ends, with the same step."""
    values, last = coordinate.values, coordinate.size - 1
    step = (values[-1] - values[0]) / last if last else geometry.pixel_size(coordinate) or 1.0
    at = np.arange(side.start, side.stop)
    nearest = np.clip(at, 0, last)
    return xr.Variable(coordinate.dims, values[nearest] + step * (at - nearest), coordinate.attrs)
