"""Shapes of objects as scikit-image measures them, each in its own box and not in the image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray.analyse.accumulating import Sums, run_starts
from ngff_xarray.analyse.sweeping import BLOCK, block_sizes, swept
from ngff_xarray.boxes import Box, count, cut, within
from ngff_xarray.errors import MissingDependencyError, SelectionError, UnsupportedError
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.pyramid.sources import Read

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
        self,
        labels: xr.DataArray,
        read: Read,
        at: Box,
        sums: Sums,
        *,
        threads: int,
        progress: bool | None,
    ) -> dict[str, NDArray[Any]]:
        """Return a column a measure, with an entry for every object.

        Parameters
        ----------
        labels
            The label image along the axes of space.
        read
            Returns boxes of the whole label image.
        at
            Where that lies along the axes before.
        sums
            What is known of the objects.
        threads
            How many read at a time.
        progress
            Whether to show a bar.
        """
        if not self.names:
            return {}
        if not sums.labels.size:
            none = self._table(np.ones((1,) * labels.ndim, np.uint8))
            return {name: column[:0] for name, column in none.items()}
        order: list[NDArray[np.intp]] = []
        tables: list[dict[str, NDArray[Any]]] = []
        boxes = _Boxes(read, at, sums, _cells(labels))
        total = sums.labels.size
        with progress_bar("measuring shapes", "objects", progress, total) as bar:
            for which, numbered in swept(boxes.groups(), boxes.load, threads, bar.show):
                order.append(which)
                tables.append(self._table(numbered))
                bar.did(which.size)
        places = np.argsort(np.concatenate(order))
        return {
            name: np.concatenate([table[name] for table in tables])[places] for name in tables[0]
        }

    def _table(self, numbered: NDArray[Any]) -> dict[str, NDArray[Any]]:
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


def _cells(labels: xr.DataArray) -> tuple[int, ...]:
    """Return in boxes of which size objects begin that are measured together.

    They end within a box of twice that size along every axis, which is not to be more than a block.
    """
    return block_sizes(labels, _PIXEL, BLOCK >> labels.ndim)


@dataclass(frozen=True)
class _Boxes:
    """Reads objects that are near each other in one box; large ones alone."""

    read: Read
    at: Box
    sums: Sums
    cells: tuple[int, ...]

    def groups(self) -> Iterator[NDArray[np.intp]]:
        """Yield the objects that are read together, by index, in rising order."""
        lows, highs = self.sums.lows, self.sums.highs
        cells = np.array(self.cells)[:, None]
        is_large = (highs - lows >= cells).any(axis=0)
        place = lows // cells
        number = np.ravel_multi_index(tuple(place), tuple(place.max(axis=1) + 1))
        few = np.flatnonzero(~is_large)
        few = few[np.argsort(number[few], kind="stable")]
        edges = np.flatnonzero(np.diff(number[few])) + 1
        for group in np.split(few, edges) if few.size else ():
            yield from self._bounded(group)
        for each in np.flatnonzero(is_large):
            yield np.array([each])

    def _bounded(self, which: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Yield objects in groups whose box is not too large."""
        if which.size == 1 or count(self._box(which)) <= BLOCK // _PIXEL:
            yield which
            return
        for half in np.array_split(which, 2):
            yield from self._bounded(half)

    def _box(self, which: NDArray[np.intp]) -> Box:
        low = self.sums.lows[:, which].min(axis=1).tolist()
        high = self.sums.highs[:, which].max(axis=1).tolist()
        return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))

    def load(self, which: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return objects as they were, and the box they lie in, where they are 1, 2, …."""
        box = self._box(which)
        is_one = which.size == 1
        found = np.empty([b.stop - b.start for b in box], np.uint8 if is_one else np.int32)
        labels = self.sums.labels[which]
        for part in cut(box, self.cells):
            pixels = self.read((*self.at, *part))
            pixels = pixels.reshape([p.stop - p.start for p in part])
            found[within(part, box)] = _numbered(pixels, labels)
        return which, found


def _numbered(pixels: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int32]:
    """Return 1, 2, … where pixels are of labels, which are in rising order, and 0 elsewhere."""
    starts = run_starts(pixels)
    own = pixels.reshape(-1)[starts]
    place = np.minimum(np.searchsorted(labels, own), labels.size - 1)
    number = np.where(labels[place] == own, place + 1, 0).astype(np.int32)
    return np.repeat(number, np.diff(starts, append=pixels.size)).reshape(pixels.shape)
