"""Label images over a picture: which ones, and which label lies at each of its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, selection, units
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import RGBA

Names = str | bool | Sequence[str] | None
Labels = Names | xr.DataArray | xr.DataTree


def label_images(obj: Obj, labels: Labels) -> list[Obj]:
    """Return the label images that are meant: by name, all (True), or given as they are.

    Raises
    ------
    SelectionError
        If there is none of that name.
    """
    if isinstance(labels, xr.DataArray | xr.DataTree):
        return [labels]
    known = image.label_images(obj) if labels else {}
    return [known[name] for name in label_names(obj, labels)]


def label_names(obj: Obj, labels: Names) -> list[str]:
    """Return the names of the label images of an image that are meant: all of them (True).

    Raises
    ------
    SelectionError
        If there is none of that name.
    """
    if labels is None or labels is False:
        return []
    known = list(image.label_images(obj))
    names = known if labels is True else [labels] if isinstance(labels, str) else labels
    if not isinstance(names, list | tuple):
        raise SelectionError(f"labels: expected names or a label image, found {labels!r}")
    unknown = [name for name in names if name not in known]
    if unknown:
        have = f"the label images are {', '.join(known)}" if known else "there are no label images"
        raise SelectionError(f"there is no label image {unknown[0]!r}; {have}")
    return list(names)


@dataclass(frozen=True, slots=True)
class LabelPlane:
    """The labels at every pixel of a picture, and the stored colours of some."""

    pixels: NDArray[Any]
    colors: Mapping[int, RGBA]


@dataclass(frozen=True, slots=True)
class LabelCut:
    """What a picture reads of a label image, and of all others like it; no pixel was read.

    Parameters
    ----------
    level
        The number of the level.
    where
        What is taken along the axes that are not drawn, by index.
    box
        What is read along those drawn, downwards and to the right.
    inside
        Which pixels of that the picture shows, by its rows and columns.
    reached
        Which rows and columns of the picture the labels reach.
    shape
        That of the picture.
    projected
        Whether the largest label along an axis counts that is left, or the first.
    """

    level: int
    where: Mapping[str, Any]
    box: Mapping[str, Any]
    inside: tuple[Any, Any]
    reached: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    shape: tuple[int, int]
    projected: bool

    def part(self, variable: xr.Variable) -> xr.Variable:
        """Return what is read of the level, lazily."""
        return variable.isel(self.where).isel(self.box)

    def plane(self, part: xr.Variable) -> NDArray[Any]:
        """Return the labels at every pixel, read here and now unless they are in memory."""
        pixels = np.zeros(self.shape, part.dtype)
        if not part.size:
            return pixels
        rest = [dim for dim in part.dims if dim not in self.box]
        box = part.load()
        box = box.max(rest) if self.projected else box.isel(dict.fromkeys(rest, 0))
        values = box.transpose(*self.box).values
        pixels[np.ix_(*self.reached)] = values[np.ix_(*self.inside)]
        return pixels


def cut_of(
    obj: Obj,
    y: xr.DataArray,
    x: xr.DataArray,
    at: Mapping[str, float | str],
    like: xr.DataArray,
    *,
    projected: bool,
) -> LabelCut:
    """Return what of a label image lies at every pixel of a picture.

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
    """
    arrays = image.levels(obj)
    down, right = _drawn_dims(arrays[0], y, x, like)
    number = _level_for(arrays, right, x)
    where = selection.positions_of_labels(
        arrays, {dim: place for dim, place in at.items() if dim not in (down, right)}, like
    )
    array = arrays[number].isel(where[number])
    rows, columns = _indices(array[down], y), _indices(array[right], x)
    reached = rows >= 0, columns >= 0
    box, inside = _box({down: rows[reached[0]], right: columns[reached[1]]})
    shape = rows.size, columns.size
    return LabelCut(number, where[number], box, inside, reached, shape, projected)


def label_plane(
    obj: Obj,
    y: xr.DataArray,
    x: xr.DataArray,
    at: Mapping[str, float | str],
    like: xr.DataArray,
    *,
    projected: bool,
) -> LabelPlane:
    """Return the labels at every pixel of a picture, (y, x); 0 where the label image ends.

    Parameters
    ----------
    obj, y, x, at, like, projected
        As of `cut_of`.
    """
    cut = cut_of(obj, y, x, at, like, projected=projected)
    pixels = cut.plane(cut.part(image.levels(obj)[cut.level].variable))
    return LabelPlane(pixels, image.label_colors(obj))


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


def _box(
    indices: Mapping[str, NDArray[np.intp]],
) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """Return what to read for some rows and columns, and which of that they are.

    They are read as a whole where that is not much more.
    """
    counts = [i.size for i in indices.values()]
    if not all(counts):
        none = np.empty(0, np.intp)
        return dict.fromkeys(indices, slice(0, 0)), (none, none)
    spans = {dim: slice(int(np.min(i)), int(np.max(i)) + 1) for dim, i in indices.items()}
    spanned = math.prod(span.stop - span.start for span in spans.values())
    if spanned > 4 * math.prod(counts):
        down, right = (np.arange(count) for count in counts)
        return dict(indices), (down, right)
    down, right = (i - spans[dim].start for dim, i in indices.items())
    return spans, (down, right)


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
