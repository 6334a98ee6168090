"""Where pixels belong in an image: by their coordinates, or as told; and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import geometry, units
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable

_NEAR = 1e-3  # of a pixel: how far coordinates may lie from those of the store


def by_region(finest: xr.DataArray, region: Mapping[str, slice]) -> Box:
    """Return the box that slices of the finest level mean; axes that they leave out are whole."""
    unknown = [str(name) for name in region if name not in finest.dims]
    if unknown:
        raise SelectionError(
            f"region: there is no axis {printable(unknown[0], 40)!r}; the axes are "
            f"{', '.join(map(str, finest.dims))}"
        )
    box = []
    for dim, size in finest.sizes.items():
        side = region.get(str(dim), slice(0, size))
        ends = (side.start, side.stop) if isinstance(side, slice) else (None, "")
        start = 0 if ends[0] is None else ends[0]
        stop = size if ends[1] is None else ends[1]
        are_numbers = all(isinstance(n, int | np.integer) for n in (start, stop))
        if not are_numbers or side.step not in (None, 1) or not 0 <= start <= stop <= size:
            raise SelectionError(
                f"region: {dim}: expected a slice of pixels within 0 and {size}, found {side!r}"
            )
        box.append(slice(int(start), int(stop)))
    return tuple(box)


def by_coordinates(pixels: xr.DataArray, finest: xr.DataArray) -> Box:
    """Return the box that pixels belong to, by their coordinates."""
    return tuple(side(pixels, finest, str(dim)) for dim in finest.dims)


def side(pixels: xr.DataArray, finest: xr.DataArray, dim: str) -> slice:
    """Return where pixels belong along an axis, by their coordinates."""
    size, theirs = finest.sizes[dim], finest.coords[dim]
    if dim not in pixels.coords:
        if pixels.sizes.get(dim, 1) != size:
            raise SelectionError(
                f"{dim}: the pixels have no coordinates, and are {pixels.sizes.get(dim, 1)} of "
                f"{size}: give coordinates, or say region={{{dim!r}: slice(…)}}"
            )
        return slice(0, size)
    own = pixels.coords[dim]
    if not own.size:
        return slice(0, 0)
    if geometry.is_numeric(theirs) and geometry.is_numeric(own):
        places = _places(own, theirs, dim)
    else:
        known = {name: i for i, name in enumerate(theirs.values.tolist())}
        names = np.atleast_1d(own.values).tolist()
        missing = [name for name in names if name not in known]
        if missing:
            raise SelectionError(
                f"{dim}: there is no {printable(missing[0], 40)!r} in the image; there are "
                f"{printable(', '.join(map(str, known)), 200)}"
            )
        places = np.array([known[name] for name in names])
    if (np.diff(places) != 1).any():
        raise SelectionError(
            f"{dim}: the pixels are not one beside the other in the image: write parts of them"
        )
    if places[0] < 0 or places[-1] >= size:
        raise SelectionError(
            f"{dim}: the pixels belong to {places[0]} to {places[-1]}, outside of the image, which "
            f"has {size}: leave these out, or make it longer with .ngff.append(…)"
        )
    return slice(int(places[0]), int(places[-1]) + 1)


def check_continues(pixels: xr.DataArray, finest: xr.DataArray, dim: str, start: int) -> None:
    """Check that coordinates go on from those of the image, where there are some."""
    if dim not in pixels.coords:
        return
    own, theirs = pixels.coords[dim], finest.coords[dim]
    if not own.size or not theirs.size:
        return
    if not (geometry.is_numeric(own) and geometry.is_numeric(theirs)):
        raise SelectionError(f"{dim}: the pixels have coordinates of {own.dtype}: drop them")
    places = _places(own, theirs, dim)
    if places[0] != start or (np.diff(places) != 1).any():
        last = f" to {places[-1]}" if places.size > 1 else ""
        raise SelectionError(
            f"{dim}: by their coordinate the pixels are number {places[0]}{last}, but the image "
            f"goes on with number {start}: drop the coordinate (drop_vars({dim!r})) to append them "
            "all the same, or put them where it says with write_region"
        )


def _places(own: xr.DataArray, theirs: xr.DataArray, dim: str) -> Any:
    """Return which pixels of the image coordinates are those of."""
    unit, wanted = geometry.unit(own), geometry.unit(theirs)
    factor = units.factor(unit, wanted) if unit is not None else 1.0
    centres = geometry.numbers(theirs)
    step = geometry.pixel_size(theirs) or 1.0
    if centres[0] > centres[-1]:
        step = -step
    exact = (np.atleast_1d(geometry.numbers(own)) * factor - centres[0]) / step
    places = np.rint(exact)
    if not np.abs(exact - places).max() < _NEAR:
        raise SelectionError(
            f"{dim}: the pixels lie between those of the image: resample them, or say "
            f"region={{{dim!r}: slice(…)}}"
        )
    return places.astype(np.int64)


def fitting(pixels: xr.DataArray, finest: xr.DataArray, box: Box) -> xr.DataArray:
    """Return pixels with the axes of the image, in its order, of the shape of a box."""
    unknown = [str(dim) for dim in pixels.dims if dim not in finest.dims]
    if unknown:
        raise SelectionError(
            f"the pixels have the axis {printable(unknown[0], 40)!r}; those of the image are "
            f"{', '.join(map(str, finest.dims))}"
        )
    shape = dict(zip(finest.dims, (side.stop - side.start for side in box), strict=True))
    missing = [dim for dim in finest.dims if dim not in pixels.dims]
    plain: Any = pixels.variable
    for dim in missing:
        plain = plain.expand_dims(dim)
    plain = plain.transpose(*finest.dims)
    if dict(plain.sizes) != shape:
        found, wanted = (" x ".join(map(str, each)) for each in (plain.shape, shape.values()))
        raise SelectionError(
            f"the pixels are {found}, the region is {wanted}: give pixels of this shape, or "
            "another region"
        )
    both = {pixels.dtype.kind, finest.dtype.kind}
    safe = np.can_cast(pixels.dtype, finest.dtype) or both <= {"i", "u"} or both == {"f"}
    if not safe:
        raise SelectionError(
            f"the pixels are {pixels.dtype}, those of the image {finest.dtype}: convert "
            f"them, as with .round().astype({finest.dtype.name!r})"
        )
    if isinstance(plain._data, np.ndarray):
        exact(plain._data, finest.dtype)
    return xr.DataArray(plain)


def exact(values: Any, dtype: np.dtype[Any]) -> Any:
    """Return integers as another type that holds them all."""
    if values.dtype.kind in "iu" and dtype.kind in "iu" and values.size:
        info = np.iinfo(dtype)
        if values.min() < info.min or values.max() > info.max:
            raise SelectionError(
                f"the pixels reach from {values.min()} to {values.max()}, which {dtype}, the type "
                "of the image, does not hold: clip or scale them first"
            )
    return values.astype(dtype, copy=False)
