"""Regions and positions in physical units, on one array and on every level of a tree alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ngff_xarray import geometry, units
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import axes, label_nodes, level_nodes, levels
from ngff_xarray.ops import rebuilt, which_level

ObjT = TypeVar("ObjT", xr.DataArray, xr.Dataset, xr.DataTree)


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

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> tree = xr.open_datatree(sample("cell"))
    >>> part = sel(tree, {"x": slice("35 µm", "55 µm"), "c": "phase"})
    >>> part["0/image"].sizes["x"], part["1/image"].sizes["x"]
    (188, 95)
    """
    if which is not None:
        arrays = levels(obj)
        number = which_level(arrays, which)
        return arrays[number].isel(positions_of_levels(arrays, indexers)[number])
    if isinstance(obj, xr.DataTree):
        return _sel_tree(obj, indexers)
    return obj.isel(positions(levels(obj)[0], indexers))


def _sel_tree(tree: xr.DataTree, indexers: Mapping[str, Any]) -> xr.DataTree:
    arrays = levels(tree)
    chosen = _chosen(tree, positions_of_levels(arrays, indexers))
    for node in label_nodes(tree):
        try:
            where = positions_of_labels(levels(node), indexers, arrays[0])
        except SelectionError as error:
            raise SelectionError(f"label image {node.path}: {error}") from error
        chosen |= _chosen(node, where)
    return rebuilt(tree, chosen)


def _chosen(tree: xr.DataTree, where: Sequence[Mapping[str, Any]]) -> dict[str, xr.Dataset]:
    nodes = [node for node, _ in level_nodes(tree)]
    return {
        node.path: node.to_dataset(inherit=False).isel(level)
        for node, level in zip(nodes, where, strict=True)
    }


def crop(obj: ObjT, regions: Mapping[str, Any]) -> ObjT:
    """Return a region with all its axes: `sel` that takes slices only.

    Parameters
    ----------
    obj
        A tree, a Dataset or an array.
    regions
        Slices by axis, as `sel` takes them.

    Raises
    ------
    SelectionError
        If a region is no slice, or not in the image.

    Examples
    --------
    >>> image = xr.DataArray([[0, 1, 2]], dims=("y", "x"), coords={"x": [0.0, 0.5, 1.0]})
    >>> crop(image, {"x": slice(0.4, 9)}).values
    array([[1, 2]])
    """
    for dim, region in regions.items():
        if not isinstance(region, slice):
            raise SelectionError(
                f"{dim}: expected a slice, found {region!r}; to take one position use sel()"
            )
    cropped: ObjT = sel(obj, regions)
    return cropped


# ---- where, by index -----------------------------------------------------------------------


def positions_of_levels(
    arrays: Sequence[xr.DataArray], indexers: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what to take of every level, by axis and index.

    The finest level says what the image holds. Coarser ones may end a little earlier (half a
    block was left out when they were made): there the pixel nearest to the region stands for it.
    """
    finest = positions(arrays[0], indexers)
    return [finest, *(_coarser(array, indexers, finest) for array in arrays[1:])]


def _coarser(
    array: xr.DataArray, indexers: Mapping[str, Any], finest: Mapping[str, Any]
) -> dict[str, Any]:
    empty = {dim: where for dim, where in finest.items() if where == slice(0, 0)}
    rest = {dim: value for dim, value in indexers.items() if dim in finest and dim not in empty}
    return positions(array, rest, clip=True) | empty


def positions_of_labels(
    arrays: Sequence[xr.DataArray], indexers: Mapping[str, Any], like: xr.DataArray
) -> list[dict[str, Any]]:
    """Return what to take of every level of a label image where its image is selected.

    Axes that the labels do not have are left out; one of length one (the specification allows
    it) covers all of the image's. Plain numbers are in the units of the image, ``like``. A
    region that the labels do not reach is empty.

    Raises
    ------
    SelectionError
        If a position (not a region) lies outside the labels.
    """
    finest = arrays[0]
    shared = {dim: value for dim, value in indexers.items() if dim in finest.dims}
    single = {dim for dim in shared if finest.sizes[dim] == 1}
    dropped = {dim: 0 for dim in single if not isinstance(shared[dim], slice)}
    rest = {
        dim: _with_unit(value, like[dim], finest[dim])
        for dim, value in shared.items()
        if dim not in single
    }
    beyond = {dim: slice(0, 0) for dim, value in rest.items() if _misses(finest[dim], value)}
    rest = {dim: value for dim, value in rest.items() if dim not in beyond}
    return [where | beyond | dropped for where in positions_of_levels(arrays, rest)]


def _misses(coordinate: xr.DataArray, value: Any) -> bool:
    """Tell whether a region does not reach the pixels of an axis."""
    if not isinstance(value, slice) or not coordinate.size or not geometry.is_numeric(coordinate):
        return False
    start, stop = _bounds(coordinate, value)
    bounds = geometry.edges(coordinate)
    low, high = float(np.min(bounds)), float(np.max(bounds))
    ends = (low if start is None else start, high if stop is None else stop)
    return bool(max(ends) <= low or min(ends) >= high)


def _with_unit(value: Any, stated: xr.DataArray, wanted: xr.DataArray) -> Any:
    """Return positions on one axis as another one takes them, whose unit may differ."""
    unit = geometry.unit(stated)
    if unit == geometry.unit(wanted) or unit is None or geometry.unit(wanted) is None:
        return value
    if isinstance(value, slice):
        start, stop = (_with_unit(bound, stated, wanted) for bound in (value.start, value.stop))
        return slice(start, stop, value.step)
    return None if value is None else units.quantity(geometry.position(value, stated), unit)


def positions(
    array: xr.DataArray, indexers: Mapping[str, Any], *, clip: bool = False
) -> dict[str, Any]:
    """Return what to take along each axis, by index.

    Parameters
    ----------
    array
        An image.
    indexers
        As `sel` takes them.
    clip
        Take the nearest pixel for what lies outside, instead of raising.

    Raises
    ------
    SelectionError
        If an axis, channel, position or region is not in the image.
    UnitError
        If a value cannot be understood or converted.
    """
    unknown = [dim for dim in indexers if dim not in array.dims]
    if unknown:
        found, known = ", ".join(map(repr, unknown)), ", ".join(map(str, array.dims))
        raise SelectionError(f"there is no axis {found}; the axes are {known}")
    named = {axis.name for axis in axes(array) if axis.type == "channel"}
    return {
        dim: _by_name(array[dim], value)
        if dim in named or not geometry.is_numeric(array[dim])
        else _by_place(array[dim], value, clip)
        for dim, value in indexers.items()
    }


def _by_place(coordinate: xr.DataArray, value: Any, clip: bool) -> int | slice:
    if not isinstance(value, slice):
        place = geometry.position(value, coordinate)
        return geometry.nearest(coordinate, geometry.clipped(coordinate, place) if clip else place)
    if value.step is not None:
        raise SelectionError(
            f"{coordinate.name}: a region has no step, found {value!r}; use isel, or another level"
        )
    start, stop = _bounds(coordinate, value)
    if clip:
        start, stop = (
            bound if bound is None else geometry.clipped(coordinate, bound)
            for bound in (start, stop)
        )
    return geometry.covering(coordinate, start, stop)


def _bounds(coordinate: xr.DataArray, region: slice) -> tuple[float | None, float | None]:
    start, stop = (
        None if bound is None else geometry.position(bound, coordinate)
        for bound in (region.start, region.stop)
    )
    return start, stop


def _by_name(coordinate: xr.DataArray, value: Any) -> Any:
    """Return the index of a name, or those of several; a slice of names holds its end."""
    if isinstance(value, slice):
        return _slice_of_names(coordinate, value)
    if isinstance(value, np.ndarray | xr.DataArray):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_index(coordinate, each) for each in value]
    return _index(coordinate, value)


def _slice_of_names(coordinate: xr.DataArray, value: slice) -> slice:
    if isinstance(value.start, str) or isinstance(value.stop, str):
        start = None if value.start is None else _index(coordinate, value.start)
        stop = None if value.stop is None else _index(coordinate, value.stop) + 1
        return slice(start, stop, value.step)
    return value


def _index(coordinate: xr.DataArray, value: Any) -> int:
    names = [str(name) for name in coordinate.values.tolist()]
    is_index = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if is_index and -len(names) <= value < len(names):
        return int(value)
    if isinstance(value, str) and value in names:
        return names.index(value)
    what = "channel" if coordinate.attrs.get("axis_type", "channel") == "channel" else "entry"
    listed = ", ".join(names[:32]) + (", …" if len(names) > 32 else "")
    raise SelectionError(
        f"{coordinate.name}: there is no {what} {value!r}; the {what}s are {listed}"
    )
