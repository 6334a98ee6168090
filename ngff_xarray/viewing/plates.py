"""The wells of a plate as one image, whose pixels are read well by well."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, image, pyramid
from ngff_xarray.errors import SelectionError
from ngff_xarray.viewing.layers import Layer, World, make_world
from ngff_xarray.viewing.scenery import PlateScenery
from ngff_xarray.viewing.sides import PlateLevel, levels_over, plate_levels
from ngff_xarray.viewing.sources import Array
from ngff_xarray.viewing.wells import PlateWells, WellImages

_MOST_PIXELS = 2**24  # along rows and columns: each has a coordinate


def plate_world(wells: PlateWells, name: str) -> tuple[World, PlateScenery]:
    """Return a world in which the wells of a plate are one layer; no pixel is read.

    Parameters
    ----------
    wells
        The wells.
    name
        What to call the layer.
    """
    arrays = wells.field.levels
    levels = plate_levels(arrays, (len(wells.rows), len(wells.columns)))
    finest = levels[0]
    total = finest.down.total + finest.right.total
    if 2 * total > _MOST_PIXELS:
        raise SelectionError(
            f"the plate has rows and columns of {total} pixels together, more than a viewer "
            "can show: view a well of it, with .ngff.well(path).ngff.view()"
        )
    nodes = _nodes("", wells, wells.field, levels, finest)
    nodes["/"].attrs["ome"]["name"] = name
    for label, images in wells.labels.items():
        over = levels_over(images.levels, arrays[0], finest)
        if not over:
            raise SelectionError(
                f"labels {label!r} have other pixels than their images: they are shown in a well, "
                "with .ngff.well(path).ngff.view(labels=True)"
            )
        nodes |= _nodes(f"/labels/{label}", wells, images, over, finest)
    made = make_world(xr.DataTree.from_dict(nodes))
    layer = made.layers[0]
    scenery = PlateScenery(wells, levels, layer.levels)
    layer = replace(_kept_by_wells(layer), scenery=scenery)
    # the third axis of space has no plane over all wells
    return replace(made, layers=(layer,), space=(made.down, made.right)), scenery


def _nodes(
    path: str,
    wells: PlateWells,
    images: WellImages,
    levels: Sequence[PlateLevel],
    finest: PlateLevel,
) -> dict[str, xr.Dataset]:
    """Return the nodes of an image of all wells, by path."""
    kept = ("omero", "image-label")
    said = {key: value for key, value in image.ome(images.first).items() if key in kept}
    nodes = {path or "/": xr.Dataset(attrs={"ome": said})}
    nodes[path or "/"].encoding["level_paths"] = tuple(str(n) for n in range(len(levels)))
    for number, level in enumerate(levels):
        nodes[f"{path}/{number}"] = _dataset(wells, images, level, finest)
    return nodes


def _dataset(
    wells: PlateWells, images: WellImages, level: PlateLevel, finest: PlateLevel
) -> xr.Dataset:
    array, whole = images.levels[level.number], wells.field.levels[0]
    drawn = image.plane_dims(array)
    sides = dict(zip(drawn, level.sides, strict=True))
    stored = array.encoding.get("chunks")
    known = dict(zip(array.dims, stored, strict=True)) if isinstance(stored, tuple) else {}
    chunks = tuple(
        sides[dim].pitch if dim in sides else int(np.max(known.get(dim, 1))) for dim in array.dims
    )
    pixels = indexing.LazilyIndexedArray(_PlateArray(wells, images, level))
    variable = xr.Variable(array.dims, pixels, encoding={"chunks": chunks})
    variable = variable.isel({dim: slice(side.cut, None) for dim, side in sides.items()})
    coords: dict[Any, Any] = {
        dim: array.coords[dim].variable for dim in array.dims if dim in array.coords
    }
    first = zip(image.plane_dims(whole), finest.sides, strict=True)
    for (dim, side), (like, fine) in zip(sides.items(), first, strict=True):
        step = (geometry.pixel_size(whole[like]) or 1.0) * fine.pitch / side.pitch
        places = (np.arange(variable.sizes[dim]) + 0.5 - side.margin) * step
        coords[dim] = xr.Variable(dim, places, {**whole[like].attrs, "pixel_size": step})
    name = "labels" if images.below else "image"
    return xr.Dataset({name: variable}, coords=coords)


def _kept_by_wells(layer: Layer) -> Layer:
    """Return the layer with pixels that no other cache need keep, nor what could not be read."""
    levels = tuple(
        replace(level, source=replace(level.source, in_memory=True)) for level in layer.levels
    )
    return replace(layer, levels=levels, labels=tuple(map(_kept_by_wells, layer.labels)))


class _PlateArray(BackendArray):
    """Lets xarray index all wells as one array."""

    def __init__(self, wells: PlateWells, images: WellImages, level: PlateLevel) -> None:
        self._wells, self._images, self._level = wells, images, level
        array = images.levels[level.number]
        drawn = image.plane_dims(array)
        sides = dict(zip(drawn, level.sides, strict=True))
        self.shape = tuple(
            sides[dim].cut + sides[dim].total if dim in sides else size
            for dim, size in array.sizes.items()
        )
        self.dtype = array.dtype
        self._axes = [array.dims.index(dim) for dim in drawn]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Array:
        taken = [
            range(*part.indices(size)) if isinstance(part, slice) else range(part, part + 1)
            for part, size in zip(key, self.shape, strict=True)
        ]
        out = np.zeros([len(part) for part in taken], self.dtype)
        if out.size:
            self._fill(out, taken)
        return out[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]

    def _fill(self, out: Array, taken: Sequence[range]) -> None:
        both = zip(self._level.sides, self._axes, strict=True)
        spans = [list(side.spans(taken[axis])) for side, axis in both]
        whole = [slice(part.start, part[-1] + 1, part.step) for part in taken]
        boxes, targets = {}, {}
        for found in itertools.product(*spans):
            well = self._wells.at.get((found[0][0], found[1][0]))
            if well is None:
                continue
            there, here = list(whole), [slice(None)] * len(whole)
            for axis, (_, to, of) in zip(self._axes, found, strict=True):
                here[axis], there[axis] = to, of
            boxes[well.path], targets[well.path] = tuple(there), out[tuple(here)]
        for path, pixels in self._pixels(boxes).items():
            targets[path][tuple(map(slice, pixels.shape))] = pixels

    def _pixels(self, boxes: dict[str, tuple[slice, ...]]) -> dict[str, Array]:
        level, axes = self._level, self._axes
        if level.reduced == 1:
            return self._wells.read(self._images, level.number, boxes, axes)
        planes = {
            path: tuple(slice(None) if i in axes else part for i, part in enumerate(box))
            for path, box in boxes.items()
        }
        factors = [level.reduced if i in axes else 1 for i in range(len(self.shape))]
        found = self._wells.read(self._images, level.number, planes, axes)
        return {
            path: self._reduced(plane, factors)[
                tuple(part if i in axes else slice(None) for i, part in enumerate(boxes[path]))
            ]
            for path, plane in found.items()
        }

    def _reduced(self, plane: Array, factors: Sequence[int]) -> Array:
        """Return the means of blocks; of types without one, and of labels, every n-th pixel."""
        if self._images.below or plane.dtype.kind == "b" or plane.dtype.itemsize > 4:
            return plane[tuple(slice(factor // 2, None, factor) for factor in factors)]
        return pyramid.mean(plane, factors)
