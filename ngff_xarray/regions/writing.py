"""An image that is written into: its levels, and the marks that say how far that is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr
import zarr

from ngff_xarray import geometry, image, pyramid, read, store, unfinished
from ngff_xarray.boxes import Box, count, within
from ngff_xarray.errors import (
    SelectionError,
    StoreNotFoundError,
    UnsupportedError,
)
from ngff_xarray.lazy import lazy
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.pyramid import PlannedLevel
from ngff_xarray.regions import channels, pieces
from ngff_xarray.regions.pieces import Piece
from ngff_xarray.storage import is_zarr_only
from ngff_xarray.text import printable

_CHUNK = re.compile(r"(?:c[/.])?(\d+(?:[/.]\d+)*)")  # the key of one
_PART = re.compile(r"\.[0-9a-f]{32}\.partial$")  # zarr's files, before they get their names


Say = Callable[[dict[str, Any]], None]
"""Writes the attributes of the image's group."""


@dataclass(frozen=True)
class Written:
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
    is_marked
        Whether the store says that it is being written: by whoever asks, or one who was killed.
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
    is_marked: bool = False
    appended: tuple[str, int, int] | None = None

    @classmethod
    def at(cls, place: store.Source, token: str | None = None) -> Written:
        """Return the image at a place, as it is now.

        Parameters
        ----------
        place
            Its group, for writing.
        token
            That of the mark of whoever asks.

        Raises
        ------
        BusyError
            If another one is writing it.
        NgffError
            If there is none that can be written into.
        """
        root = getattr(place.store, "root", None)
        if isinstance(root, Path) and not (root / place.path).exists():
            raise StoreNotFoundError(f"no such file or directory: {place.url}")
        group = store.look(place)
        regions = grown = None
        has_more = False
        if group is not None:
            unfinished.check_written(place.url, group.attributes, token)
            regions = unfinished.regions(group.attributes)
            if regions is not None:
                grown = unfinished.grown(group.attributes)
            has_more = unfinished.is_appended_to(group.attributes)
            if regions is not None or has_more:
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
        for array in stored if has_more else ():
            _clear(place, array)
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
            regions is not None,
            None if grown is None else grown.what,
        )

    def write(self, pixels: xr.DataArray, box: Box, progress: bool | None, say: Say) -> None:
        """Write pixels into a box of the finest level, and what is above it."""
        boxes = [*self.begun, box]
        say(unfinished.region_begun(self.attributes, _corners(boxes)))
        self._put_all(pixels, box, boxes, progress)
        say(self.attributes)

    def append(
        self,
        pixels: xr.DataArray,
        box: Box,
        axis: int,
        named: Sequence[store.Document] | None,
        progress: bool | None,
        say: Say,
    ) -> None:
        """Write pixels that begin where an axis of the finest level ends.

        Along the axis of the channels, ``named`` is what is to be said of those that come.
        """
        end = box[axis].start
        largest = max(level.factors[axis] for level in self.levels)
        beside = 2 * largest if self.method == "gaussian" and largest > 1 else 0
        shared = slice(max(end // largest * largest - beside, 0), end)
        said = self.attributes
        if self.is_marked or shared.start < end:
            # other levels have pixels that are made of old and of new ones, and change at once
            old = tuple(shared if i == axis else side for i, side in enumerate(box))
            said = unfinished.region_begun(said, _corners([*self.begun, old]))
        say(unfinished.append_begun(said))
        longer = self._longer(axis, box[axis].stop)
        what = (str(self.arrays[0].dims[axis]), end, box[axis].stop)
        if is_zarr_only(self.place.store):  # icechunk takes no chunks that are beyond an end
            self._grow(longer, what, say)
        longer._put_all(pixels, box, [*self.begun, box], progress)
        if named is not None:
            self = replace(self, attributes=self._with_channels(longer, box, axis, named))
        self._grow(longer, what, say)
        say(self.attributes)

    def _with_channels(
        self, longer: Written, box: Box, axis: int, named: Sequence[store.Document]
    ) -> dict[str, Any]:
        """Return the attributes that tell of channels that have come."""
        boxes = (longer._above(number, box) for number in range(len(longer.levels)))
        dims = self.arrays[0].dims
        pixels = [
            xr.Variable(dims, lazy(array))[part]
            for array, part in zip(longer.stored, boxes, strict=True)
        ]
        said = channels.with_windows(named, pixels, axis)
        dtype = self.arrays[0].dtype
        return channels.appended(self.attributes, self.zarr_format, box[axis].start, said, dtype)

    def _grow(self, longer: Written, what: tuple[str, int, int], say: Say) -> None:
        """Give the levels the lengths that they are to have."""
        shapes = {
            path: list(level.shape) for path, level in zip(self.paths, longer.levels, strict=True)
        }
        say(unfinished.region_grows(self.attributes, shapes, what))
        _grow(self.place, self.zarr_format, shapes)

    def end(self, progress: bool | None, say: Say) -> None:
        """Make what a writer that was killed has begun anew, of the finest level as it is."""
        for array in self.stored:
            _clear(self.place, array)
        self._put_work(self._work_above(self.begun), progress)
        say(self.attributes)

    def _put_all(
        self, pixels: xr.DataArray, box: Box, boxes: Sequence[Box], progress: bool | None
    ) -> None:
        """Write pixels into a box of the finest level, and what is above that and other boxes."""
        own = Piece(self.stored[0], box, pixels.variable, within(box, box))
        self._put_work([own, *self._work_above(boxes)], progress)

    def _work_above(self, boxes: Sequence[Box]) -> list[Piece]:
        """Return what is to be written to the levels above boxes of the finest one."""
        above = pyramid.variables(self.arrays[0].variable, self.levels, self.method)
        return [
            Piece(self.stored[number], part, variable, part)
            for number, variable in enumerate(above, 1)
            for part in (self._above(number, each) for each in boxes)
            if count(part)
        ]

    def _put_work(self, work: Sequence[Piece], progress: bool | None) -> None:
        total = sum(piece.nbytes for piece in work)
        with shown_progress("writing", "B", progress, total) as bar:
            pieces.write(self.place.url, work, bar)

    def _longer(self, axis: int, size: int) -> Written:
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

    def _above(self, number: int, box: Box) -> Box:
        """Return what of a level is made of a box of the finest one."""
        if self.method == "gaussian":  # which reaches beyond a block
            for level in self.levels[1 : number + 1]:
                box = pyramid.reached(box, level)
            return box
        level = self.levels[number]
        return tuple(
            slice(min(b.start // f, n), min(-(-b.stop // f), n))
            for b, f, n in zip(box, level.factors, level.shape, strict=True)
        )


def _grow(place: store.Source, zarr_format: store.ZarrFormat, shapes: Mapping[str, Any]) -> None:
    """Give arrays other lengths, in the documents that say them."""
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    for path, shape in shapes.items():
        below = place.child(path)
        document = store.run(store.fetch_json(below, name))
        if document is not None and _is_longer(shape, document.get("shape")):
            store.put_json(below, name, {**document, "shape": shape})
    holder = "zarr.json" if zarr_format == 3 else ".zmetadata"
    for above, inside in place.upwards():
        moved = {store.join(inside, path): shape for path, shape in shapes.items()}
        grown = partial(_grown, zarr_format=zarr_format, shapes=moved)
        if grown(store.run(store.fetch_json(above, holder))) is not None:
            store.change_json(above, holder, grown)


def _grown(
    whole: store.Document | None, zarr_format: store.ZarrFormat, shapes: Mapping[str, Any]
) -> store.Document | None:
    """Return consolidated metadata, which repeat the documents of arrays, with other lengths."""
    inner = (whole or {}).get("consolidated_metadata") if zarr_format == 3 else whole
    documents = inner.get("metadata") if isinstance(inner, dict) else None
    if not isinstance(documents, dict):
        return None
    for path, shape in shapes.items():
        known = documents.get(path if zarr_format == 3 else f"{path}/.zarray")
        if isinstance(known, dict) and _is_longer(shape, known.get("shape")):
            known["shape"] = shape
    return whole


def _clear(place: store.Source, array: zarr.Array[Any]) -> None:
    """Delete chunks beyond the ends of an array, and files of which a part was written."""
    unit = array.shards or array.chunks
    grid = [-(-n // m) for n, m in zip(array.shape, unit, strict=True)]
    prefix, inner = f"{array.path}/", array.store_path.store

    async def delete() -> None:
        for key in [key async for key in inner.list_prefix(prefix)]:
            found = _CHUNK.fullmatch(key.removeprefix(prefix))
            at = [int(number) for number in re.split("[/.]", found[1])] if found else []
            is_beyond = len(at) == len(grid) and any(i >= n for i, n in zip(at, grid, strict=True))
            if is_beyond or _PART.search(key):
                await inner.delete(key)

    with store.changing(place):
        store.run(delete())


def _is_longer(shape: Any, before: Any) -> bool:
    """Tell whether a shape is another one, longer along some axis."""
    alike = isinstance(before, list) and len(before) == len(shape)
    return alike and shape != before and all(n >= m for n, m in zip(shape, before, strict=True))


def _corners(boxes: Sequence[Box]) -> list[list[list[int]]]:
    return [[[side.start, side.stop] for side in box] for box in boxes]


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
    if whole == size > 1:
        return 1
    steps = [geometry.pixel_size(array.coords[dim]) for array in (finest, level)]
    exact = steps[1] / steps[0] if steps[0] and steps[1] else whole / max(size, 1)
    factor = round(exact)
    if whole == size:  # one pixel may be made of one: it is to be seen once there are more
        return factor if factor > 1 and math.isclose(factor, exact, rel_tol=1e-3) else 1
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
