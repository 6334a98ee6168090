"""Pixels on a regular grid in any system, computed block by block where they are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import image
from ngff_xarray.errors import NotOmeError, SelectionError, TransformationError
from ngff_xarray.image import Obj, levels
from ngff_xarray.ops import which_level
from ngff_xarray.systems import Graph
from ngff_xarray.transforms import Transformation
from ngff_xarray.world.blocks import Method, _Plan
from ngff_xarray.world.connections import _is_scene, _own_systems, current_system, graph
from ngff_xarray.world.grids import _Asked, _grids_of, _wanted_sizes
from ngff_xarray.world.placing import _layout, _plain, _Said
from ngff_xarray.world.restoring import _SYSTEMS, restored
from ngff_xarray.world.ways import _present, _restricted, _Way, _way


def resample(
    obj: Obj,
    pixel_size: object = None,
    *,
    system: str | None = None,
    like: Obj | None = None,
    method: Method | None = None,
    fill: float | None = None,
    level: object = None,
) -> xr.DataArray:
    """Return an image on a regular grid, in any of its coordinate systems.

    Nothing is computed until it is read, and then block by block: of the source no more is read
    than the box that a block comes from. Axes that stay as they are pass through: channels, and
    those that neither mix with others nor are asked for in another pixel size.

    Parameters
    ----------
    obj
        An image as a tree, a Dataset or an array.
    pixel_size
        A length (``"1 µm"``, a quantity, or a number in the axis's unit) for all axes of space
        that have more than one pixel, or a mapping of axis names to lengths. Axes that mix and
        are not given get the finest pixel size among those they come from.
    system
        The name of a system of `coordinate_systems`; the one that the image is in, unless given.
    like
        An image in that system already, whose grid to take: its coordinates, exactly. An axis on
        which it stands at one position gives a plane there.
    method
        ``"linear"``, or ``"nearest"`` which makes no new values: the default for label images.
        Points up to half a pixel outside have the value of the edge.
    fill
        The value outside; NaN unless given, or 0 where pixels are integers.
    level
        The level to take, by number or pixel size: otherwise the coarsest whose pixels are no
        larger than those asked for.

    Returns
    -------
    xarray.DataArray
        With ordinary coordinates, of the type of the image's pixels (rounded half to even). It
        covers the image, unless ``like`` says otherwise. Dimensions stand where those stood that
        they come from.

    Raises
    ------
    TransformationError
        If nothing leads to the system and back, or a plane of the image would become a volume.
    SelectionError
        If an axis, a level, a method or a fill value does not fit.
    UnitError
        If a pixel size is no length.

    Examples
    --------
    >>> image = xr.DataArray([[0.0, 1.0, 2.0, 3.0]], dims=("y", "x"))
    >>> resample(image, {"x": 2}).values
    array([[0.5, 2.5]])
    >>> resample(image, {"x": 2})["x"].values
    array([0.5, 2.5])
    """
    if _is_scene(obj):
        raise NotOmeError("a scene holds several images: resample one of to_system(scene, name)")
    before = restored(obj)
    whole = graph(before)
    arrays = levels(before)
    source = _own_systems(before)[current_system(before)]
    name = current_system(obj) if system is None else system
    way = _present(_way(source, name, whole.path(source.name, name), whole), arrays[0])
    sizes = _wanted_sizes(pixel_size, way, arrays[0])
    grids = {} if like is None else _grids_of(levels(like)[0], way)
    asked = _Asked(way, sizes, grids)
    number = which_level(arrays, level) if level is not None else asked.level(arrays)
    extent = arrays[number] if level is not None else arrays[0]
    array = _plain(arrays[number])
    made = _method(method, obj, array.dtype), _fill(fill, array.dtype)
    layout = _layout(way, array)
    plan = _Plan(way, array, layout, asked.grids_over(extent), _back(way, whole, name))
    return plan.result(*made, _said_of(before, whole, way, name, plan))


def _method(method: str | None, obj: Obj, dtype: np.dtype[Any]) -> Method:
    if method is None:
        return "nearest" if image.kind(obj) == "labels" or dtype.kind not in "iufc" else "linear"
    if method not in ("linear", "nearest"):
        raise SelectionError(f"method: expected 'linear' or 'nearest', found {method!r}")
    return "linear" if method == "linear" else "nearest"


def _fill(fill: float | None, dtype: np.dtype[Any]) -> Any:
    if fill is None:
        return np.array(np.nan if dtype.kind in "fc" else 0).astype(dtype)[()]
    with np.errstate(invalid="ignore", over="ignore"):
        try:
            value = np.asarray(fill).astype(dtype)[()]
        except (TypeError, ValueError) as error:
            raise SelectionError(f"fill: expected a number, found {fill!r}") from error
    if dtype.kind in "iub" and value != fill:
        raise SelectionError(f"fill: pixels of type {dtype} cannot be {fill!r}")
    return value


def _back(way: _Way, whole: Graph, name: str) -> Transformation | None:
    """Return what leads back to where the image is, or None where that has to be solved.

    A stored inverse counts more than one that is computed.
    """
    full = whole.systems[name], whole.systems.get(way.source.name)
    if full[0] is None or full[1] is None:
        return None
    try:
        path = whole.path(name, way.source.name)
        there = _way(full[0], way.source.name, path, whole)
        names = {axis.name for axis in way.target.axes}
        kept = [k for k, axis in enumerate(full[0].axes) if axis.name in names]
        there = _restricted(there, kept)
    except TransformationError:
        return None
    same = [axis.name for axis in there.target.axes] == [axis.name for axis in way.source.axes]
    return there.function.transformation if same else None


def _said_of(before: Obj, whole: Graph, way: _Way, name: str, plan: _Plan) -> dict[str, Any] | None:
    """Return the metadata of the result; None leaves them as they are."""
    said = _Said(image.ome(before), whole, "")
    if way.is_identity and said.local(way, name) == way.source.name:
        return None
    if plan.is_whole:
        return said.after(way, name, replace(plan.layout, is_ordinary=True))
    return {key: value for key, value in said.ome.items() if key not in _SYSTEMS}
