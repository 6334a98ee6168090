"""Verbs on xarray objects that hold an image: a tree of levels, one level, or an array."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ngff_xarray import geometry, units
from ngff_xarray.errors import MissingDependencyError, NotOmeError, SelectionError
from ngff_xarray.image import (
    VARIABLES,
    Obj,
    axes,
    level_nodes,
    levels,
    pixel_sizes,
    plane_dims,
    with_ome,
)

ObjT = TypeVar("ObjT", xr.DataArray, xr.Dataset, xr.DataTree)


def level(
    obj: Obj,
    number: int | None = None,
    *,
    pixel_size: object = None,
    max_pixels: int | None = None,
    nbytes: int | str | None = None,
) -> xr.DataArray:
    """Return one level of an image, chosen by exactly one of the criteria.

    Parameters
    ----------
    number
        Its place, 0 being the finest and -1 the coarsest.
    pixel_size
        A length (``"0.5 µm"``, a quantity, or a number in the axes' unit): the coarsest level
        whose pixels are no larger, or the finest if all are. Axes that are coarser than this at
        the finest level already (z, often) do not count.
    max_pixels
        The finest level whose y-x plane has no more pixels, or the coarsest if none has.
    nbytes
        The finest level that takes no more memory (``"100 MB"``), or the coarsest.

    Raises
    ------
    SelectionError
        If there is no level of that number, or not exactly one criterion.
    UnitError
        If the pixel size is no length.
    """
    arrays = levels(obj)
    return arrays[
        level_number(
            arrays, number=number, pixel_size=pixel_size, max_pixels=max_pixels, nbytes=nbytes
        )
    ]


def level_number(arrays: Sequence[xr.DataArray], **criteria: object) -> int:
    """Return which of the levels fits exactly one criterion, as `level` takes them."""
    name, value = _criterion(**criteria)
    return _CRITERIA[name](arrays, value)


def which_level(arrays: Sequence[xr.DataArray], which: object) -> int:
    """Return which of the levels a number or a pixel size means."""
    by_number = isinstance(which, int | np.integer)
    return (_by_number if by_number else _by_pixel_size)(arrays, which)


def _criterion(**criteria: object) -> tuple[str, Any]:
    given = [(name, value) for name, value in criteria.items() if value is not None]
    if len(given) != 1:
        found = ", ".join(name for name, _ in given) or "none"
        raise SelectionError(
            f"choose a level by exactly one of {', '.join(criteria)}; found {found}"
        )
    return given[0]


def _by_number(arrays: Sequence[xr.DataArray], number: Any) -> int:
    if not isinstance(number, int | np.integer) or isinstance(number, bool):
        raise SelectionError(f"level: expected a number, found {number!r}")
    if not -len(arrays) <= number < len(arrays):
        sizes = "; ".join(f"{i}: {_sizes(array)}" for i, array in enumerate(arrays))
        raise SelectionError(f"there is no level {number}; the levels are {sizes}")
    return int(number)


def _sizes(array: xr.DataArray) -> str:
    return " x ".join(f"{dim} {size}" for dim, size in array.sizes.items())


def _by_pixel_size(arrays: Sequence[xr.DataArray], wanted: object) -> int:
    limits = _limits(arrays[0], wanted)
    if not limits:
        return 0
    good = 0
    for i, array in enumerate(arrays):
        sizes = pixel_sizes(array)
        if all(sizes.get(dim, 0) <= limit * (1 + 1e-9) for dim, limit in limits.items()):
            good = i
    return good


def _limits(finest: xr.DataArray, wanted: object) -> dict[str, float]:
    """Return the largest pixel size wanted on each space axis that has finer ones."""
    sizes = pixel_sizes(finest)
    limits = {}
    for axis in axes(finest):
        if axis.type == "space" and axis.name in sizes:
            limit = units.magnitude(wanted, axis.unit)
            if not limit > 0:
                raise SelectionError(f"pixel_size: expected more than 0, found {wanted!r}")
            if sizes[axis.name] <= limit * (1 + 1e-9):
                limits[axis.name] = limit
    return limits


def _by_plane(arrays: Sequence[xr.DataArray], most: int) -> int:
    fitting = (math.prod(array.sizes[dim] for dim in plane_dims(array)) <= most for array in arrays)
    return next((i for i, fits in enumerate(fitting) if fits), len(arrays) - 1)


def _by_nbytes(arrays: Sequence[xr.DataArray], most: int | str) -> int:
    budget = units.byte_count(most)
    return next((i for i, array in enumerate(arrays) if array.nbytes <= budget), len(arrays) - 1)


_CRITERIA: Mapping[str, Callable[[Sequence[xr.DataArray], Any], int]] = {
    "number": _by_number,
    "pixel_size": _by_pixel_size,
    "max_pixels": _by_plane,
    "nbytes": _by_nbytes,
}


def level_dataset(tree: xr.DataTree, which: object) -> xr.Dataset:
    """Return one level as a Dataset of its own, with the image's attributes.

    ``which`` is the level's number, or a pixel size as `level` takes it.
    """
    nodes = level_nodes(tree)
    if not nodes:
        raise NotOmeError("no level is left to open: the image variable was dropped")
    node, _ = nodes[which_level(levels(tree), which)]
    dataset = node.to_dataset().assign_attrs(tree.attrs)
    dataset.encoding = {**tree.encoding, **node.encoding}
    return dataset


def map_levels(tree: xr.DataTree, func: Callable[..., xr.DataArray], **kwargs: Any) -> xr.DataTree:
    """Return the tree with a function applied to the array of every level; labels stay.

    Parameters
    ----------
    func
        Takes a DataArray and gives one back.
    **kwargs
        For ``func``.
    """
    results = {}
    for (node, name), array in zip(level_nodes(tree), levels(tree), strict=True):
        result = func(array, **kwargs)
        if not isinstance(result, xr.DataArray):
            raise TypeError(f"func must return a DataArray, found {type(result).__name__}")
        results[node.path] = with_ome(result, array.attrs.get("ome")).to_dataset(name=name)
    return _rebuilt(tree, results)


def _rebuilt(tree: xr.DataTree, changed: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return a tree of its own with the Datasets of some nodes changed."""
    nodes = {}
    for node in tree.subtree:
        dataset = changed.get(node.path)
        if dataset is None:
            dataset = node.to_dataset(inherit=False)
        else:
            dataset = dataset.assign_attrs({**node.attrs, **dataset.attrs})
            dataset.encoding = node.encoding
        nodes[node.path.removeprefix(tree.path.rstrip("/")) or "/"] = dataset
    return xr.DataTree.from_dict(nodes, name=tree.name)


def sel(obj: ObjT, indexers: Mapping[str, Any], *, which: object = None) -> Any:
    """Return what lies in a region or at a position, in physical units.

    Parameters
    ----------
    obj
        A tree, a Dataset or an array.
    indexers
        By axis: a position (the pixel that holds it; the axis goes) or a slice (the pixels it
        touches), as numbers in the axis's unit, quantities or text (``"10 µm"``); on a channel
        axis a name, an index, or a list of them.
    which
        A level (number or pixel size) to return alone, as an array.

    Returns
    -------
    Same type as ``obj``; a DataArray where a level is asked for. In a tree every level, and
    every level of the labels, covers the same region.

    Raises
    ------
    SelectionError
        If an axis, channel, position or region is not in the image.
    UnitError
        If a value cannot be understood or converted.
    """
    if which is not None:
        arrays = levels(obj)
        return sel(arrays[which_level(arrays, which)], indexers)
    check_axes(levels(obj)[0], indexers)
    if isinstance(obj, xr.DataTree):
        return _sel_tree(obj, indexers)
    return obj.isel(positions(levels(obj)[0], indexers))


def _sel_tree(tree: xr.DataTree, indexers: Mapping[str, Any]) -> xr.DataTree:
    own = {node.path for node, _ in level_nodes(tree)}
    finest = levels(tree)[0]
    changed = {}
    for node in tree.subtree:
        name = next((name for name in VARIABLES if name in node.data_vars), None)
        if name is not None:
            dataset = node.to_dataset(inherit=False)
            array = dataset[name]
            own_node = node.path in own
            where = (
                positions(array, indexers) if own_node else label_positions(array, indexers, finest)
            )
            changed[node.path] = dataset.isel(where)
    return _rebuilt(tree, changed)


def crop(obj: ObjT, regions: Mapping[str, Any]) -> ObjT:
    """Return a region with all its axes: `sel` that takes slices only.

    Raises
    ------
    SelectionError
        If a region is no slice, or not in the image.
    """
    for dim, region in regions.items():
        if not isinstance(region, slice):
            raise SelectionError(
                f"{dim}: expected a slice, found {region!r}; to take one position use sel()"
            )
    cropped: ObjT = sel(obj, regions)
    return cropped


def check_axes(array: xr.DataArray, indexers: Mapping[str, Any]) -> None:
    """Raise a SelectionError if an axis is asked for that the array does not have."""
    unknown = [dim for dim in indexers if dim not in array.dims]
    if unknown:
        found, known = ", ".join(map(repr, unknown)), ", ".join(map(str, array.dims))
        raise SelectionError(f"there is no axis {found}; the axes are {known}")


def label_positions(
    array: xr.DataArray, indexers: Mapping[str, Any], like: xr.DataArray
) -> dict[str, Any]:
    """Return what to take of a label image where an image is selected, by index.

    Axes that the labels do not have are left out; one of length one (the specification allows
    it) covers all of the image's. Plain numbers are in the units of the image, ``like``.
    """
    shared = {dim: value for dim, value in indexers.items() if dim in array.dims}
    single = {dim for dim in shared if array.sizes[dim] == 1}
    kept = {
        dim: _with_unit(value, like[dim], array[dim])
        for dim, value in shared.items()
        if dim not in single
    }
    dropped = {dim: 0 for dim in single if not isinstance(shared[dim], slice)}
    return positions(array, kept) | dropped


def _with_unit(value: Any, stated: xr.DataArray, wanted: xr.DataArray) -> Any:
    """Return positions on one axis as another one takes them, whose unit may differ."""
    unit = geometry.unit(stated)
    if unit == geometry.unit(wanted) or unit is None or geometry.unit(wanted) is None:
        return value
    if isinstance(value, slice):
        start, stop = (_with_unit(bound, stated, wanted) for bound in (value.start, value.stop))
        return slice(start, stop, value.step)
    return None if value is None else units.quantity(geometry.position(value, stated), unit)


def positions(array: xr.DataArray, indexers: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to take along each axis that the array has, by index."""
    types = {axis.name: axis.type for axis in axes(array)}
    return {
        dim: _channel_positions(array, dim, value)
        if types[dim] == "channel"
        else _axis_positions(array[dim], value)
        for dim, value in indexers.items()
        if dim in array.dims
    }


def _axis_positions(coordinate: xr.DataArray, value: Any) -> int | slice:
    if not isinstance(value, slice):
        return geometry.nearest(coordinate, geometry.position(value, coordinate))
    if value.step is not None:
        raise SelectionError(
            f"{coordinate.name}: a region has no step, found {value!r}; use isel, or another level"
        )
    start, stop = (
        None if bound is None else geometry.position(bound, coordinate)
        for bound in (value.start, value.stop)
    )
    return geometry.covering(coordinate, start, stop)


def _channel_positions(array: xr.DataArray, dim: str, value: Any) -> Any:
    if isinstance(value, slice):
        return value
    if not isinstance(value, str) and isinstance(value, Iterable):
        return [_channel_position(array, dim, each) for each in value]
    return _channel_position(array, dim, value)


def _channel_position(array: xr.DataArray, dim: str, value: Any) -> int:
    names = [str(name) for name in array[dim].values]
    if isinstance(value, int | np.integer) and -len(names) <= value < len(names):
        return int(value)
    if str(value) in names:
        return names.index(str(value))
    raise SelectionError(f"there is no channel {value!r}; the channels are {', '.join(names)}")


def quantify(obj: ObjT) -> ObjT:
    """Return the object with pint quantities as coordinates, through pint-xarray.

    Only coordinates get units, so that no pixel is read; the unit of the pixel values, where
    there is one, is the caller's to attach.

    Raises
    ------
    MissingDependencyError
        If pint-xarray is not installed.
    """
    try:
        import pint_xarray  # noqa: F401  # registers the accessor
    except ImportError as error:
        raise MissingDependencyError("pint-xarray", "pint", "quantify()") from error
    if isinstance(obj, xr.DataTree):
        return map_levels(obj, quantify)
    known = {axis.name: axis.unit for axis in axes(obj) if axis.unit and axis.name in obj.coords}
    bare = xr.Dataset(coords={name: obj.coords[name].drop_attrs() for name in known})
    quantified = bare.pint.quantify(known)
    for name, unit in known.items():
        attrs = {key: value for key, value in obj.coords[name].attrs.items() if key != "units"}
        if "pixel_size" in attrs:
            attrs["pixel_size"] = units.quantity(attrs["pixel_size"], unit)
        quantified[name].attrs.update(attrs)
    return obj.assign_coords(quantified.coords)
