"""Labels as a user has them -> labels with the axes of an image, where their coordinates say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import geometry, image, units
from ngff_xarray.errors import SelectionError, UnitError, UnsupportedError
from ngff_xarray.text import printable

_NEAR = 1e-3  # of a pixel: labels that are no further from the image's pixels lie on them


def placed(labels: Any, given: xr.DataArray, stored: xr.DataArray) -> xr.DataArray:
    """Return labels with the axes of an image but its channels, in their order and units.

    Parameters
    ----------
    labels
        An array of integers or booleans, or a label image, of which the finest level is taken.
        Of an array of numpy or dask the axes are those of ``given``, with or without channels; axes
        that are not of space may be missing if there is one pixel along them. A DataArray is placed
        by its coordinates.
    given
        The image that the user has: its coordinates are taken where the labels have none.
    stored
        The image that they are for.

    Raises
    ------
    SelectionError
        If the labels do not lie within the image, or have other axes.
    UnsupportedError
        If they are no integers, or not evenly spaced.
    UnitError
        If their unit is none of the specification's, or cannot be converted.

    Examples
    --------
    >>> y, x = [10.0, 10.5, 11.0], [0.0, 0.5, 1.0, 1.5]
    >>> image = xr.DataArray(np.zeros((2, 3, 4)), dims=("c", "y", "x"), coords={"y": y, "x": x})
    >>> found = placed(image.isel(c=0)[1:, ::2] > 0, image, image)
    >>> found.dtype, found.y.values, found.x.values
    (dtype('uint8'), array([10.5, 11. ]), array([0., 1.]))
    """
    array = _named(labels, given)
    channel = image.channel_dim(stored)
    if channel in array.dims:
        if array.sizes[channel] != 1:
            raise SelectionError(
                f"the labels have {array.sizes[channel]} channels along {channel}, a label image "
                "has none: add one label image for each"
            )
        array = array.isel({channel: 0}, drop=True)
    dims = [str(dim) for dim in stored.dims if dim != channel]
    array = _integers(_with_axes(array, dims, stored))
    if not array.size:
        raise SelectionError(f"the labels have the shape {array.shape}: there are no pixels")
    coords = {}
    for dim in dims:
        coordinate, is_backwards = _coordinate(array, dim, given, stored)
        if is_backwards:
            array = array.isel({dim: slice(None, None, -1)})
        coords[dim] = coordinate
    variable = array.variable.copy(deep=False)
    variable.attrs = {}
    if any(len(sizes) != array.ndim for sizes in _stated_sizes(variable)):
        variable.encoding = {}
    return xr.DataArray(variable, coords=coords, name="labels")


def _named(labels: Any, given: xr.DataArray) -> xr.DataArray:
    """Return the labels as an array with names of axes; of the image where it has none."""
    if isinstance(labels, xr.DataArray | xr.Dataset | xr.DataTree):
        return image.levels(labels)[0]
    data = labels if hasattr(labels, "__dask_graph__") else np.asarray(labels)
    shapes = [tuple(sizes.values()) for sizes in _shapes(given)]
    for sizes in _shapes(given):
        if tuple(sizes.values()) == data.shape:
            channel = image.channel_dim(given)
            named = [dim for dim in sizes if dim in given.coords and dim != channel]
            coords = {dim: given.coords[dim] for dim in named}
            return xr.DataArray(data, dims=list(sizes), coords=coords)
    expected = " or ".join(map(str, dict.fromkeys(shapes)))
    raise SelectionError(
        f"the labels have the shape {data.shape}, expected {expected}: give a DataArray, whose "
        "coordinates place it, for another part or pixel size"
    )


def _shapes(given: xr.DataArray) -> Iterator[dict[str, int]]:
    """Yield the lengths of the axes that an array without names may have."""
    channel = image.channel_dim(given)
    whole = {str(dim): 1 if dim == channel else size for dim, size in given.sizes.items()}
    kinds = {axis.name: axis.type for axis in image.axes(given)}
    if channel is not None:
        yield whole
    yield {dim: size for dim, size in whole.items() if dim != channel}
    yield {dim: size for dim, size in whole.items() if kinds[dim] == "space" or size > 1}


def _with_axes(array: xr.DataArray, dims: list[str], stored: xr.DataArray) -> xr.DataArray:
    """Return the array with all axes of the image, in its order."""
    unknown = [str(dim) for dim in array.dims if dim not in dims]
    if unknown:
        raise SelectionError(
            f"the labels have the axis {printable(unknown[0], 40)!r}, expected {', '.join(dims)}"
        )
    missing = [dim for dim in dims if dim not in array.dims]
    for dim in missing:
        if dim not in array.coords and stored.sizes[dim] > 1:
            raise SelectionError(
                f"the labels have no axis {dim}, along which the image has {stored.sizes[dim]} "
                f"pixels: give them the coordinate {dim} of the pixel that they are of, or the axis"
            )
    if missing:
        array = _by_dask(array)
    for dim in missing:
        if dim not in array.coords:
            array = array.assign_coords({dim: stored.coords[dim][0]})
        array = array.expand_dims(dim)
    if array.dims != tuple(dims):
        array = array.transpose(*dims)
        array.encoding = {}
    return array


def _by_dask(array: xr.DataArray) -> xr.DataArray:
    """Return an array that is not in memory so that no verb of xarray brings it there."""
    is_lazy = array.chunks is None and not isinstance(array.variable._data, np.ndarray)
    return array.chunk({}) if is_lazy else array


def _integers(array: xr.DataArray) -> xr.DataArray:
    if array.dtype.kind == "b":
        return _by_dask(array).astype("uint8")
    if array.dtype.kind not in "iu":
        raise UnsupportedError(
            f"the labels have the dtype {array.dtype}, expected integers: convert them, as with "
            ".astype('uint32')"
        )
    return array


def _stated_sizes(variable: xr.Variable) -> Iterator[tuple[int, ...]]:
    for key in ("chunks", "shards"):
        sizes = variable.encoding.get(key)
        if isinstance(sizes, tuple):
            yield sizes


def _coordinate(
    array: xr.DataArray, dim: str, given: xr.DataArray, stored: xr.DataArray
) -> tuple[xr.Variable, bool]:
    """Return where the labels lie along an axis of the image, and whether backwards."""
    theirs = stored.coords[dim]
    own = array.coords[dim]  # numbers, where it has none
    if dim not in array.coords:
        if dim not in given.coords or array.sizes[dim] != given.sizes[dim]:
            raise SelectionError(
                f"{dim}: the labels have {array.sizes[dim]} pixels and no coordinates, the image "
                f"has {given.sizes.get(dim, 0)} pixels: give them coordinates"
            )
        own = given.coords[dim]
    if not geometry.is_numeric(own):
        raise SelectionError(f"{dim}: the labels have coordinates of {own.dtype}, expected numbers")
    factor = _factor(own, theirs)
    centres = geometry.numbers(own) * factor
    step = geometry.pixel_size(own)
    if step is None and centres.size > 1:
        raise UnsupportedError(
            f"{dim}: the labels are not evenly spaced, which OME-Zarr cannot say: resample them"
        )
    size = geometry.pixel_size(theirs) or 1.0
    step = size if step is None else float(f"{step * factor:.15g}")
    _check_within(dim, centres, step, theirs)
    pixels = geometry.numbers(theirs)
    is_backwards = centres[0] > centres[-1] if pixels[0] <= pixels[-1] else centres[0] < centres[-1]
    if is_backwards:
        centres = centres[::-1]
    if centres.size == pixels.size and np.allclose(centres, pixels, rtol=0, atol=_NEAR * size):
        return theirs.variable, bool(is_backwards)
    return xr.Variable(dim, centres, {**theirs.attrs, "pixel_size": step}), bool(is_backwards)


def _factor(own: xr.DataArray, theirs: xr.DataArray) -> float:
    """Return what to multiply coordinates by to have them in the unit of the image."""
    unit, wanted = geometry.unit(own), geometry.unit(theirs)
    text = own.attrs.get("units")
    if unit is None and text:
        unit = units.unit_name(str(text))
        if unit is None and text != theirs.attrs.get("units"):
            raise UnitError(
                f"{own.name}: the labels are in {printable(text, 40)!r}, which is no unit of the "
                "specification: give coordinates in one, such as 'micrometer'"
            )
    if unit is not None and wanted is None:
        raise UnitError(
            f"{own.name}: the labels are in {unit}, the image in the store has no unit: drop "
            "the attribute 'units' of the labels' coordinate, or write the image with its pixel "
            "size first: .ngff.with_pixel_size(…).ngff.to_zarr(path)"
        )
    return units.factor(unit, wanted)


def _check_within(dim: str, centres: Any, step: float, theirs: xr.DataArray) -> None:
    """Check that every pixel of the labels touches the image: the last one may reach beyond it."""
    low, high = float(np.min(centres)) - step / 2, float(np.max(centres)) + step / 2
    first, last = np.sort(geometry.edges(theirs))[[0, -1]]
    slack = _NEAR * step
    if not (low + step > first + slack and high - step < last - slack):
        unit = geometry.unit(theirs)
        raise SelectionError(
            f"{dim}: the labels reach from {low:.12g} to {high:.12g}, the image from {first:.12g} "
            f"to {last:.12g}{f' {unit}' if unit else ''}: labels must lie within their image"
        )


def scale_factors(levels: tuple[xr.DataArray, ...]) -> list[dict[str, int]] | None:
    """Return how many pixels of each level of an image become one of the next, without channels.

    None where that cannot be told: where a level is no smaller than the one before.
    """
    channel = image.channel_dim(levels[0])
    sizes = [image.pixel_sizes(level) for level in levels]
    found = [
        {
            dim: max(1, round(after[dim] / size))
            for dim, size in before.items()
            if dim in after and dim != channel
        }
        for before, after in pairwise(sizes)
    ]
    return found if all(max(step.values(), default=1) > 1 for step in found) else None
