"""Shapes of objects as scikit-image measures them, each in its own box and not in the image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray.analyse.accumulating import Sums, run_starts
from ngff_xarray.analyse.running import Crew
from ngff_xarray.analyse.sweeping import BLOCK, Pixels, block_sizes, swept, working
from ngff_xarray.boxes import Box, count, cut, within
from ngff_xarray.errors import MissingDependencyError, SelectionError, UnsupportedError
from ngff_xarray.progress import progress as progress_bar

_LENGTH, _SIZE = "length", "size"
_SHAPES = {  # name in scikit-image -> what it is, None for numbers without a unit
    "area_bbox": _SIZE,
    "area_convex": _SIZE,
    "area_filled": _SIZE,
    "axis_major_length": _LENGTH,
    "axis_minor_length": _LENGTH,
    "equivalent_diameter_area": _LENGTH,
    "euler_number": None,
    "extent": None,
    "feret_diameter_max": _LENGTH,
    "inertia_tensor": None,
    "inertia_tensor_eigvals": None,
    "moments_central": None,
    "moments_normalized": None,
    "solidity": None,
}
_PLANAR = {
    "eccentricity": None,
    "orientation": None,
    "perimeter": _LENGTH,
    "perimeter_crofton": _LENGTH,
}
_ISOTROPIC = ("perimeter", "perimeter_crofton")
_MANY = 2**16  # objects that are measured together at the most: their labels go to workers
_PIXEL = 12  # bytes, of labels and of what they are numbered as
# what is measured anyway, by its names in scikit-image and here
_ALWAYS = (
    *("label", "area", "volume", "pixels", "num_pixels", "centroid", "bbox"),
    *("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
)


@dataclass(frozen=True)
class Shapes:
    """Which shape measures are asked for.

    Parameters
    ----------
    names
        As scikit-image calls them.
    spacing
        The size of a pixel along every axis of space, in one unit.
    """

    names: tuple[str, ...]
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, names: str | Sequence[str], spacing: Sequence[float]) -> Shapes:
        """Return those of names, without what is measured anyway.

        Raises
        ------
        SelectionError
            If there is no such measure in so many dimensions.
        UnsupportedError
            If the pixels are of a form that it is not known for.
        MissingDependencyError
            If scikit-image is needed and not installed.
        """
        names = [names] if isinstance(names, str) else list(names)
        wanted = tuple(dict.fromkeys(name for name in names if name not in _ALWAYS))
        known = {**_SHAPES, **(_PLANAR if len(spacing) == 2 else {})}
        for name in wanted:
            if name not in known:
                raise SelectionError(
                    f"properties: there is no {name!r} in {len(spacing)} dimensions; beside what "
                    f"is measured anyway there are {', '.join(sorted(known))}"
                )
        last = spacing[-1]
        spacing = [last if math.isclose(each, last, rel_tol=1e-9) else each for each in spacing]
        for name in wanted:
            if name in _ISOTROPIC and len(set(spacing)) > 1:
                raise UnsupportedError(
                    f"properties: {name!r} is known for square pixels only, these are of "
                    f"{' x '.join(f'{each:g}' for each in spacing)}: resample the image, or leave "
                    "it out"
                )
        if wanted:
            _scikit_image()
        return cls(wanted, tuple(spacing))

    def units(self, unit: str | None, size_unit: str | None) -> dict[str, str]:
        """Return the unit of each that has one."""
        kinds, found = {**_SHAPES, **_PLANAR}, {_LENGTH: unit, _SIZE: size_unit, None: None}
        every = {name: found[kinds[name]] for name in self.names}
        return {name: unit for name, unit in every.items() if unit is not None}

    def measured(
        self, boxes: Boxes, sums: Sums, crew: Crew, progress: bool | None
    ) -> dict[str, NDArray[Any]]:
        """Return a column a measure, with an entry for every object.

        Parameters
        ----------
        boxes
            Reads objects.
        sums
            What is known of them.
        crew
            Who measures.
        progress
            Whether to show a bar.
        """
        if not self.names:
            return {}
        if not sums.labels.size:
            none = self.table(np.ones((1,) * len(self.spacing), np.uint8))
            return {name: column[:0] for name, column in none.items()}
        order: list[NDArray[np.intp]] = []

        def groups() -> Iterator[_Group]:
            for which in grouped(sums, boxes.cells):
                order.append(which)
                yield _Group(_box(sums, which), sums.labels[which])

        with (
            progress_bar("measuring shapes", "objects", progress, sums.labels.size) as bar,
            working(crew, _table_of, (self, boxes)) as (call, threads),
        ):

            def work(group: _Group) -> dict[str, NDArray[Any]]:
                found = call(group)
                bar.did(group.labels.size)
                return found

            tables = list(swept(groups(), work, threads, bar.show))
        places = np.argsort(np.concatenate(order))
        return {
            name: np.concatenate([table[name] for table in tables])[places] for name in tables[0]
        }

    def table(self, numbered: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return a column a measure, of the objects 1, 2, … in a box."""
        with warnings.catch_warnings():  # of objects that have no hull: it is NaN, infinite or 0
            warnings.simplefilter("ignore")
            table = _scikit_image().regionprops_table(
                numbered, properties=self.names, spacing=self.spacing
            )
        return {name: np.asarray(column) for name, column in table.items()}


def _scikit_image() -> Any:
    try:
        import skimage.measure
    except ImportError as error:
        purpose = "measuring shapes"
        raise MissingDependencyError("scikit-image", "analyse", purpose) from error
    return skimage.measure


def shape_cells(labels: xr.DataArray, sums: Sums) -> tuple[int, ...]:
    """Return in cells of which size objects begin that are measured together.

    Cells are blocks of the label image, and hold whole objects: they end within a box of twice that
    size along every axis, which is not to be more than a block. Of objects that are larger nothing
    is said.
    """
    most = BLOCK >> labels.ndim
    cells = np.array(block_sizes(labels, _PIXEL, most))
    if not sums.labels.size:
        return tuple(cells.tolist())
    extents = sums.highs - sums.lows + 1
    is_small = np.prod(extents.astype(np.float64), axis=0) <= most // _PIXEL
    least = extents[:, is_small].max(axis=1, initial=1)
    cells = np.maximum(cells, least)
    while np.prod(cells.astype(np.float64)) > max(most // _PIXEL, 1):
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
    if which.size == 1 or (which.size <= _MANY and count(_box(sums, which)) <= BLOCK // _PIXEL):
        yield which
        return
    for half in np.array_split(which, 2):
        yield from _bounded(sums, half)


def _box(sums: Sums, which: NDArray[np.intp]) -> Box:
    """Return the box that some objects lie in."""
    low = sums.lows[:, which].min(axis=1).tolist()
    high = sums.highs[:, which].max(axis=1).tolist()
    return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))


class _Group(NamedTuple):
    """Objects that are read together: the box they lie in, and their labels in rising order."""

    box: Box
    labels: NDArray[Any]


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

    def load(self, group: _Group) -> NDArray[Any]:
        """Return a box in which objects are 1, 2, …."""
        is_one = group.labels.size == 1
        shape = [side.stop - side.start for side in group.box]
        found = np.empty(shape, np.uint8 if is_one else np.int32)
        for part in cut(group.box, self.cells):
            pixels = self.pixels.read((*self.at, *part))
            pixels = pixels.reshape([p.stop - p.start for p in part])
            found[within(part, group.box)] = _numbered(pixels, group.labels)
        return found


def _table_of(shared: tuple[Shapes, Boxes], group: _Group) -> dict[str, NDArray[Any]]:
    shapes, boxes = shared
    return shapes.table(boxes.load(group))


def _numbered(pixels: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int32]:
    """Return 1, 2, … where pixels are of labels, which are in rising order, and 0 elsewhere."""
    starts = run_starts(pixels)
    own = pixels.reshape(-1)[starts]
    place = np.minimum(np.searchsorted(labels, own), labels.size - 1)
    number = np.where(labels[place] == own, place + 1, 0).astype(np.int32)
    return np.repeat(number, np.diff(starts, append=pixels.size)).reshape(pixels.shape)
