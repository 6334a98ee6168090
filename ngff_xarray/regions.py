"""Pixels written into a part of an image that is there: its other levels follow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ngff_xarray import geometry, image, pyramid, read, selection, store, unfinished, units
from ngff_xarray.boxes import Box, count, cut, within
from ngff_xarray.errors import (
    NgffError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
    UnsupportedError,
)
from ngff_xarray.image import Obj
from ngff_xarray.lazy import lazy
from ngff_xarray.progress import Bar
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.pyramid import PlannedLevel
from ngff_xarray.storage import Access
from ngff_xarray.text import printable

_NEAR = 1e-3  # of a pixel: how far coordinates may lie from those of the store
_BYTES = 2**26  # that are written at a time


def write_region(
    obj: Obj,
    target: Any,
    *,
    region: Mapping[str, slice] | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **where: Any,
) -> None:
    """Write pixels into a part of an image that is there, and what they change in other levels.

    At every level only the chunks, or shards, that the part touches are written. Meanwhile the
    image is marked: opening it raises `IncompleteError`, also after its writer was killed, until
    a region was written again.

    Parameters
    ----------
    obj
        The pixels: an array, or an image, whose finest level is taken. Its coordinates say where
        they belong: on the pixels of the image.
    target
        The image or label image (``"scan.ome.zarr/labels/nuclei"``): a path, a URL, or a zarr
        store or group.
    region
        Instead of coordinates: where the pixels belong, by axis, as slices of the finest level.
        Axes that are left out are whole.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    storage_options
        For fsspec, where the target is a URL.
    **where
        The part of the pixels to write, in physical units, as `crop` takes it.

    Raises
    ------
    SelectionError
        If the pixels do not fit: other axes or types, outside of the image, between its pixels.
    UnsupportedError
        If the levels of the image are not made of whole pixels of the finest.
    StoreError
        If it cannot be written, or another process is writing it.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> image = xr.DataArray(np.zeros((8, 8), "u1"), dims=("y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image.ngff.to_zarr(f"{folder}/a.ome.zarr", scale_factors=[2])
    ...     spot = xr.DataArray(np.full((2, 2), 9, "u1"), dims=("y", "x"))
    ...     write_region(spot, f"{folder}/a.ome.zarr", region={"y": slice(2, 4), "x": slice(4, 6)})
    ...     xr.open_datatree(f"{folder}/a.ome.zarr").ngff.level(1).values[1]
    array([0, 0, 9, 0], dtype=uint8)
    """
    pixels = image.levels(obj)[0]
    if where:
        pixels = selection.crop(pixels, where)
    place = store.open_target(target, access=Access(storage_options or {}))
    written = _Written.at(place)
    finest = written.arrays[0]
    box = _by_region(pixels, finest, region) if region is not None else _by_place(pixels, finest)
    pixels = _fitting(pixels, finest, box)
    if not count(box):
        return
    written.write(pixels, box, progress)


def append(
    obj: Obj,
    target: Any,
    *,
    dim: str = "t",
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write pixels behind the last ones of an image along an axis; all levels grow.

    Chunks are written first and the lengths last, so that whoever reads meanwhile, or after the
    writer was killed, sees the image as it was, or an `IncompleteError` while the lengths change.
    Appending the same again completes it.

    Parameters
    ----------
    obj
        The pixels: an array, or an image, whose finest level is taken. Along the axis, coordinates
        must go on from those of the image, if there are any; along the others they say where the
        pixels belong, which must be the whole image.
    target
        The image or label image: a path, a URL, or a zarr store or group.
    dim
        The axis: any but that of the channels.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    storage_options
        For fsspec, where the target is a URL.

    Raises
    ------
    SelectionError
        If the pixels do not fit.
    UnsupportedError
        If ``dim`` is the axis of the channels.
    StoreError
        If it cannot be written, or another process is writing it.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> film = xr.DataArray(np.zeros((2, 8, 8), "u1"), dims=("t", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     film.ngff.to_zarr(f"{folder}/a.ome.zarr", scale_factors=[2])
    ...     append(film[:1] + 1, f"{folder}/a.ome.zarr")
    ...     [level.shape for level in xr.open_datatree(f"{folder}/a.ome.zarr").ngff.levels]
    [(3, 8, 8), (3, 4, 4)]
    """
    pixels = image.levels(obj)[0]
    written = _Written.at(store.open_target(target, access=Access(storage_options or {})))
    finest = written.arrays[0]
    if dim not in finest.dims:
        names = ", ".join(map(str, finest.dims))
        raise SelectionError(f"there is no axis {printable(dim, 40)!r}; the axes are {names}")
    if dim == image.channel_dim(finest):
        raise UnsupportedError(
            f"channels are not appended (along {dim}): write the image anew, with all of them"
        )
    size = pixels.sizes.get(dim, 1)
    start, stop = finest.sizes[dim], finest.sizes[dim] + size
    was = written.appended
    if was is not None and was[0] == dim and was[2] - was[1] == size:
        start, stop = was[1:]  # all but done by a writer that was killed
    _check_continues(pixels, finest, dim, start)
    box = tuple(
        slice(start, stop) if each == dim else _side(pixels, finest, str(each))
        for each in finest.dims
    )
    others = [(b, n) for d, b, n in zip(finest.dims, box, finest.shape, strict=True) if d != dim]
    if any(side != slice(0, n) for side, n in others):
        raise SelectionError(
            f"the pixels are a part of the image only: append what is whole but along {dim}, and "
            "write the rest with write_region"
        )
    pixels = _fitting(pixels, finest, box)
    if not count(box):
        return
    if stop == finest.sizes[dim]:
        written.write(pixels, box, progress)
    else:
        written.append(pixels, box, finest.dims.index(dim), progress)


@dataclass(frozen=True)
class _Written:
    """An image that is written into.

    Parameters
    ----------
    place
        Its group, for writing.
    attributes
        What that says, without a mark.
    zarr_format
        That of the store.
    paths, arrays, levels
        Its levels: where they are, as they are read, and how they are made of the finest.
    stored
        The same as arrays of zarr, for writing.
    method
        How pixels of other levels are made.
    begun
        Parts of the finest level that were begun to be written, and not ended.
    appended
        The axis, the start and the stop of what was being appended, and is there now.
    """

    place: store.Source
    attributes: dict[str, Any]
    zarr_format: store.ZarrFormat
    paths: tuple[str, ...]
    arrays: tuple[xr.DataArray, ...]
    levels: tuple[PlannedLevel, ...]
    stored: tuple[zarr.Array[Any], ...]
    method: str
    begun: tuple[Box, ...]
    appended: tuple[str, int, int] | None = None

    @classmethod
    def at(cls, place: store.Source) -> _Written:
        """Return the image at a place.

        Raises
        ------
        NgffError
            If there is none that can be written into.
        """
        root = getattr(place.store, "root", None)
        if isinstance(root, Path) and not (root / place.path).exists():
            raise StoreNotFoundError(f"no such file or directory: {place.url}")
        group = store.look(place)
        regions = grown = None
        if group is not None:
            unfinished.check_written(place.url, group.attributes)
            regions = unfinished.regions(group.attributes)
            if regions is not None:
                grown = unfinished.grown(group.attributes)
                group = replace(group, attributes=unfinished.without(group.attributes))
        group = store.require_group(place, group)
        if grown is not None:
            _grow(place, group.zarr_format, grown.shapes)
        tree = read.open_image(place, group, version=None)
        if image.group_kind(tree) is not None:
            raise SelectionError(
                f"{printable(place.url, store.MAX_SHOWN)}: is a {image.kind(tree)}: regions are "
                "written into an image or a label image"
            )
        arrays = image.levels(tree)
        paths = image.level_paths(tree)
        said = image.ome(tree).get("type")
        default = "mode" if image.kind(tree) == "labels" else "mean"
        stored = tuple(
            zarr.open_array(
                place.child(path).store,
                path=place.child(path).path,
                mode="r+",
                zarr_format=group.zarr_format,
            )
            for path in paths
        )
        return cls(
            place,
            group.attributes,
            group.zarr_format,
            paths,
            arrays,
            _planned(arrays),
            stored,
            said if said in pyramid.METHODS else default,
            _clipped(regions or (), arrays[0].shape),
            None if grown is None else grown.what,
        )

    def write(self, pixels: xr.DataArray, box: Box, progress: bool | None) -> None:
        """Write pixels into a box of the finest level, and what is above it."""
        boxes = [*self.begun, box]
        touched = [
            (number, part)
            for number in range(1, len(self.levels))
            for part in (self._above(number, each) for each in boxes)
            if count(part)
        ]
        size = self.arrays[0].dtype.itemsize
        total = size * (count(box) + sum(count(part) for _, part in touched))
        with shown_progress("writing", "B", progress, total) as bar, self._marked(boxes):
            variable = pixels.variable
            self._put(0, box, variable, within(box, box), bar)
            above = pyramid.variables(self.arrays[0].variable, self.levels, self.method)
            for number, part in touched:
                self._put(number, part, above[number - 1], part, bar)

    def append(self, pixels: xr.DataArray, box: Box, axis: int, progress: bool | None) -> None:
        """Write pixels that begin where an axis of the finest level ends."""
        whole = self._longer(axis, box[axis].stop)
        parts = [(0, box), *((n, whole._above(n, box)) for n in range(1, len(self.levels)))]
        size = self.arrays[0].dtype.itemsize
        total = size * sum(count(part) for _, part in parts)
        largest = max(level.factors[axis] for level in self.levels)
        first = box[axis].start // largest * largest
        if self.begun or first < box[axis].start:
            # other levels have pixels that are made of old and of new ones, and change at once
            side = slice(first, box[axis].start)
            old = tuple(side if i == axis else each for i, each in enumerate(box))
            self._say(unfinished.region_begun(self.attributes, _corners([*self.begun, old])))
        with shown_progress("writing", "B", progress, total) as bar:
            whole._put(0, box, pixels.variable, within(box, box), bar)
            above = pyramid.variables(whole.arrays[0].variable, whole.levels, self.method)
            for number, part in parts[1:]:
                if count(part):
                    whole._put(number, part, above[number - 1], part, bar)
        shapes = {
            path: list(level.shape) for path, level in zip(self.paths, whole.levels, strict=True)
        }
        what = (str(self.arrays[0].dims[axis]), box[axis].start, box[axis].stop)
        self._say(unfinished.region_grows(self.attributes, _corners(self.begun), shapes, what))
        _grow(self.place, self.zarr_format, shapes)
        self._say(self.attributes)

    def _longer(self, axis: int, size: int) -> _Written:
        """Return the image as it is to be, of which the store knows nothing yet."""
        levels, stored = [], []
        before = self.levels[0].shape[axis]
        for level, array in zip(self.levels, self.stored, strict=True):
            factor = level.factors[axis]
            is_cut = level.shape[axis] != -(-before // factor)
            length = size // factor if is_cut else -(-size // factor)
            shape = tuple(length if i == axis else n for i, n in enumerate(level.shape))
            levels.append(replace(level, shape=shape))
            metadata: Any = array.metadata.update_shape(shape)
            stored.append(zarr.Array(zarr.AsyncArray(metadata, array.store_path)))
        finest = xr.DataArray(xr.Variable(self.arrays[0].dims, lazy(stored[0])))
        return replace(self, arrays=(finest,), levels=tuple(levels), stored=tuple(stored))

    def _put(self, number: int, box: Box, source: xr.Variable, where: Box, bar: Bar) -> None:
        """Write a box of a level out of one of a variable, a few chunks at a time."""
        array = self.stored[number]
        unit = array.shards or array.chunks
        together = max(1, _BYTES // max(1, math.prod(unit) * array.dtype.itemsize))
        for part in cut(box, unit, together):
            inside = tuple(
                slice(w.start + p.start, w.start + p.stop)
                for w, p in zip(where, within(part, box), strict=True)
            )
            values = np.asarray(source[inside].values)
            try:
                array[part] = _exact(values, array.dtype)
            except NgffError:
                raise
            except Exception as error:
                shown = printable(self.place.url, store.MAX_SHOWN)
                raise StoreError(f"{shown}: cannot be written: {store.reason(error)}") from error
            bar.did(count(part) * array.dtype.itemsize)
            bar.show()

    def _above(self, number: int, box: Box) -> Box:
        """Return what of a level is made of a box of the finest one."""
        level = self.levels[number]
        return tuple(
            slice(min(b.start // f, n), min(-(-b.stop // f), n))
            for b, f, n in zip(box, level.factors, level.shape, strict=True)
        )

    @contextmanager
    def _marked(self, boxes: Sequence[Box]) -> Iterator[None]:
        """Say in the store which parts are being written, until they are."""
        self._say(unfinished.region_begun(self.attributes, _corners(boxes)))
        yield
        self._say(self.attributes)

    def _say(self, attributes: dict[str, Any]) -> None:
        if self.zarr_format == 2:
            store.put_json(self.place, ".zattrs", attributes)
            return
        document = store.run(store.fetch_json(self.place, "zarr.json")) or {}
        store.put_json(self.place, "zarr.json", {**document, "attributes": attributes})


def _grow(place: store.Source, zarr_format: store.ZarrFormat, shapes: Mapping[str, Any]) -> None:
    """Give arrays other lengths, in the documents that say them."""
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    for path, shape in shapes.items():
        below = place.child(path)
        document = store.run(store.fetch_json(below, name))
        if document is not None and document.get("shape") != shape:
            store.put_json(below, name, {**document, "shape": shape})
    holder = "zarr.json" if zarr_format == 3 else ".zmetadata"
    whole = store.run(store.fetch_json(place, holder)) or {}
    inner = whole.get("consolidated_metadata") if zarr_format == 3 else whole
    documents = inner.get("metadata") if isinstance(inner, dict) else None
    if isinstance(documents, dict):  # which repeat them
        for path, shape in shapes.items():
            key = path if zarr_format == 3 else f"{path}/.zarray"
            if isinstance(documents.get(key), dict):
                documents[key]["shape"] = shape
        store.put_json(place, holder, whole)


def _corners(boxes: Sequence[Box]) -> list[list[list[int]]]:
    return [[[side.start, side.stop] for side in box] for box in boxes]


# ---- where pixels belong -----------------------------------------------------------------------


def _by_region(pixels: xr.DataArray, finest: xr.DataArray, region: Mapping[str, slice]) -> Box:
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


def _by_place(pixels: xr.DataArray, finest: xr.DataArray) -> Box:
    return tuple(_side(pixels, finest, str(dim)) for dim in finest.dims)


def _side(pixels: xr.DataArray, finest: xr.DataArray, dim: str) -> slice:
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
            f"has {size}"
        )
    return slice(int(places[0]), int(places[-1]) + 1)


def _check_continues(pixels: xr.DataArray, finest: xr.DataArray, dim: str, start: int) -> None:
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
        raise SelectionError(
            f"{dim}: the pixels say that they are number {places[0]} to {places[-1]}, appended "
            f"they would be {start} to {start + places.size - 1}: drop their coordinate, or write "
            "the region"
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


def _fitting(pixels: xr.DataArray, finest: xr.DataArray, box: Box) -> xr.DataArray:
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
        raise SelectionError(f"the pixels are {found}, the region is {wanted}")
    both = {pixels.dtype.kind, finest.dtype.kind}
    safe = np.can_cast(pixels.dtype, finest.dtype) or both <= {"i", "u"} or both == {"f"}
    if not safe:
        raise SelectionError(
            f"the pixels are {pixels.dtype}, those of the image {finest.dtype}: convert them"
        )
    if isinstance(plain._data, np.ndarray):
        _exact(plain._data, finest.dtype)
    return xr.DataArray(plain)


def _exact(values: Any, dtype: np.dtype[Any]) -> Any:
    """Return integers as another type that holds them all."""
    if values.dtype.kind in "iu" and dtype.kind in "iu" and values.size:
        info = np.iinfo(dtype)
        if values.min() < info.min or values.max() > info.max:
            raise SelectionError(
                f"the pixels reach from {values.min()} to {values.max()}, which {dtype}, the type "
                "of the image, does not hold"
            )
    return values.astype(dtype, copy=False)


# ---- how levels are made -----------------------------------------------------------------------


def _planned(arrays: Sequence[xr.DataArray]) -> tuple[PlannedLevel, ...]:
    """Return how levels are made of the finest."""
    found: list[PlannedLevel] = []
    for array in arrays:
        factors = tuple(_factor(arrays[0], array, str(dim)) for dim in arrays[0].dims)
        before = found[-1].factors if found else (1,) * len(factors)
        step = [n // m if n % m == 0 else 0 for n, m in zip(factors, before, strict=True)]
        if not all(step):
            raise UnsupportedError(
                "the levels of this image are not made of whole pixels of the level before: write "
                "it anew"
            )
        found.append(PlannedLevel(array.shape, factors, tuple(step)))
    return tuple(found)


def _factor(finest: xr.DataArray, level: xr.DataArray, dim: str) -> int:
    """Return how many pixels of the finest level one of a level is made of along an axis."""
    whole, size = finest.sizes[dim], level.sizes[dim]
    if whole == size:
        return 1
    steps = [geometry.pixel_size(array.coords[dim]) for array in (finest, level)]
    exact = steps[1] / steps[0] if steps[0] and steps[1] else whole / max(size, 1)
    factor = round(exact)
    if factor < 1 or size not in (whole // factor, -(-whole // factor)):
        raise UnsupportedError(
            f"{dim}: a level has {size} pixels for the {whole} of the finest, which is no whole "
            "number of these for each: write the image anew"
        )
    return factor


def _clipped(regions: Any, shape: Sequence[int]) -> tuple[Box, ...]:
    """Return boxes that a mark names, those that make sense."""
    found = []
    for region in regions:
        try:
            box = tuple(
                slice(min(max(int(a), 0), n), min(max(int(b), 0), n))
                for (a, b), n in zip(region, shape, strict=True)
            )
        except (TypeError, ValueError, OverflowError):
            continue
        if all(side.start < side.stop for side in box):
            found.append(box)
    return tuple(found)
