"""Objects read in their boxes: those that are near each other together, large ones alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray.analyse.accumulating import Sums, run_starts
from ngff_xarray.analyse.sweeping import BLOCK, Pixels, block_sizes
from ngff_xarray.boxes import Box, count, cut, within

MANY = 2**15  # objects that are read together at the most: their labels and places go to workers
PIXEL = 12  # bytes, of labels and of what they are numbered as


def shape_cells(labels: xr.DataArray, sums: Sums) -> tuple[int, ...]:
    """Return in cells of which size objects begin that are measured together.

    Cells are blocks of the label image, and hold whole objects: they end within a box of twice that
    size along every axis, which is not to be more than a block. Of objects that are larger nothing
    is said.
    """
    most = BLOCK >> labels.ndim
    cells = np.array(block_sizes(labels, PIXEL, most))
    if not sums.labels.size:
        return tuple(cells.tolist())
    extents = sums.highs - sums.lows + 1
    is_small = np.prod(extents.astype(np.float64), axis=0) <= most // PIXEL
    least = extents[:, is_small].max(axis=1, initial=1)
    cells = np.maximum(cells, least)
    while np.prod(cells.astype(np.float64)) > max(most // PIXEL, 1):
        spare = cells / least
        axis = int(np.argmax(spare if (spare > 1).any() else cells))
        cells[axis] = -(-cells[axis] // 2)
    return tuple(cells.tolist())


def grouped(sums: Sums, cells: Sequence[int]) -> Iterator[NDArray[np.intp]]:
    """Yield the objects that are read together, by index, in rising order; large ones alone."""
    lows, highs = sums.lows, sums.highs
    sizes = np.array(cells)[:, None]
    is_large = (highs - lows >= sizes).any(axis=0)
    place = lows // sizes
    number = np.ravel_multi_index(tuple(place), tuple(place.max(axis=1) + 1))
    few = np.flatnonzero(~is_large)
    few = few[np.argsort(number[few], kind="stable")]
    edges = np.flatnonzero(np.diff(number[few])) + 1
    for group in np.split(few, edges) if few.size else ():
        yield from _bounded(sums, group)
    for each in np.flatnonzero(is_large):
        yield np.array([each])


def _bounded(sums: Sums, which: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield objects in groups whose box is not too large."""
    if which.size == 1 or (which.size <= MANY and count(_box(sums, which)) <= BLOCK // PIXEL):
        yield which
        return
    for half in np.array_split(which, 2):
        yield from _bounded(sums, half)


def _box(sums: Sums, which: NDArray[np.intp]) -> Box:
    """Return the box that some objects lie in."""
    low = sums.lows[:, which].min(axis=1).tolist()
    high = sums.highs[:, which].max(axis=1).tolist()
    return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))


class Group(NamedTuple):
    """Objects that are read together.

    Parameters
    ----------
    box
        What they lie in.
    labels
        Those of the objects, in rising order.
    lows
        Where the box of each begins in that, (axis, n).
    """

    box: Box
    labels: NDArray[Any]
    lows: NDArray[np.int32]

    @classmethod
    def of(cls, sums: Sums, which: NDArray[np.intp]) -> Group:
        """Return some objects, by index."""
        box = _box(sums, which)
        start = np.array([side.start for side in box])[:, None]
        return cls(box, sums.labels[which], (sums.lows[:, which] - start).astype(np.int32))


@dataclass(frozen=True)
class Boxes:
    """Reads objects in their boxes. Workers get it pickled.

    Parameters
    ----------
    pixels
        Those of the whole label image.
    at
        Where the objects' frame lies along the axes before.
    cells
        In parts of which size boxes are read.
    """

    pixels: Pixels
    at: Box
    cells: tuple[int, ...]

    def load(self, group: Group) -> NDArray[Any]:
        """Return the box of a group, in which its objects are 1, 2, …."""
        shape = [side.stop - side.start for side in group.box]
        found = np.empty(shape, np.uint8 if group.labels.size == 1 else np.int32)
        for place, numbered in self.parts(group):
            found[place] = numbered
        return found

    def parts(self, group: Group) -> Iterator[tuple[Box, NDArray[np.int32]]]:
        """Yield it in parts, each with its place in the box."""
        for part in cut(group.box, self.cells):
            pixels = self.pixels.read((*self.at, *part))
            pixels = pixels.reshape([p.stop - p.start for p in part])
            yield within(part, group.box), _numbered(pixels, group.labels)


def _numbered(pixels: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int32]:
    """Return 1, 2, … where pixels are of labels, which are in rising order, and 0 elsewhere."""
    starts = run_starts(pixels)
    own = pixels.reshape(-1)[starts]
    place = np.minimum(np.searchsorted(labels, own), labels.size - 1)
    number = np.where(labels[place] == own, place + 1, 0).astype(np.int32)
    return np.repeat(number, np.diff(starts, append=pixels.size)).reshape(pixels.shape)
