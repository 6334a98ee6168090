"""Label images over a picture: which ones, and which label lies at each of its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, selection, units
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj

Labels = str | bool | Sequence[str] | xr.DataArray | xr.DataTree | None


def label_images(obj: Obj, labels: Labels) -> list[Obj]:
    """Return the label images that are meant: by name, all (True), or given as they are.

    Raises
    ------
    SelectionError
        If there is none of that name.
    """
    if labels is None or labels is False:
        return []
    if isinstance(labels, xr.DataArray | xr.DataTree):
        return [labels]
    known = image.label_images(obj)
    names = list(known) if labels is True else [labels] if isinstance(labels, str) else labels
    if not isinstance(names, list | tuple):
        raise SelectionError(f"labels: expected names or a label image, found {labels!r}")
    unknown = [name for name in names if name not in known]
    if unknown:
        have = f"the label images are {', '.join(known)}" if known else "there are no label images"
        raise SelectionError(f"there is no label image {unknown[0]!r}; {have}")
    return [known[name] for name in names]


def label_plane(
    obj: Obj,
    y: xr.DataArray,
    x: xr.DataArray,
    at: Mapping[str, float | str],
    like: xr.DataArray,
    *,
    projected: bool,
) -> NDArray[Any]:
    """Return the labels at every pixel of a picture; 0 where the label image does not reach.

    Parameters
    ----------
    obj
        A label image.
    y, x
        The coordinates of the picture's pixels.
    at
        Where the picture lies on the other axes, in the units of ``like``.
    like
        The image that the picture shows.
    projected
        Whether the largest label along an axis counts that ``at`` leaves open, or the first.

    Returns
    -------
    ndarray
        Of shape (y, x) and the labels' dtype.
    """
    arrays = image.levels(obj)
    down, right = _drawn_dims(arrays[0], y, x, like)
    number = _level_for(arrays, right, x)
    where = selection.positions_of_labels(
        arrays, {dim: place for dim, place in at.items() if dim not in (down, right)}, like
    )
    array = arrays[number].isel(where[number])
    rows, columns = _indices(array[down], y), _indices(array[right], x)
    pixels = np.zeros((rows.size, columns.size), array.dtype)
    inside = np.ix_(rows >= 0, columns >= 0)
    if pixels[inside].size:
        box = _box(array, {down: rows[rows >= 0], right: columns[columns >= 0]})
        rest = [dim for dim in box.dims if dim not in (down, right)]
        box = box.max(rest) if projected else box.isel(dict.fromkeys(rest, 0))
        pixels[inside] = box.transpose(down, right).values
    return pixels


def _drawn_dims(
    labels: xr.DataArray, y: xr.DataArray, x: xr.DataArray, like: xr.DataArray
) -> tuple[str, str]:
    """Return the axes of labels that are drawn, which may have other names than the image's."""
    drawn = (str(y.name), str(x.name))
    if drawn == image.plane_dims(like):
        return image.plane_dims(labels)
    missing = [dim for dim in drawn if dim not in labels.dims]
    if missing:
        raise SelectionError(
            f"the labels have no axis {missing[0]!r} to draw; theirs are "
            f"{', '.join(map(str, labels.dims))}"
        )
    return drawn


def _box(array: xr.DataArray, indices: Mapping[str, NDArray[np.intp]]) -> xr.DataArray:
    """Return the pixels at some indices; read as a whole where that is not much more."""
    spans = {dim: slice(int(np.min(i)), int(np.max(i)) + 1) for dim, i in indices.items()}
    spanned = math.prod(span.stop - span.start for span in spans.values())
    if spanned > 4 * math.prod(i.size for i in indices.values()):
        return array.isel(indices).compute()
    box = array.isel(spans).compute()
    return box.isel({dim: i - spans[dim].start for dim, i in indices.items()})


def _level_for(arrays: Sequence[xr.DataArray], dim: str, x: xr.DataArray) -> int:
    """Return the coarsest level of labels that is as fine as the picture."""
    wanted = geometry.pixel_size(x)
    best = 0
    for i, array in enumerate(arrays):
        size = geometry.pixel_size(array[dim])
        if wanted is not None and size is not None:
            factor = units.factor(geometry.unit(array[dim]), geometry.unit(x))
            best = i if size * factor <= wanted * 1.001 else best
    return best


def _indices(coordinate: xr.DataArray, positions: xr.DataArray) -> NDArray[np.intp]:
    """Return which pixel holds each position, -1 outside."""
    bounds = geometry.edges(coordinate)
    factor = units.factor(geometry.unit(positions), geometry.unit(coordinate))
    descending = bounds[0] > bounds[-1]
    rising = bounds[::-1] if descending else bounds
    found = np.searchsorted(rising, geometry.numbers(positions) * factor, side="right") - 1
    count = rising.size - 1
    found[(found < 0) | (found >= count)] = -1
    return np.where(found >= 0, count - 1 - found, -1) if descending else found
